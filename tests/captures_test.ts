/** What may be asked of a run or a generation, and what the views and tables of a finished one say. */
import assert from "node:assert/strict";
import { scale } from "../inspect/interventions.ts";
import { DisposedError, loadModel } from "../inspect/model.ts";
import { SeveralPointsError } from "../inspect/run.ts";
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

Deno.test("a pattern that fits several captured points is one for tables()", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], { capture: ["blk.1-2.out", "blk.1.q"] });
  for (const show of [() => run.tensor("blk.*.out"), () => run.table("blk.*.out")]) {
    assert.throws(show, (error: unknown) => {
      assert.ok(error instanceof SeveralPointsError);
      assert.deepEqual(error.points, ["blk.1.out", "blk.2.out"]);
      assert.match(error.message, /tables\("blk\.\*\.out"\)/);
      return true;
    });
  }
  assert.equal(run.tensor("blk.0-1.out").name, "blk.1.out");
  assert.equal(run.table("blk.*.q").metadata.get("point"), "blk.1.q");
  assert.throws(() => run.tensor("blk.*.k"), /capture: \["blk\.\*\.k"\]/);
  assert.throws(() => run.tables("blk.1.{q,out}"), /only layers of one kind/);
});

Deno.test("layers stack under the names that were asked for", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS], {
    capture: ["token_embd", "blk.*.out", "output_norm", "blk.*.q"],
  });
  for (const pattern of ["blk.*.inp", "blocks.*.hook_resid_pre", "model.layers.*.input"]) {
    const table = run.tables(pattern);
    const rows = tableRows(table);
    assert.deepEqual([...new Set(rows.map(({ layer }) => layer))], [0, 1, 2]);
    assert.equal(table.metadata.get("alias"), pattern);
    assert.equal(table.metadata.get("point"), "token_embd, blk.*.out");
    assert.equal(table.metadata.get("layers"), "[0,1,2]");
    for (const { layer, position, value } of rows) {
      const point = layer === 0 ? "token_embd" : `blk.${layer - 1}.out`;
      assert.deepEqual(value, run.tensor(point).at({ position }).toFloat32Array());
    }
  }
  assert.equal(run.tables("hidden_states[*]").numRows, 4 * IDS.length);
  const one = run.table("blk.2.inp");
  assert.deepEqual(
    ["alias", "point", "layers"].map((key) => one.metadata.get(key)),
    ["blk.2.inp", "blk.1.out", "[2]"],
  );
  assert.equal(tableRows(one)[0].layer, 2);
  assert.match(`${one.preview().facts}`, /as blk\.2\.inp/);
  assert.equal(run.table("blk.1.out").metadata.has("alias"), false);
  assert.equal(run.table("blocks.1.attn.hook_q").metadata.get("alias"), "blocks.1.attn.hook_q");
  assert.equal(run.tensor("blk.2.inp").name, "blk.2.inp");
});

Deno.test("cache views know their slots", async () => {
  using random = await randomModel(MODEL);
  const all = await random.model.run([IDS], { capture: ["blk.1.cache_k"] });
  const some = await random.model.run([IDS], { capture: ["blk.1.cache_k"], positions: [3, 7] });
  assert.deepEqual(
    some.tensor("blk.1.cache_k").at({ slot: 7 }).toArray(),
    all.tensor("blk.1.cache_k").at({ slot: 7 }).toArray(),
  );
});

Deno.test("negative sequences count from the last, everywhere", async () => {
  using random = await randomModel(MODEL);
  const run = await random.model.run([IDS, IDS.slice(2)], { capture: ["blk.0.out"] });
  const last = { sequence: -1 };
  assert.deepEqual(
    run.tensor("blk.0.out", last).toArray(),
    run.tensor("blk.0.out", { sequence: 1 }).toArray(),
  );
  assert.equal(run.pieces("blk.0.out", -1).length, 1);
  assert.deepEqual(run.tokens(-1), run.tokens(1));
  assert.deepEqual(run.top(3, last), run.top(3, { sequence: 1 }));
  assert.deepEqual(tableRows(run.topTable(1, last)).map(({ sequence }) => sequence), [1]);
  for (const sequence of [2, -3, 0.5]) {
    assert.throws(() => run.tensor("blk.0.out", { sequence }), /the run has 2/);
    assert.throws(() => run.pieces("blk.0.out", sequence), /the run has 2/);
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
