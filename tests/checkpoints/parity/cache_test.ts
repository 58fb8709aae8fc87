/** Checkpoint 3 over passes: what a slot holds is what its position wrote, in every later pass too. */
import assert from "node:assert/strict";
import { cacheBefore, changedSlot } from "../../../checkpoints/parity/cache.ts";
import { checkWritten } from "../../../checkpoints/parity/checks.ts";
import { compareEngines, type ParityResult } from "../../../checkpoints/parity/comparison.ts";
import type { Reference, ReferencePass } from "../../../checkpoints/references/reference.ts";
import { load } from "../../../inspect/run/loading.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import type { EngineRun } from "../../support/engines/faulty_engine.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const { kvHeads, headWidth } = random.engine.shape;
const WIDTH = kvHeads * headWidth;

/** A run as a reference. */
function referenceOf(run: EngineRun, shown: RegExp): Reference {
  const passes = run.passes.map(({ tensors, ...pass }): ReferencePass => ({
    ...pass,
    tensors: new Map([...tensors].filter(([name]) => shown.test(name))),
  }));
  return {
    provenance: { name: "foreign", version: "", device: "", weights: "", rope: "exact" },
    run: ({ steps }) =>
      Promise.resolve({
        passes: passes.filter(({ step }) => steps.includes(step)),
        ids: run.ids,
        margins: run.ids.map(() => NaN),
      }),
    close: () => Promise.resolve(),
  };
}

async function compared(
  mistakes: Mistakes,
  steps: readonly number[],
  shown = /./,
  ids = random.ids,
): Promise<ParityResult> {
  const generate = Math.max(...steps);
  const run = random.engine.run(ids, generate, { mistakes, where: 1 });
  const loaded = await load(random.path, { backend: "cpu" });
  try {
    const each = { name: "prompt", ids, forced: run.ids.slice(0, generate) };
    return await compareEngines(
      loaded.engine,
      referenceOf(run, shown),
      [{ ...each, generate, steps, oracle: false }],
      { localOnly: true },
    );
  } finally {
    loaded.release();
  }
}

/** Changes a cache while decoding; `start` is the slot of the newest position. */
function decoding(
  point: "cache_k" | "cache_v",
  change: (cache: Float32Array, start: number) => void,
): Mistakes {
  return {
    made(each, numbers, { start }) {
      if (each !== point || start === 0) return numbers;
      const changed = numbers.slice();
      change(changed, start);
      return changed;
    },
  };
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
    checkWritten("prompt", { passes, ids: [], margins: [] })[0];
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
  assert.deepEqual([...cacheBefore(later, [prompt, later]).get("blk.0.cache_k")!], [1, 2, 3]);
});
