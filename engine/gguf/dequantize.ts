import type { GgmlType } from "./types.ts";

/** Dequantizes whole blocks into `out`, which has room for exactly their numbers. */
type RowFunction = (blocks: Uint8Array<ArrayBuffer>, out: Float32Array) => void;

/** All 65,536 half floats as 32-bit ones: faster than a conversion per block. */
const HALF_FLOATS = Float32Array.from(
  new Float16Array(Uint16Array.from({ length: 65536 }, (_, bits) => bits).buffer),
);

/** The value of a half float (IEEE 754 binary16), given as its 16 bits. */
export function f16ToF32(bits: number): number {
  return HALF_FLOATS[bits & 0xffff];
}

/**
 * One function per type. The layouts are those of ggml-common.h, the arithmetic that of
 * `dequantize_row_*` in ggml-quants.c (llama.cpp v0.5.0). Bit for bit: a half float has 11
 * significant bits and scales and quants few more, so every product is exact in ggml's f32, and
 * every sum of two of them is exact in the 64 bits that JavaScript computes in; the store into a
 * Float32Array then rounds once, as ggml's addition does.
 */
const ROW_FUNCTIONS: Readonly<Record<string, RowFunction>> = {
  F32: f32,
  F16: f16,
  BF16: bf16,
  Q8_0: q8_0,
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q2_K: q2_k,
  Q3_K: q3_k,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
};

/** Whether {@linkcode dequantize} knows the type. */
export function isDequantizable(type: GgmlType): boolean {
  return type.name in ROW_FUNCTIONS;
}

/**
 * Turns little-endian blocks of a tensor into numbers, bit for bit as ggml does.
 *
 * @param bytes whole blocks: n · type.blockBytes bytes
 * @param out takes the n · type.blockSize numbers; made where it is not given
 * @returns `out`
 * @throws {TypeError} for a type that is not supported yet
 * @throws {RangeError} when `bytes` are not whole blocks or `out` has another length
 */
export function dequantize(type: GgmlType, bytes: Uint8Array, out?: Float32Array): Float32Array {
  const rowFunction = ROW_FUNCTIONS[type.name];
  if (rowFunction === undefined) {
    throw new TypeError(`Cannot dequantize ${type.name}: not yet supported`);
  }
  const blocks = bytes.byteLength / type.blockBytes;
  if (!Number.isInteger(blocks)) {
    throw new RangeError(
      `Cannot dequantize ${bytes.byteLength} bytes: ${type.name} has blocks of ${type.blockBytes}`,
    );
  }
  out ??= new Float32Array(blocks * type.blockSize);
  if (out.length !== blocks * type.blockSize) {
    throw new RangeError(
      `Cannot dequantize ${blocks * type.blockSize} numbers into an array of ${out.length}`,
    );
  }
  rowFunction(bytes as Uint8Array<ArrayBuffer>, out);
  return out;
}

function f32(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  // As bytes, because `blocks` need not be aligned.
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(blocks);
}

function f16(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = half(blocks, 2 * i);
}

function bf16(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) bits[i] = uint16(blocks, 2 * i) << 16;
}

/** d, 32 × int8: x = d·q. */
function q8_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 32, at += 34) {
    const d = half(blocks, at);
    for (let i = 0; i < 32; i++) out[x + i] = int8(blocks, at + 2 + i) * d;
  }
}

/** d, 16 bytes: low nibbles are numbers 0..15, high ones 16..31; x = d·(q − 8). */
function q4_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 32, at += 18) {
    const d = half(blocks, at);
    for (let i = 0; i < 16; i++) {
      const quants = blocks[at + 2 + i];
      out[x + i] = ((quants & 15) - 8) * d;
      out[x + i + 16] = ((quants >> 4) - 8) * d;
    }
  }
}

/** d, m, 16 bytes of nibbles as in Q4_0: x = d·q + m. */
function q4_1(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 32, at += 20) {
    const d = half(blocks, at);
    const m = half(blocks, at + 2);
    for (let i = 0; i < 16; i++) {
      const quants = blocks[at + 4 + i];
      out[x + i] = (quants & 15) * d + m;
      out[x + i + 16] = (quants >> 4) * d + m;
    }
  }
}

/** d, 32 fifth bits, 16 bytes of nibbles as in Q4_0: x = d·(q − 16). */
function q5_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 32, at += 22) {
    const d = half(blocks, at);
    const fifth = uint32(blocks, at + 2);
    for (let i = 0; i < 16; i++) {
      const quants = blocks[at + 6 + i];
      out[x + i] = (((quants & 15) | ((fifth >>> i) & 1) << 4) - 16) * d;
      out[x + i + 16] = (((quants >> 4) | ((fifth >>> (i + 16)) & 1) << 4) - 16) * d;
    }
  }
}

/** d, m, 32 fifth bits, 16 bytes of nibbles as in Q4_0: x = d·q + m. */
function q5_1(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 32, at += 24) {
    const d = half(blocks, at);
    const m = half(blocks, at + 2);
    const fifth = uint32(blocks, at + 4);
    for (let i = 0; i < 16; i++) {
      const quants = blocks[at + 8 + i];
      out[x + i] = ((quants & 15) | ((fifth >>> i) & 1) << 4) * d + m;
      out[x + i + 16] = ((quants >> 4) | ((fifth >>> (i + 16)) & 1) << 4) * d + m;
    }
  }
}

/**
 * 16 bytes, each with the scale (low nibble) and the minimum of 16 numbers; two halves of 128 numbers, 32 bytes each, of which
 * every bit pair holds 32 numbers; d, dmin: x = d·scale·q − dmin·minimum.
 */
function q2_k(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 256, at += 84) {
    const d = half(blocks, at + 80);
    const dmin = half(blocks, at + 82);
    for (let group = 0; group < 16; group++) {
      const scale = d * (blocks[at + group] & 15);
      const minimum = dmin * (blocks[at + group] >> 4);
      const quants = at + 16 + 32 * (group >> 3) + 16 * (group & 1);
      const shift = group & 6; // 2 · the pair
      for (let i = 0; i < 16; i++) {
        out[x + 16 * group + i] = scale * ((blocks[quants + i] >> shift) & 3) - minimum;
      }
    }
  }
}

/**
 * 32 bytes of third bits (bit g of byte i: number i of group g of 32; where it is not set 4 is taken away), bit pairs as in Q2_K,
 * 16 scales of 6 bits in 12 bytes, d: x = d·(scale − 32)·q.
 */
function q3_k(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 256, at += 110) {
    const d = half(blocks, at + 108);
    for (let group = 0; group < 16; group++) {
      const low = blocks[at + 96 + (group & 7)] >> (group & 8 ? 4 : 0) & 15;
      const high = (blocks[at + 104 + (group & 3)] >> 2 * (group >> 2)) & 3;
      const scale = d * ((low | high << 4) - 32);
      const third = at + 16 * (group & 1);
      const quants = at + 32 + 32 * (group >> 3) + 16 * (group & 1);
      for (let i = 0; i < 16; i++) {
        const minus = (blocks[third + i] >> (group >> 1)) & 1 ? 0 : 4;
        out[x + 16 * group + i] = scale * (((blocks[quants + i] >> (group & 6)) & 3) - minus);
      }
    }
  }
}

/**
 * d, dmin, 8 scales and minimums of 6 bits in 12 bytes, 128 bytes: each 32 hold the low nibbles of
 * one group of 32 numbers and the high nibbles of the next; x = d·scale·q − dmin·minimum.
 */
function q4_k(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 256, at += 144) {
    const d = half(blocks, at);
    const dmin = half(blocks, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * scale6(blocks, at + 4, group);
      const minimum = dmin * minimum6(blocks, at + 4, group);
      const quants = at + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) {
        out[x + 32 * group + i] = scale * ((blocks[quants + i] >> shift) & 15) - minimum;
      }
    }
  }
}

/** As Q4_K, with 32 bytes of fifth bits (bit g of byte i: number i of group g) before the nibbles. */
function q5_k(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 256, at += 176) {
    const d = half(blocks, at);
    const dmin = half(blocks, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * scale6(blocks, at + 4, group);
      const minimum = dmin * minimum6(blocks, at + 4, group);
      const quants = at + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) {
        const fifth = (blocks[at + 16 + i] >> group) & 1;
        const quant = ((blocks[quants + i] >> shift) & 15) | fifth << 4;
        out[x + 32 * group + i] = scale * quant - minimum;
      }
    }
  }
}

/**
 * Two halves of 128 numbers: 2 · 64 bytes of low nibbles, 2 · 32 bytes of upper bit pairs; then 16
 * int8 scales, one per 16 numbers, and d: x = d·scale·(q − 32).
 */
function q6_k(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  for (let x = 0, at = 0; x < out.length; x += 256, at += 210) {
    const d = half(blocks, at + 208);
    for (let group = 0; group < 8; group++) {
      const quarter = group & 3; // of its half
      const low = at + 64 * (group >> 2) + 32 * (quarter & 1);
      const high = at + 128 + 32 * (group >> 2);
      for (let i = 0; i < 32; i++) {
        const scale = d * int8(blocks, at + 192 + 2 * group + (i >> 4));
        const quant = ((blocks[low + i] >> (4 * (quarter >> 1))) & 15) |
          ((blocks[high + i] >> (2 * quarter)) & 3) << 4;
        out[x + 32 * group + i] = scale * (quant - 32);
      }
    }
  }
}

/** Scale of a group in the 12 packed bytes of Q4_K and Q5_K (`get_scale_min_k4`). */
function scale6(blocks: Uint8Array, at: number, group: number): number {
  return group < 4
    ? blocks[at + group] & 63
    : (blocks[at + group + 4] & 15) | (blocks[at + group - 4] >> 6) << 4;
}

/** Minimum of a group in the 12 packed bytes of Q4_K and Q5_K (`get_scale_min_k4`). */
function minimum6(blocks: Uint8Array, at: number, group: number): number {
  return group < 4
    ? blocks[at + group + 4] & 63
    : (blocks[at + group + 4] >> 4) | (blocks[at + group] >> 6) << 4;
}

function half(bytes: Uint8Array, at: number): number {
  return HALF_FLOATS[uint16(bytes, at)];
}

function uint16(bytes: Uint8Array, at: number): number {
  return bytes[at] | bytes[at + 1] << 8;
}

function uint32(bytes: Uint8Array, at: number): number {
  return uint16(bytes, at) | uint16(bytes, at + 2) << 16;
}

function int8(bytes: Uint8Array, at: number): number {
  return bytes[at] << 24 >> 24;
}
