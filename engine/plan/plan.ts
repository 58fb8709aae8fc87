/**
 * A plan: the named steps of a forward pass, recorded but not run. It depends on the model's config alone; token ids and
 * lengths are parameters of running it.
 */
import { sizeOf } from "../../base/shape.ts";
import type { Computation, Constants, Dtype } from "../../kernels/kernel.ts";

/** A dimension: a number, T (positions of a pass), S (cached positions, this pass included) or R (rows with logits). */
export type Dim = number | "T" | "S" | "R";

/** A tensor that a step reads or makes. Its name is the point that people ask for. */
export interface Value {
  /** Its name in the plan: `blk.3.attn_probs`. */
  readonly name: string;
  /** Its size along each axis. */
  readonly shape: readonly Dim[];
  /** What its numbers are. */
  readonly dtype: Dtype;
  /** What keeps it: a pass (`result`), the session (`ids` and how they are chosen, the RoPE `table`, the KV `cache`), or an `edit`. */
  readonly kind: "result" | "ids" | "table" | "cache" | "edit";
}

/** One computation, and on what. `outputs` has `null` where an optional output of a fused kernel is not wanted. */
export interface Step extends Computation {
  /** What it reads of the pass, in the kernel's order. */
  readonly inputs: readonly Value[];
  /** Names of weights, as in the GGUF file. */
  readonly weights: readonly string[];
  /** What it makes, in the kernel's order. */
  readonly outputs: readonly (Value | null)[];
  /** What the kernel is told beside the pass: widths, epsilons, scales. */
  readonly constants: Constants;
}

/** Steps in the order of computation. */
export type Plan = readonly Step[];

/** Lengths that turn symbolic shapes into numbers. */
export interface Lengths {
  /** Positions of the pass. */
  readonly T: number;
  /** Cached positions, those of the pass included. */
  readonly S: number;
  /** Last rows that get logits. */
  readonly R: number;
}

/** The shape in numbers. */
export function resolveShape(shape: readonly Dim[], lengths: Lengths): number[] {
  return shape.map((dim) => typeof dim === "number" ? dim : lengths[dim]);
}

/** Numbers in a tensor of that shape. */
export function elementCount(shape: readonly Dim[], lengths: Lengths): number {
  return sizeOf(resolveShape(shape, lengths));
}

/** The name of the point that a step makes: that of its first output. */
export function stepName(step: Step): string {
  return step.outputs.find((output) => output !== null)!.name;
}

/** All values that the steps of a plan make, by name, in the order of computation. */
export function planValues(plan: Plan): Map<string, Value> {
  const values = new Map<string, Value>();
  for (const step of plan) {
    for (const output of step.outputs) if (output) values.set(output.name, output);
  }
  return values;
}

/** True for steps that run over the R last rows instead of all T: those that follow the one that reads all and makes the last. */
export function onLastRows(step: Step): boolean {
  const rows = [...step.inputs, ...step.outputs].map((value) => value?.shape[0]);
  return rows.includes("R") && !rows.includes("T");
}
