/** The unit of rounding errors, and how they add up: see bounds.ts. */

/** One ULP of 1. */
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
