/** What right engines show of attention and its cache, and how: none of it is anybody's fault. */
import assert from "node:assert/strict";
import { isAttention } from "../../../checkpoints/parity/compare.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { comparedRun, type ShownRun } from "../../support/engines/compared_run.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);

/** Scores or probabilities with something else at keys that a query does not see. */
function hidden(kinds: RegExp, at: (i: number) => number): NonNullable<ShownRun["as"]> {
  return (point, { shape, data }, { start }) => {
    if (!isAttention(point) || !kinds.test(point)) return data;
    const [, rows, keys] = shape;
    return data.map((value, i) => i % keys > start + Math.floor(i / keys) % rows ? at(i) : value);
  };
}

const draw = new Random(5);
const SHOWN: Readonly<Record<string, ShownRun>> = {
  "as it is": {},
  "−∞ at hidden keys": { as: hidden(/scores/, () => -Infinity) },
  "a floor at hidden keys": { as: hidden(/scores/, () => -65504) },
  "no numbers at hidden keys": { as: hidden(/scores|probs/, () => NaN) },
  "garbage at hidden keys": { as: hidden(/scores|probs/, () => draw.normal(100)) },
  "scores and what comes of them": { shown: /\.(attn_scores|head_out|attn_out|out)$/ },
  "probabilities alone": { shown: /\.attn_probs$/ },
  "no caches, but what goes into them": { shown: /^(?!.*cache_)/ },
  "caches alone": { shown: /cache_/ },
  "some steps": { steps: [0, 3] },
};

const MISTAKES: Readonly<Record<string, Mistakes>> = {
  "a window that is longer than the text": {
    sees: ({ query, key }) => key <= query && key > query - 100,
  },
  "a floor as scores are made": { floor: -1e4 },
};

Deno.test("right engines pass, whatever they show and how", async (t) => {
  for (const [name, shown] of Object.entries(SHOWN)) {
    await t.step(name, async () => {
      for (const ids of [random.ids.slice(0, 17), random.ids.slice(0, 1)]) {
        const run = random.engine.run(ids, 3);
        const { passed, first } = await comparedRun(random.path, run, shown);
        assert.ok(passed, `${first?.point}, step ${first?.step}`);
      }
    });
  }
  for (const [name, mistakes] of Object.entries(MISTAKES)) {
    await t.step(name, async () => {
      const run = random.engine.run(random.ids.slice(0, 17), 1, { mistakes, where: "blocks" });
      const { passed, first } = await comparedRun(random.path, run);
      assert.ok(passed, `${first?.point}, step ${first?.step}`);
    });
  }
});
