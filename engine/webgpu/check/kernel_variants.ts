/** The variants of kernels that a GPU device compiles, and those that a model runs there. */
import { canBind } from "../../../kernels/kernel.ts";
import { KERNELS } from "../../../kernels/mod.ts";
import { type KernelVariant, variantName, variantsOf } from "../../check/variants.ts";
import type { Plan } from "../../plan/plan.ts";
import type { Weights } from "../../model/weights.ts";
import { usedSteps } from "../used_steps.ts";

/**
 * All variants that a device can bind: see {@linkcode variantsOf}.
 *
 * @param buffers the device's limit of storage buffers for a stage; any number by default
 */
export function allVariants(buffers?: number): KernelVariant[] {
  return variantsOf([...KERNELS.values()].filter((kernel) => canBind(kernel, buffers)));
}

/** The variants that generation with these weights runs: prompts, then one position at a time. `buffers` is the device's limit. */
export function usedVariants(
  plan: Plan,
  weights: Weights<unknown>,
  buffers?: number,
): KernelVariant[] {
  const variants = new Map<string, KernelVariant>();
  for (const { kernel, matrix } of usedSteps(plan, weights, buffers)) {
    const variant = { kernel, packing: matrix?.packing, taps: false };
    variants.set(variantName(variant), variant);
  }
  return [...variants.values()];
}
