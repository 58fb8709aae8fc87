/** One tensor against another: what is allowed, what counts, and where the worst element is. */
import assert from "node:assert/strict";
import { compareTensors, localAllowance, placeText } from "../../../checkpoints/parity/compare.ts";
import { CAUSES } from "../../../checkpoints/diagnosis/causes.ts";
import { checkpointOf, CHECKPOINTS } from "../../../checkpoints/parity/contract.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { listPoints } from "../../../inspect/points/points.ts";
import { findModel } from "../../../models/mod.ts";

const side = (shape: number[], data: number[]) => ({ shape, data: Float32Array.from(data) });
const exact = { tolerance: 0, relative: 0 };

Deno.test("a difference is measured against its own row's largest magnitude", () => {
  const reference = side([2, 3], [1, 2, 3, 1000, 0, 0]);
  const ours = side([2, 3], [1, 2.00004, 3, 1000, 0.005, 0]);
  const allowance = { tolerance: 1e-5, relative: 1e-5 };
  const difference = compareTensors("blk.2.attn_norm", ours, reference, allowance, 7);
  assert.equal(difference.passed, difference.share <= 1);
  // Row 0 allows 4e-5 and has an error of 4e-5; row 1 allows 0.01 and has 0.005.
  assert.ok(difference.share > 0.99 && difference.share < 1.01, `${difference.share}`);
  assert.deepEqual(difference.place, { layer: 2, position: 7, index: 1 });
  assert.ok(Math.abs(difference.maxError - 0.005) < 1e-6);
  assert.equal(difference.count, 6);
});

Deno.test("attention counts the keys that a query sees and no others", () => {
  // Two heads, two queries at positions 1 and 2, three keys; hidden ones hold nonsense.
  const reference = side([2, 2, 3], [1, 2, 99, 1, 2, 3, 4, 5, NaN, 4, 5, 6]);
  const ours = side([2, 2, 3], [1, 2, -1e30, 1, 2, 3, 4, 5, 0, 4, 5, 6.5]);
  const difference = compareTensors("blk.0.attn_scores", ours, reference, exact, 1);
  assert.equal(difference.count, 10);
  assert.equal(difference.maxError, 0.5);
  assert.equal(placeText(difference.place), "layer 0, head 1, position 2, index 2");
  assert.equal(difference.share, Infinity);
});

Deno.test("a cache's rows are slots, whatever the pass began with", () => {
  const difference = compareTensors(
    "blk.1.cache_k",
    side([3, 2, 1], [0, 0, 0, 0, 0, 1]),
    side([3, 2, 1], [0, 0, 0, 0, 0, 0]),
    exact,
    2,
  );
  assert.deepEqual(difference.place, { layer: 1, head: 1, position: 2, index: 0 });
});

Deno.test("only one number on one side fails; none on both sides is no difference", () => {
  const allow = { tolerance: 1e9, relative: 1 };
  const one = compareTensors("logits", side([1, 2], [NaN, 1]), side([1, 2], [0, 1]), allow, 0);
  assert.deepEqual([one.passed, one.share, one.place.index], [false, Infinity, 0]);
  const infinite = compareTensors("logits", side([1, 1], [Infinity]), side([1, 1], [3]), allow, 0);
  assert.equal(infinite.passed, false);
  const both = compareTensors("logits", side([1, 2], [NaN, 1]), side([1, 2], [NaN, 1]), exact, 0);
  assert.deepEqual([both.passed, both.error], [true, 0]);
});

Deno.test("figures: NMSE, cosine, RMS and the histogram of units in the last place", () => {
  const next = (x: number, steps: number) => {
    const floats = Float32Array.of(x);
    new Int32Array(floats.buffer)[0] += steps;
    return floats[0];
  };
  const reference = side([1, 5], [1, 2, -3, 4, 0]);
  const ours = side([1, 5], [1, next(2, 1), next(-3, 3), next(4, 100), 0]);
  const { ulps, nmse, cosine } = compareTensors("logits", ours, reference, exact, 0);
  assert.deepEqual(ulps.slice(0, 8), [2, 1, 1, 0, 0, 0, 0, 1]);
  assert.ok(nmse > 0 && nmse < 1e-9);
  assert.ok(Math.abs(cosine - 1) < 1e-9);
  const half = compareTensors("logits", side([1, 2], [1, 0]), side([1, 2], [2, 0]), exact, 0);
  assert.equal(half.nmse, 0.25);
  assert.equal(half.rms, Math.sqrt(0.5));
});

Deno.test("other shapes are refused", () => {
  assert.throws(
    () => compareTensors("logits", side([1, 2], [1, 2]), side([2, 1], [1, 2]), exact, 0),
    /Cannot compare logits: \[1,2\] with \[2,1\]/,
  );
});

Deno.test("coarser activations allow more, exactly stays exactly for f32", () => {
  assert.deepEqual(localAllowance("token_embd"), { tolerance: 0, relative: 0 });
  const f32 = localAllowance("blk.0.q").relative;
  const others = (["f16", "q8", "bf16"] as const).map((type) =>
    localAllowance("blk.0.q", type).relative
  );
  for (const other of others) assert.ok(other > 10 * f32);
});

Deno.test("every point of a model belongs to a checkpoint, or is made on request only", async () => {
  const found = await findModel("tiny");
  const file = await openGguf(bytesSource("tiny", found.bytes!));
  const config = readConfig(file);
  for (const { name, onRequest } of listPoints(config, forward(config))) {
    if (!onRequest) assert.ok(checkpointOf(name), name);
  }
  assert.equal(CHECKPOINTS.length, 14, "thirteen, of which one is called 1B");
  for (const { faults } of CHECKPOINTS) {
    for (const fault of faults) assert.ok(fault in CAUSES, fault);
  }
});
