/** Whether this WebAssembly has the relaxed SIMD instructions. */

/** A module with one function, `() => v128`, that multiplies bytes: `i32x4.relaxed_dot_i8x16_i7x16_add_s` of a local, which is zero. */
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b], // types: () => v128
  ...[0x03, 0x02, 0x01, 0x00], // functions: one of that type
  ...[0x0a, 0x0f, 0x01, 0x0d], // code: one body of 13 bytes
  ...[0x01, 0x01, 0x7b], // one local, v128
  ...[0x20, 0x00, 0x20, 0x00, 0x20, 0x00], // it three times
  ...[0xfd, 0x93, 0x02, 0x0b], // the product, end
);

/** Whether the CPU's kernels can be compiled here; every Deno that Lamina runs with has the instructions. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(MODULE);
}
