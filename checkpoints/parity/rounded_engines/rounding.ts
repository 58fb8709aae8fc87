/** How engines round that compute in fewer than 32 bits. */
import type { ActivationType } from "../../references/reference.ts";

/** Types of activations that round. */
export type RoundedType = Exclude<ActivationType, "f32">;

/** Whether activations of this type are rounded to fewer than 32 bits. */
export function isRounded(activations: ActivationType = "f32"): activations is RoundedType {
  return activations !== "f32";
}

/** Half a unit in the last place of a number just above a power of two, as a part of it: 2⁻ᵖ with p significant bits. */
export const UNIT: Readonly<Record<RoundedType, number>> = {
  f16: 2 ** -11,
  bf16: 2 ** -8,
  // Between its products such an engine has 32 bits; its cache and its attention are in f16.
  q8: 2 ** -11,
};

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);

/** The nearest bf16, the even one of two. */
export function toBf16(value: number): number {
  floats[0] = value;
  if (Number.isNaN(value)) return NaN;
  const word = words[0];
  words[0] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  return floats[0];
}

const NEAREST = { f16: Math.f16round, bf16: toBf16 };

/**
 * Numbers rounded to the nearest of a 16-bit type. What would leave its range stays as it is: a right engine does not round that.
 *
 * @param stretch shifts the grid of the type's numbers to another place: 1 for the type itself, else a number from 1 to 2
 */
export function rounded(
  numbers: Float32Array,
  type: "f16" | "bf16",
  stretch = 1,
): Float32Array<ArrayBuffer> {
  const nearest = NEAREST[type];
  const out = new Float32Array(numbers.length);
  for (let i = 0; i < out.length; i++) {
    const near = nearest(numbers[i] * stretch) / stretch;
    out[i] = Number.isFinite(near) ? near : numbers[i];
  }
  return out;
}

/**
 * The nearest number with so many bits after its first one, the even one of two.
 *
 * @param least exponent of the smallest normal number: below it steps are equal
 */
export function toBits(value: number, bits: number, least = -126): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const unit = 2 ** (Math.max(least, Math.floor(Math.log2(Math.abs(value)))) - bits);
  const steps = value / unit;
  const low = Math.floor(steps);
  const isUp = steps - low > 0.5 || (steps - low === 0.5 && low % 2 !== 0);
  return (isUp ? low + 1 : low) * unit;
}

/**
 * Blocks of so many numbers, each rounded to equal steps, of which its largest magnitude has 127: how ggml rounds x before a product
 * with quantized weights. Of fewer bits it has 2ᵇ⁻¹ − 1.
 */
export function roundedBlocks(
  numbers: Float32Array,
  block: number,
  bits = 8,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(numbers.length);
  for (let first = 0; first < numbers.length; first += block) {
    const end = Math.min(numbers.length, first + block);
    let most = 0;
    for (let i = first; i < end; i++) most = Math.max(most, Math.abs(numbers[i]));
    const step = most / (2 ** (bits - 1) - 1);
    for (let i = first; i < end; i++) {
      out[i] = step > 0 ? Math.round(numbers[i] / step) * step : numbers[i];
    }
  }
  return out;
}
