/** What bounds are made of: the unit of rounding, errors of sums, and the twin's results for other inputs. See bounds.ts. */
import type { Kernel, TwinArguments } from "../../kernels/kernel.ts";

/** What a bound is worked out from. */
export interface BoundArguments extends TwinArguments {
  readonly kernel: Kernel;
  /** The twin's results, taps included. */
  readonly outputs: readonly Float32Array[];
  readonly lanes: number;
  /** Of those, how many share one product. */
  readonly columnLanes: number;
  /** Whether they hand numbers on to each other. */
  readonly broadcast: boolean;
  /** Whether inputs and weights are whole numbers, whose sums are exact up to 2²⁴. */
  readonly whole: boolean;
}

export const ULP = 2 ** -23;
/** The smallest normal f32. */
export const TINY = 2 ** -126;

/** The largest relative error after that many ULP: (1 + ULP)ⁿ − 1 ≤ exp(n · ULP) − 1. */
export function growth(ulps: number): number {
  return Math.expm1(ulps * ULP);
}

/** The error of a sum, given Σ|terms| and how many rounded operations a term passes through. */
export function sumError(terms: number, depth: number, whole: boolean): number {
  return whole && terms <= 2 ** 24 ? 0 : growth(depth) * terms + depth * TINY;
}

/** An error bound per number of each output; of outputs that must be exact, zeros. */
export type Bound = (args: BoundArguments) => Float64Array[];

/** Allowed errors that grow with the result: `ulps` of its size. The twin's own rounding is half a one. */
export function relative(output: Float32Array, ulps: number): Float64Array {
  return Float64Array.from(output, (value) => growth(ulps + 0.5) * Math.abs(value) + TINY);
}

/** Magnitudes instead of numbers. */
export function absolute(numbers: Float32Array): Float32Array {
  return numbers.map(Math.abs);
}

/** The twin's results for other inputs. */
export function evaluate(args: BoundArguments, changed: Partial<TwinArguments>): Float32Array[] {
  const outputs = args.outputs.map(({ length }) => new Float32Array(length));
  args.kernel.twin({ ...args, ...changed, outputs });
  return outputs;
}

/** Errors of results that were not exact, with the twin's own rounding. */
export function rounded(errors: Float64Array, output: Float32Array): Float64Array {
  return errors.map((error, i) => error === 0 ? 0 : error + ULP / 2 * Math.abs(output[i]));
}
