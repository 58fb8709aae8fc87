/** Checkpoint 3 over passes: what a slot holds is what its position wrote, in every later pass too. */
import assert from "node:assert/strict";
import { cacheBefore, changedSlot } from "../../../checkpoints/parity/cache.ts";
import { checkWritten } from "../../../checkpoints/parity/checks.ts";
import type { ParityResult } from "../../../checkpoints/parity/comparison.ts";
import type { Plan, Value } from "../../../engine/plan/plan.ts";
import type { ReferencePass } from "../../../checkpoints/references/reference.ts";
import { comparedRun } from "../../support/engines/compared_run.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { madeDecoding } from "../../support/faults/engines/mistakes.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const { kvHeads, headWidth } = random.engine.shape;
const WIDTH = kvHeads * headWidth;

async function compared(
  mistakes: Mistakes,
  steps: readonly number[],
  shown = /./,
  ids = random.ids,
): Promise<ParityResult> {
  const run = random.engine.run(ids, Math.max(...steps), { mistakes, where: 1 });
  return await comparedRun(random.path, run, { steps, shown });
}

/** Changes a cache while decoding; `start` is the slot of the newest position. */
function decoding(
  point: "cache_k" | "cache_v",
  change: (cache: Float32Array, start: number) => void,
): Mistakes {
  return madeDecoding(point, (numbers, { start }) => {
    const changed = numbers.slice();
    change(changed, start);
    return changed;
  });
}

const T = random.ids.length;
/** The newest slot's numbers go into the slot before it too. */
const overwritten = (cache: Float32Array, start: number) =>
  cache.copyWithin((start - 1) * WIDTH, start * WIDTH, (start + 1) * WIDTH);

Deno.test("decoding that overwrites the newest slot fails at checkpoint 3, at that step and slot", async () => {
  for (const point of ["cache_k", "cache_v"] as const) {
    const result = await compared(decoding(point, overwritten), [0, 1, 2]);
    const { first, checkpoints } = result;
    assert.equal(first?.point, `blk.1.${point}`);
    assert.equal(first.step, 1);
    assert.equal(first.local?.place.position, T - 1);
    assert.equal(checkpoints.find(({ checkpoint }) => checkpoint.id === "3")?.status, "fail");
  }
});

Deno.test("it does too where steps between are not shown, and where the caches before are not", async () => {
  const moved = decoding("cache_k", (cache, start) => {
    if (start === T + 3) cache.copyWithin(3 * WIDTH, 0, WIDTH);
  });
  for (const shown of [/./, /cache_k|k_rope/]) {
    const { first } = await compared(moved, [0, 1, 4], shown);
    assert.equal(first?.point, "blk.1.cache_k");
    assert.equal(first.step, 4);
    assert.equal(first.local?.place.position, 3);
  }
  const { first } = await compared(moved, [0, 1, 2, 3, 4], /^(?!.*\.cache_k$)/);
  assert.equal(first?.point, "blk.1.attn_scores", "what was written tells what a cache held");
  assert.equal(first.step, 4);
});

Deno.test("a right engine's caches pass: all steps, some steps, without caches, a prompt of one token", async () => {
  for (const shown of [/./, /^(?!.*cache_)/, /cache_|\.out$/, /\.(k_rope|v|attn_scores)$/]) {
    for (const steps of [[0, 1, 2], [0, 3]]) {
      for (const ids of [random.ids.slice(0, 20), [1]]) {
        const result = await compared({}, steps, shown, ids);
        assert.ok(result.passed, `${shown} ${steps} ${ids} ${result.first?.point}`);
      }
    }
  }
});

/** Keys are stored after RoPE. */
const value = (name: string): Value => ({ name, shape: ["S", 1, 1], dtype: "f32", kind: "cache" });
const plan: Plan = [{
  operation: "store",
  inputs: [value("blk.0.k_rope")],
  outputs: [value("blk.0.cache_k")],
  ...{ weights: [], constants: { columns: 1 } },
}];

Deno.test("our own passes: a slot that changes after it was written fails the check", () => {
  const pass = (step: number, start: number, count: number, slots: readonly number[]) => ({
    step,
    start,
    ids: new Array<number>(count).fill(1),
    tensors: new Map([
      ["blk.0.cache_k", { shape: [slots.length, 1, 1], data: Float32Array.from(slots) }],
      ["blk.0.k_rope", {
        shape: [count, 1, 1],
        data: Float32Array.from(slots.slice(start, start + count)),
      }],
    ]),
  });
  const prompt = pass(0, 0, 3, [1, 2, 3]);
  const checked = (passes: readonly ReferencePass[]) =>
    checkWritten("prompt", { passes, ids: [], margins: [] }, plan)[0];
  assert.ok(checked([prompt, pass(1, 3, 1, [1, 2, 3, 4])]).passed);
  const later = pass(1, 3, 1, [1, 2, 4, 4]);
  assert.deepEqual(changedSlot(later, [prompt, later]), {
    point: "blk.0.cache_k",
    slot: 2,
    since: 0,
    step: 1,
  });
  const { passed, what } = checked([prompt, later]);
  assert.ok(!passed);
  assert.match(what, /blk\.0\.cache_k, slot 2, step 1: it changed since step 0$/);
  assert.deepEqual([...cacheBefore(later, [prompt, later], plan).get("blk.0.cache_k")!], [1, 2, 3]);
});
