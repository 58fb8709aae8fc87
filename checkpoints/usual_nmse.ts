/** How far a quantized weight usually is from the original. */

/**
 * NMSE of normally distributed weights by type, rounded up: a block's step is its range over the levels, the error of rounding a
 * twelfth of its square. Trained weights are close to it.
 */
const USUAL: Readonly<Record<string, number>> = {
  F32: 1e-12,
  F16: 1e-6,
  BF16: 1e-5,
  Q8_0: 1e-4,
  Q6_K: 1e-3,
  Q5_0: 4e-3,
  Q5_1: 4e-3,
  Q5_K: 4e-3,
  Q4_0: 0.016,
  Q4_1: 0.016,
  Q4_K: 0.016,
};

/** What is usual for a type of weight; for an unknown one what is usual for the coarsest that is known. */
export function usualNmse(type: string | undefined): number {
  return USUAL[type ?? ""] ?? 0.016;
}
