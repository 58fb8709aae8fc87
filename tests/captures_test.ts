/** What may be asked of a run or a generation, and what the views and tables of a finished one say. */
import assert from "node:assert/strict";
import { scale } from "../inspect/interventions.ts";
import { randomModel } from "./support/random_model.ts";

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
