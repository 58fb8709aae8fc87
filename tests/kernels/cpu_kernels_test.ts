/** CPU kernels without packed weights against their 64-bit twins. */
import assert from "node:assert/strict";
import { allowedErrors } from "../../engine/webgpu/check/bounds.ts";
import type { KernelCase } from "../../engine/webgpu/check/case.ts";
import { kernelCases } from "../../engine/webgpu/check/cases.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { exp1, Laid, OPERATIONS, twinOutputs, UNTOUCHED } from "./cpu_kernels.ts";

const kernels = [...KERNELS.values()].filter(({ operation }) => OPERATIONS.has(operation));

/** Sums that each kernel makes side by side, at least: 16 in norms, 4 in softmax. */
const LANES = 4;

/** Compares outputs with the twin's; the largest error as a share of what is allowed. */
function worstShare(each: KernelCase, outputs: readonly (Float32Array | null)[]): number {
  const expected = twinOutputs(each);
  const allowed = allowedErrors({
    ...each,
    outputs: expected,
    lanes: LANES,
    columnLanes: LANES,
    broadcast: false,
    whole: each.kind === "whole",
  });
  let worst = 0;
  outputs.forEach((output, i) =>
    output?.forEach((value, at) => {
      const error = Math.abs(value - expected[i][at]);
      const share = error === 0 || Object.is(value, expected[i][at]) ? 0 : error / allowed[i][at];
      if (!(share <= worst) && !Number.isNaN(worst)) worst = share;
    })
  );
  return worst;
}

function check(each: KernelCase): number {
  const laid = new Laid(each);
  laid.run();
  assert.ok(laid.withinBounds, `${each.kernel.name}, ${each.name}: wrote behind an output`);
  const share = worstShare(each, laid.outputs());
  assert.ok(share <= 1, `${each.kernel.name}, ${each.name}: ${share} of what is allowed`);
  return share;
}

Deno.test("each kernel gives its twin's numbers over odd shapes", async (t) => {
  assert.equal(kernels.length, 28);
  for (const kernel of kernels) {
    await t.step(kernel.name, () => {
      let cases = 0, worst = 0;
      for (const each of kernelCases(kernel, { full: true })) {
        worst = Math.max(worst, check(each));
        cases++;
      }
      assert.ok(cases >= 7, `${cases}`);
      if (Deno.env.has("VERBOSE")) console.log(kernel.name, cases, worst.toFixed(3));
    });
  }
});
