/** What generation with a model runs on a device: the steps of a prompt's pass, and of those after it. */
import type { Packing } from "../../kernels/weights/packings.ts";
import type { Kernel, Knobs } from "../../kernels/kernel.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { fuse } from "../plan/passes/fuse.ts";
import { select } from "../plan/passes/select.ts";
import { onLastRows, type Plan, type Step } from "../plan/plan.ts";
import type { Matrix, Weights } from "../model/weights.ts";

/** A fused step and the kernel that runs it. */
export interface UsedStep<Storage> {
  readonly step: Step;
  readonly kernel: Kernel;
  /** The first of the packed weights that it reads. */
  readonly matrix?: Matrix<Storage>;
  /** Whether it is for few positions: one at a time, or the last row of a prompt. */
  readonly few: boolean;
}

/** The knobs of a product with a matrix of that packing, so many rows (of several together) and columns. */
export type KnobsOf = (kernel: Kernel, packing: Packing, rows: number, columns: number) => Knobs;

/**
 * The steps of a prompt, then of one position at a time, in order.
 *
 * @param buffers most that a kernel may bind on the device; any number by default
 */
export function* usedSteps<Storage>(
  plan: Plan,
  weights: Weights<Storage>,
  buffers?: number,
): Generator<UsedStep<Storage>> {
  const wanted = new Set(["logits", "argmax", "sample"]);
  const adjacent = (names: readonly string[]) => weights.adjacent(names);
  for (const decoding of [false, true]) {
    const few = (step: Step) => decoding || onLastRows(step);
    for (const step of fuse(select(plan, wanted), { wanted, adjacent, few, buffers })) {
      const product = step.operation === "linear" || step.operation === "linear_experts";
      const many = product && !few(step);
      const kernel = kernelOf(many ? { ...step, positions: "many" } : step)!;
      yield { step, kernel, matrix: weights.matrices.get(step.weights[0]), few: few(step) };
    }
  }
}

/** Rows of all the matrices that a step multiplies with. */
export function productRows<Storage>({ matrices }: Weights<Storage>, { weights }: Step): number {
  return weights.reduce((sum, name) => sum + (matrices.get(name)?.rows ?? 0), 0);
}

/** The knobs that a step runs with: a product's are chosen, the others have the device's own. */
export function stepKnobs<Storage>(
  { step, kernel, matrix }: Omit<UsedStep<Storage>, "few">,
  weights: Weights<Storage>,
  own: Knobs,
  knobsOf: KnobsOf,
): Knobs {
  return step.operation === "linear" && matrix
    ? knobsOf(kernel, matrix.packing, productRows(weights, step), matrix.columns)
    : own;
}
