/** What may be asked of a run or a generation, and what the views and tables of a finished one say. */
import assert from "node:assert/strict";
import { scale } from "../inspect/interventions.ts";
import { DisposedError, loadModel } from "../inspect/model.ts";
import { randomModel } from "./support/random_model.ts";
import { tableRows } from "./support/table_rows.ts";

const MODEL = {
  layers: 3,
  width: 32,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 48,
  vocab: 64,
  seed: 7,
};
const IDS = [5, 17, 42, 8, 8, 63, 0, 29, 17];

Deno.test("keys that a query does not see are hidden, whatever edits made of them", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], {
    capture: ["blk.1.{attn_scores,attn_probs}"],
    edit: [
      ["blk.1.attn_scores", scale(0.5)],
      ["blk.1.attn_probs", (view) => view.add(1)],
    ],
  });
  for (const [point, hidden] of [["attn_scores", -Infinity], ["attn_probs", 0]] as const) {
    const dense = run.tensor(`blk.1.${point}`);
    for (const query of IDS.keys()) {
      const row = dense.at({ head: 2, query }).toFloat32Array();
      row.forEach((value, key) => {
        if (key > query) assert.equal(value, hidden, `${point} ${query} ${key}`);
        else assert.ok(Number.isFinite(value) && value !== 0);
      });
    }
  }
});

Deno.test("points, tensors and config are tables, until the model is disposed", async () => {
  const random = await randomModel(MODEL);
  const { model } = random;
  const table = await model.points();
  const rows = tableRows(table);
  assert.deepEqual(rows.map(({ point }) => point), model.pointList.map(({ name }) => name));
  const out = rows.find(({ point }) => point === "blk.1.out")!;
  assert.deepEqual([out.shape, out.axes, out.bytes], ['["T",32]', "position × feature", 128]);
  assert.match(out.aliases, /blocks\.1\.hook_resid_post/);
  random[Symbol.dispose]();
  for (const ask of [() => model.points(), () => model.tensorTable(), () => model.configTable()]) {
    await assert.rejects(ask(), DisposedError);
  }
});

Deno.test("tokenId means the text to the letter, and takes what top() shows", async () => {
  using model = await loadModel("tiny", { backend: "cpu" });
  const { tokenizer } = model;
  assert.equal(tokenizer.piece(model.tokenId(" time")), " time");
  assert.throws(() => model.tokenId("time"), /not a token by itself: encoding makes it " time"/);
  assert.equal(model.tokenId("\n"), tokenizer.id("<0x0A>"));
  assert.equal(model.tokenId("▁time"), model.tokenId(" time"));
  for (let id = 0; id < tokenizer.size; id++) {
    const text = tokenizer.piece(id);
    const found = model.tokenId(text);
    // Bytes that are tokens of their own too are those tokens.
    assert.equal(tokenizer.piece(found), text);
    if (found !== id) assert.match(tokenizer.piece(id), /^[\x20-\x7e]$/);
  }
});
