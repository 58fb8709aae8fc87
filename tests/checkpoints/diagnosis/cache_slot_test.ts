/** The cause of a cache that is wrong: which slot holds what. */
import assert from "node:assert/strict";
import { made } from "../../support/faults/engines/mistakes.ts";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const { kvHeads, headWidth } = random.engine.shape;
const WIDTH = kvHeads * headWidth;
const T = random.ids.length;

/** A change of a cache [slots, WIDTH], in the prompt or in the pass of the token after it. */
function stored(step: 0 | 1, change: (cache: Float32Array) => void, point = "cache_k"): Mistakes {
  return made(point, (numbers, { start }) => {
    if (start !== (step === 0 ? 0 : T)) return numbers;
    const changed = numbers.slice();
    change(changed);
    return changed;
  });
}

const copied = (to: number, from: number) => (cache: Float32Array) =>
  cache.copyWithin(to * WIDTH, from * WIDTH, (from + 1) * WIDTH);
const zeros = (from: number, to: number) => (cache: Float32Array) =>
  cache.fill(0, from * WIDTH, to * WIDTH);

/** The prompt's cache as [head, slot], or read as if it were. */
const exchanged = (rows: number, columns: number) => (cache: Float32Array) => {
  const right = cache.slice();
  for (let place = 0; place < rows * columns; place++) {
    const from = place % rows * columns + Math.floor(place / rows);
    const numbers = right.subarray(from * headWidth, (from + 1) * headWidth);
    cache.set(numbers, place * headWidth);
  }
};

const FAULTS: [string, 0 | 1, (cache: Float32Array) => void, RegExp][] = [
  [
    "the slot before",
    1,
    copied(T - 1, T),
    new RegExp(`^slot ${T - 1} is overwritten by position ${T}$`),
  ],
  ["slot 0 at the wrap", 1, copied(0, T), new RegExp(`^slot 0 is overwritten by position ${T}$`)],
  ["stale", 1, copied(T, T - 1), new RegExp(`^slot ${T} holds position ${T - 1}'s numbers$`)],
  ["not written", 1, zeros(T, T + 1), new RegExp(`^nothing is written into slot ${T}$`)],
  [
    "not written in the prompt",
    0,
    zeros(T - 3, T),
    new RegExp(`^nothing is written into slots ${T - 3} to ${T - 1}$`),
  ],
  ["zero later", 1, zeros(4, 6), /^slots 4 to 5 became zero$/],
  [
    "moved to the left",
    1,
    (cache) => cache.copyWithin(0, WIDTH),
    /^slots are off by -1$/,
  ],
  ["moved to the right", 0, (cache) => cache.copyWithin(2 * WIDTH, 0), /^slots are off by 2$/],
  [
    "noise",
    1,
    (cache) => cache.fill(0.5, 7 * WIDTH, 7 * WIDTH + 3),
    /^slot 7 changed after it was written$/,
  ],
  [
    "exchanged",
    0,
    (cache) => {
      const row = cache.slice(3 * WIDTH, 4 * WIDTH);
      copied(3, 9)(cache);
      cache.set(row, 9 * WIDTH);
    },
    /^slot 3 holds position 9's numbers, slot 9 holds position 3's numbers$/,
  ],
  [
    "head by head",
    0,
    exchanged(T, kvHeads),
    /^numbers stand as \[head, slot\] where \[slot, head\] belongs$/,
  ],
  [
    "read head by head",
    0,
    exchanged(kvHeads, T),
    /^numbers are read as \[head, slot\] where they are \[slot, head\]$/,
  ],
];

for (const [name, step, change, detail] of FAULTS) {
  Deno.test(`cache-slot: ${name}`, async () => {
    for (const point of ["cache_k", "cache_v"]) {
      const run = random.engine.run(random.ids, 1, {
        mistakes: stored(step, change, point),
        where: 1,
      });
      const found = await explained(random, run, `blk.1.${point}`, { step });
      assert.equal(found.cause, "cache-slot", found.detail);
      assert.match(found.detail, detail);
      assert.ok(found.before > 1e-3 && found.after < 1e-6, `${found.after}`);
    }
  });
}

Deno.test("cache-slot: another layer's numbers, the other cache's, keys before RoPE", async () => {
  const right = random.right.passes[0].tensors;
  for (const point of ["blk.2.k_rope", "blk.1.v", "blk.1.k"]) {
    const row = right.get(point)!.data.subarray(5 * WIDTH, 6 * WIDTH);
    const run = random.engine.run(random.ids, 0, {
      mistakes: stored(0, (cache) => cache.set(row, 5 * WIDTH)),
      where: 1,
    });
    // The model's later blocks see the fault: their numbers are told as they would have been.
    const tensors = new Map(run.passes[0].tensors);
    if (point.startsWith("blk.2")) tensors.set(point, right.get(point)!);
    const passes = [{ ...run.passes[0], tensors }];
    const found = await explained(random, { ...run, passes }, "blk.1.cache_k");
    assert.equal(found.cause, "cache-slot", found.detail);
    assert.equal(found.detail, `slot 5 holds numbers of ${point}`);
  }
});

Deno.test("cache-slot: behind a cache that is not shown", async () => {
  const faults: [Mistakes, RegExp][] = [
    [stored(1, zeros(T, T + 1)), /^blk\.1\.cache_k: the newest slot is not written$/],
    [stored(1, copied(T - 1, T)), /^blk\.1\.cache_k: the newest position is written into the slot/],
  ];
  for (const [mistakes, detail] of faults) {
    const run = random.engine.run(random.ids, 1, { mistakes, where: 1 });
    const shown = /\.(k_rope|q_rope|v|attn_scores|head_out)$/;
    const found = await explained(random, run, "blk.1.attn_scores", { shown, step: 1 });
    assert.equal(found.cause, "cache-slot", found.detail);
    assert.match(found.detail, detail);
  }
});

Deno.test("cache-slot: numbers that nobody wrote are no slot's", async () => {
  const run = random.engine.run(random.ids, 0, {
    mistakes: stored(0, (cache) => cache.fill(0.5, 7 * WIDTH, 7 * WIDTH + 3)),
    where: 1,
  });
  const found = await explained(random, run, "blk.1.cache_k");
  assert.equal(found.cause, "unknown", found.detail);
});
