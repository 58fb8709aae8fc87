// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/** The types of weights by ggml's numbers, and what their packings have in common. */

export const F32: i32 = 0;
export const F16: i32 = 1;
export const Q4_0: i32 = 2;
export const Q4_1: i32 = 3;
export const Q5_0: i32 = 6;
export const Q5_1: i32 = 7;
export const Q8_0: i32 = 8;
export const Q2_K: i32 = 10;
export const Q3_K: i32 = 11;
export const Q4_K: i32 = 12;
export const Q5_K: i32 = 13;
export const Q6_K: i32 = 14;
export const BF16: i32 = 30;

/** The number that the bits of an f16 mean. */
export function fromHalf(bits: u32): f32 {
  const sign = (bits & 0x8000) << 16, rest = bits & 0x7fff;
  if (rest < 0x400) { // Subnormal numbers are made from integers: as f32 they would be subnormal on the way, which is slow.
    const small = <f32> rest * reinterpret<f32>(0x33800000); // 2⁻²⁴
    return reinterpret<f32>(reinterpret<u32>(small) | sign);
  }
  const exponent: u32 = rest >= 0x7c00 ? 0x70000000 : 0x38000000;
  return reinterpret<f32>(sign | ((rest << 13) + exponent));
}

/** Fills with zeros; addresses and bytes are multiples of 16. */
export function clear(at: usize, bytes: usize): void {
  for (const end = at + bytes; at < end; at += 16) v128.store(at, i32x4.splat(0));
}
