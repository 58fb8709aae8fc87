/** How far a weight may be from the original, by the type that it is stored in. */

/** What is usual for a type. */
export interface Band {
  /** Largest NMSE, Σ(b − a)² / Σa², of a whole tensor. */
  readonly tensor: number;
  /** The same of one block: a few outliers that the type does not hold make many times the tensor's. */
  readonly block: number;
  /** How far the factor that brings a nearest to b may be from 1. */
  readonly scale: number;
}

/**
 * Largest NMSE of a tensor, by type. Measured with llama.cpp v0.5.0's `ggml_quantize_chunk` (tests/fixtures/measure_bands.ts), with
 * and without importance matrices, on Gaussian weights (the figure behind each line), cubes of Gaussian ones, Student-like ones and
 * SmolLM2's; the band is the worst of them, rounded up. Real models are near the Gaussian figure: SmolLM2's tensors reach 1.5 of it.
 */
const TENSOR_BANDS: Readonly<Record<string, number>> = {
  F32: 1e-12,
  F16: 1e-7, // 4.3e-8
  BF16: 5e-6, // 2.8e-6
  Q8_0: 1e-4, // 2.9e-5
  Q6_K: 1.5e-3, // 3.1e-4
  Q5_K: 4e-3, // 1.3e-3
  Q5_1: 4e-3, // 1.4e-3
  Q5_0: 5e-3, // 1.8e-3
  Q4_K: 0.015, // 5.1e-3
  Q4_1: 0.015, // 6.1e-3
  Q4_0: 0.02, // 7.3e-3
  Q3_K: 0.06, // 2.3e-2
  Q2_K: 0.2, // 8.8e-2
};

/** Blocks of the same weights reach 20 times the band: importance matrices give outliers up. A block of other numbers has 1 to 4. */
const BLOCK_FACTOR = 20;

/**
 * The band of a type; undefined for types that were not measured. Rounding to blocks shortens weights a little, by about its NMSE; of
 * floats the NMSE alone tells.
 */
export function bandOf(type: string): Band | undefined {
  if (!Object.hasOwn(TENSOR_BANDS, type)) return undefined;
  const tensor = TENSOR_BANDS[type];
  const scale = type.startsWith("Q") ? 2 * tensor + 0.001 : Infinity;
  return { tensor, block: BLOCK_FACTOR * tensor, scale };
}

/** The band of a tensor that is rounded to one type in one file and to another in the other, and the coarser type. */
export function commonBand(a: string, b: string): { type: string; band: Band } | undefined {
  const [bandA, bandB] = [bandOf(a), bandOf(b)];
  if (!bandA || !bandB) return undefined;
  const [coarse, fine] = bandA.tensor > bandB.tensor ? [bandA, bandB] : [bandB, bandA];
  const band = {
    tensor: coarse.tensor + fine.tensor,
    block: coarse.block + fine.block,
    scale: Number.isFinite(fine.scale) ? coarse.scale + fine.scale : coarse.scale,
  };
  return { type: coarse === bandA ? a : b, band };
}
