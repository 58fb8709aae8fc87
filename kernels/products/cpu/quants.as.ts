// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Products of quants with one position: sums of whole numbers (see x.as.ts), four rows in a vector. `a` is the first four rows of a tile,
 * `b` the last four; 0, 1 and 2 are the digits of x. What is loaded of x serves all eight rows.
 *
 * Each function takes `tiles` tiles, `stride` bytes from one to the next, block by block: a processor reads ahead of several places at once, so that
 * it waits less for the memory than with one tile after the other. `x` to `end` is a position's record; products go to `out`, [tiles][8 rows],
 * behind which there is room for as many again: blocks are added up in pieces of 288 columns, pieces to the whole, so that errors stay small.
 */
import { SEVENS_BYTES, SIGNED_BYTES, spread0, spread1, spread2, spread3 } from "./x.as.ts";

/**
 * Constants lie in memory: what the compiler knows it would put together anew at every use, and a load from a known address needs no
 * check of bounds.
 */
const NIBBLE: usize = memory.data<u32>([0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f], 16);
const BYTE: usize = memory.data<f32>([256, 256, 256, 256], 16);
const TWO_SEVENS: usize = memory.data<f32>([16384, 16384, 16384, 16384], 16);

/** 16 columns of a piece. */
const PIECE: usize = 18;

/** Adds the sums of a piece, which lie from `past` on, to those before, from `out` on, and makes them 0. */
function addPiece(out: usize, past: usize): void {
  for (let to = out, from = past; to < past; to += 16, from += 16) {
    v128.store(to, f32x4.add(v128.load(to), v128.load(from)));
    v128.store(from, i32x4.splat(0));
  }
}

@inline
function dot(x: v128, weights: v128, sum: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, weights, sum);
}

/** Sums of the digits, as f32 in units of x. The first two fit in 32 bits together. */
@inline
function joined(sum0: v128, sum1: v128, sum2: v128, byte: v128): v128 {
  const sum01 = i32x4.add(i32x4.shl(sum0, 8), sum1);
  return f32x4.relaxed_madd(f32x4.convert_i32x4_s(sum01), byte, f32x4.convert_i32x4_s(sum2));
}

/** Nibbles: `parts` times 16 columns have a scale in common; quants are 2^`shift` too large, or have minimums where it is 0. */
@inline
function nibbles(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize, parts: i32, shift: i32): void {
  const mask = v128.load(NIBBLE), byte = v128.load(BYTE), zero = i32x4.splat(0);
  const past = out + (<usize> tiles << 5);
  const pieceEnd = past + (past - out);
  for (let to = out; to < pieceEnd; to += 16) v128.store(to, zero);
  let last = min(end, x + PIECE * SIGNED_BYTES);
  while (x < end) {
    for (let tile = at, to = past; to < pieceEnd; tile += stride, to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, b0 = zero, b1 = zero, b2 = zero;
      const words = parts == 2 ? v128.load(x, 16) : v128.load(x);
      if (shift) {
        const less = i32x4.shl(words, shift);
        a1 = b1 = spread0(less);
        a2 = b2 = spread1(less);
      }
      {
        const q0 = v128.load(tile), p0 = v128.load(tile, 16);
        const q1 = v128.load(tile, 32), p1 = v128.load(tile, 48);
        const u0 = v128.and(q0, mask), v0 = v128.and(p0, mask);
        const u2 = v128.and(i16x8.shr_u(q0, 4), mask), v2 = v128.and(i16x8.shr_u(p0, 4), mask);
        const u1 = v128.and(q1, mask), v1 = v128.and(p1, mask);
        const u3 = v128.and(i16x8.shr_u(q1, 4), mask), v3 = v128.and(i16x8.shr_u(p1, 4), mask);
        let x0: v128, s: v128;
        x0 = v128.load(x, 32);
        s = spread0(x0); a0 = dot(s, u0, a0); b0 = dot(s, v0, b0);
        s = spread1(x0); a0 = dot(s, u1, a0); b0 = dot(s, v1, b0);
        s = spread2(x0); a0 = dot(s, u2, a0); b0 = dot(s, v2, b0);
        s = spread3(x0); a0 = dot(s, u3, a0); b0 = dot(s, v3, b0);
        x0 = v128.load(x, 48);
        s = spread0(x0); a1 = dot(s, u0, a1); b1 = dot(s, v0, b1);
        s = spread1(x0); a1 = dot(s, u1, a1); b1 = dot(s, v1, b1);
        s = spread2(x0); a1 = dot(s, u2, a1); b1 = dot(s, v2, b1);
        s = spread3(x0); a1 = dot(s, u3, a1); b1 = dot(s, v3, b1);
        x0 = v128.load(x, 64);
        s = spread0(x0); a2 = dot(s, u0, a2); b2 = dot(s, v0, b2);
        s = spread1(x0); a2 = dot(s, u1, a2); b2 = dot(s, v1, b2);
        s = spread2(x0); a2 = dot(s, u2, a2); b2 = dot(s, v2, b2);
        s = spread3(x0); a2 = dot(s, u3, a2); b2 = dot(s, v3, b2);
      }
      if (parts == 2) {
        const q0 = v128.load(tile, 64), p0 = v128.load(tile, 80);
        const q1 = v128.load(tile, 96), p1 = v128.load(tile, 112);
        const u0 = v128.and(q0, mask), v0 = v128.and(p0, mask);
        const u2 = v128.and(i16x8.shr_u(q0, 4), mask), v2 = v128.and(i16x8.shr_u(p0, 4), mask);
        const u1 = v128.and(q1, mask), v1 = v128.and(p1, mask);
        const u3 = v128.and(i16x8.shr_u(q1, 4), mask), v3 = v128.and(i16x8.shr_u(p1, 4), mask);
        let x0: v128, s: v128;
        x0 = v128.load(x, 112);
        s = spread0(x0); a0 = dot(s, u0, a0); b0 = dot(s, v0, b0);
        s = spread1(x0); a0 = dot(s, u1, a0); b0 = dot(s, v1, b0);
        s = spread2(x0); a0 = dot(s, u2, a0); b0 = dot(s, v2, b0);
        s = spread3(x0); a0 = dot(s, u3, a0); b0 = dot(s, v3, b0);
        x0 = v128.load(x, 128);
        s = spread0(x0); a1 = dot(s, u0, a1); b1 = dot(s, v0, b1);
        s = spread1(x0); a1 = dot(s, u1, a1); b1 = dot(s, v1, b1);
        s = spread2(x0); a1 = dot(s, u2, a1); b1 = dot(s, v2, b1);
        s = spread3(x0); a1 = dot(s, u3, a1); b1 = dot(s, v3, b1);
        x0 = v128.load(x, 144);
        s = spread0(x0); a2 = dot(s, u0, a2); b2 = dot(s, v0, b2);
        s = spread1(x0); a2 = dot(s, u1, a2); b2 = dot(s, v1, b2);
        s = spread2(x0); a2 = dot(s, u2, a2); b2 = dot(s, v2, b2);
        s = spread3(x0); a2 = dot(s, u3, a2); b2 = dot(s, v3, b2);
      }
      const unit = spread2(words), scales = tile + (parts == 2 ? 128 : 64);
      // A block's own sum comes first, in units: the running sum, which is larger, is rounded once.
      a0 = joined(a0, a1, a2, byte); b0 = joined(b0, b1, b2, byte);
      if (shift) {
        a0 = f32x4.mul(a0, v128.load(scales));
        b0 = f32x4.mul(b0, v128.load(scales, 16));
      } else {
        const total = spread3(words);
        a0 = f32x4.relaxed_madd(a0, v128.load(scales), f32x4.mul(total, v128.load(scales, 32)));
        b0 = f32x4.relaxed_madd(b0, v128.load(scales, 16), f32x4.mul(total, v128.load(scales, 48)));
      }
      v128.store(to, f32x4.relaxed_madd(a0, unit, v128.load(to)));
      v128.store(to, f32x4.relaxed_madd(b0, unit, v128.load(to, 16)), 16);
    }
    at += (parts == 2 ? 128 : 64) + (shift ? 32 : 64);
    x += parts == 2 ? 2 * SIGNED_BYTES : SIGNED_BYTES;
    if (x == last) {
      last = min(end, x + PIECE * SIGNED_BYTES);
      addPiece(out, past);
    }
  }
}

/** Bytes from 0 to 127, else as {@linkcode nibbles}. */
@inline
function bytes(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize, parts: i32, shift: i32): void {
  const byte = v128.load(BYTE), zero = i32x4.splat(0);
  const past = out + (<usize> tiles << 5);
  const pieceEnd = past + (past - out);
  for (let to = out; to < pieceEnd; to += 16) v128.store(to, zero);
  let last = min(end, x + PIECE * SIGNED_BYTES);
  while (x < end) {
    for (let tile = at, to = past; to < pieceEnd; tile += stride, to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, b0 = zero, b1 = zero, b2 = zero;
      const words = parts == 2 ? v128.load(x, 16) : v128.load(x);
      if (shift) {
        const less = i32x4.shl(words, shift);
        a1 = b1 = spread0(less);
        a2 = b2 = spread1(less);
      }
      {
        const u0 = v128.load(tile), v0 = v128.load(tile, 16);
        const u1 = v128.load(tile, 32), v1 = v128.load(tile, 48);
        const u2 = v128.load(tile, 64), v2 = v128.load(tile, 80);
        const u3 = v128.load(tile, 96), v3 = v128.load(tile, 112);
        let x0: v128, s: v128;
        x0 = v128.load(x, 32);
        s = spread0(x0); a0 = dot(s, u0, a0); b0 = dot(s, v0, b0);
        s = spread1(x0); a0 = dot(s, u1, a0); b0 = dot(s, v1, b0);
        s = spread2(x0); a0 = dot(s, u2, a0); b0 = dot(s, v2, b0);
        s = spread3(x0); a0 = dot(s, u3, a0); b0 = dot(s, v3, b0);
        x0 = v128.load(x, 48);
        s = spread0(x0); a1 = dot(s, u0, a1); b1 = dot(s, v0, b1);
        s = spread1(x0); a1 = dot(s, u1, a1); b1 = dot(s, v1, b1);
        s = spread2(x0); a1 = dot(s, u2, a1); b1 = dot(s, v2, b1);
        s = spread3(x0); a1 = dot(s, u3, a1); b1 = dot(s, v3, b1);
        x0 = v128.load(x, 64);
        s = spread0(x0); a2 = dot(s, u0, a2); b2 = dot(s, v0, b2);
        s = spread1(x0); a2 = dot(s, u1, a2); b2 = dot(s, v1, b2);
        s = spread2(x0); a2 = dot(s, u2, a2); b2 = dot(s, v2, b2);
        s = spread3(x0); a2 = dot(s, u3, a2); b2 = dot(s, v3, b2);
      }
      if (parts == 2) {
        const u0 = v128.load(tile, 128), v0 = v128.load(tile, 144);
        const u1 = v128.load(tile, 160), v1 = v128.load(tile, 176);
        const u2 = v128.load(tile, 192), v2 = v128.load(tile, 208);
        const u3 = v128.load(tile, 224), v3 = v128.load(tile, 240);
        let x0: v128, s: v128;
        x0 = v128.load(x, 112);
        s = spread0(x0); a0 = dot(s, u0, a0); b0 = dot(s, v0, b0);
        s = spread1(x0); a0 = dot(s, u1, a0); b0 = dot(s, v1, b0);
        s = spread2(x0); a0 = dot(s, u2, a0); b0 = dot(s, v2, b0);
        s = spread3(x0); a0 = dot(s, u3, a0); b0 = dot(s, v3, b0);
        x0 = v128.load(x, 128);
        s = spread0(x0); a1 = dot(s, u0, a1); b1 = dot(s, v0, b1);
        s = spread1(x0); a1 = dot(s, u1, a1); b1 = dot(s, v1, b1);
        s = spread2(x0); a1 = dot(s, u2, a1); b1 = dot(s, v2, b1);
        s = spread3(x0); a1 = dot(s, u3, a1); b1 = dot(s, v3, b1);
        x0 = v128.load(x, 144);
        s = spread0(x0); a2 = dot(s, u0, a2); b2 = dot(s, v0, b2);
        s = spread1(x0); a2 = dot(s, u1, a2); b2 = dot(s, v1, b2);
        s = spread2(x0); a2 = dot(s, u2, a2); b2 = dot(s, v2, b2);
        s = spread3(x0); a2 = dot(s, u3, a2); b2 = dot(s, v3, b2);
      }
      const unit = spread2(words), scales = tile + (parts == 2 ? 256 : 128);
      // A block's own sum comes first, in units: the running sum, which is larger, is rounded once.
      a0 = joined(a0, a1, a2, byte); b0 = joined(b0, b1, b2, byte);
      if (shift) {
        a0 = f32x4.mul(a0, v128.load(scales));
        b0 = f32x4.mul(b0, v128.load(scales, 16));
      } else {
        const total = spread3(words);
        a0 = f32x4.relaxed_madd(a0, v128.load(scales), f32x4.mul(total, v128.load(scales, 32)));
        b0 = f32x4.relaxed_madd(b0, v128.load(scales, 16), f32x4.mul(total, v128.load(scales, 48)));
      }
      v128.store(to, f32x4.relaxed_madd(a0, unit, v128.load(to)));
      v128.store(to, f32x4.relaxed_madd(b0, unit, v128.load(to, 16)), 16);
    }
    at += (parts == 2 ? 256 : 128) + (shift ? 32 : 64);
    x += parts == 2 ? 2 * SIGNED_BYTES : SIGNED_BYTES;
    if (x == last) {
      last = min(end, x + PIECE * SIGNED_BYTES);
      addPiece(out, past);
    }
  }
}

/**
 * Q8_0: signed bytes, with x in digits of 7 bits without a sign; those have an offset of 64 in the first digit, which the stored sums of quants
 * take back.
 */
export function signed(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const zero = i32x4.splat(0), twoSevens = v128.load(TWO_SEVENS);
  const past = out + (<usize> tiles << 5);
  const pieceEnd = past + (past - out);
  for (let to = out; to < pieceEnd; to += 16) v128.store(to, zero);
  let last = min(end, x + PIECE / 2 * SEVENS_BYTES);
  while (x < end) {
    for (let tile = at, to = past; to < pieceEnd; tile += stride, to += 32) {
      const less = v128.load(tile, 288);
      let a0 = i32x4.shl(i32x4.extend_low_i16x8_s(less), 6), a1 = zero, a2 = zero, a3 = zero;
      let b0 = i32x4.shl(i32x4.extend_high_i16x8_s(less), 6), b1 = zero, b2 = zero, b3 = zero;
      {
        const u0 = v128.load(tile), v0 = v128.load(tile, 16);
        const u1 = v128.load(tile, 32), v1 = v128.load(tile, 48);
        const u2 = v128.load(tile, 64), v2 = v128.load(tile, 80);
        const u3 = v128.load(tile, 96), v3 = v128.load(tile, 112);
        let x0: v128, s: v128;
        x0 = v128.load(x, 16);
        s = spread0(x0); a0 = dot(u0, s, a0); b0 = dot(v0, s, b0);
        s = spread1(x0); a0 = dot(u1, s, a0); b0 = dot(v1, s, b0);
        s = spread2(x0); a0 = dot(u2, s, a0); b0 = dot(v2, s, b0);
        s = spread3(x0); a0 = dot(u3, s, a0); b0 = dot(v3, s, b0);
        x0 = v128.load(x, 32);
        s = spread0(x0); a1 = dot(u0, s, a1); b1 = dot(v0, s, b1);
        s = spread1(x0); a1 = dot(u1, s, a1); b1 = dot(v1, s, b1);
        s = spread2(x0); a1 = dot(u2, s, a1); b1 = dot(v2, s, b1);
        s = spread3(x0); a1 = dot(u3, s, a1); b1 = dot(v3, s, b1);
        x0 = v128.load(x, 48);
        s = spread0(x0); a2 = dot(u0, s, a2); b2 = dot(v0, s, b2);
        s = spread1(x0); a2 = dot(u1, s, a2); b2 = dot(v1, s, b2);
        s = spread2(x0); a2 = dot(u2, s, a2); b2 = dot(v2, s, b2);
        s = spread3(x0); a2 = dot(u3, s, a2); b2 = dot(v3, s, b2);
        x0 = v128.load(x, 64);
        s = spread0(x0); a3 = dot(u0, s, a3); b3 = dot(v0, s, b3);
        s = spread1(x0); a3 = dot(u1, s, a3); b3 = dot(v1, s, b3);
        s = spread2(x0); a3 = dot(u2, s, a3); b3 = dot(v2, s, b3);
        s = spread3(x0); a3 = dot(u3, s, a3); b3 = dot(v3, s, b3);
      }
      {
        const u0 = v128.load(tile, 128), v0 = v128.load(tile, 144);
        const u1 = v128.load(tile, 160), v1 = v128.load(tile, 176);
        const u2 = v128.load(tile, 192), v2 = v128.load(tile, 208);
        const u3 = v128.load(tile, 224), v3 = v128.load(tile, 240);
        let x0: v128, s: v128;
        x0 = v128.load(x, 80);
        s = spread0(x0); a0 = dot(u0, s, a0); b0 = dot(v0, s, b0);
        s = spread1(x0); a0 = dot(u1, s, a0); b0 = dot(v1, s, b0);
        s = spread2(x0); a0 = dot(u2, s, a0); b0 = dot(v2, s, b0);
        s = spread3(x0); a0 = dot(u3, s, a0); b0 = dot(v3, s, b0);
        x0 = v128.load(x, 96);
        s = spread0(x0); a1 = dot(u0, s, a1); b1 = dot(v0, s, b1);
        s = spread1(x0); a1 = dot(u1, s, a1); b1 = dot(v1, s, b1);
        s = spread2(x0); a1 = dot(u2, s, a1); b1 = dot(v2, s, b1);
        s = spread3(x0); a1 = dot(u3, s, a1); b1 = dot(v3, s, b1);
        x0 = v128.load(x, 112);
        s = spread0(x0); a2 = dot(u0, s, a2); b2 = dot(v0, s, b2);
        s = spread1(x0); a2 = dot(u1, s, a2); b2 = dot(v1, s, b2);
        s = spread2(x0); a2 = dot(u2, s, a2); b2 = dot(v2, s, b2);
        s = spread3(x0); a2 = dot(u3, s, a2); b2 = dot(v3, s, b2);
        x0 = v128.load(x, 128);
        s = spread0(x0); a3 = dot(u0, s, a3); b3 = dot(v0, s, b3);
        s = spread1(x0); a3 = dot(u1, s, a3); b3 = dot(v1, s, b3);
        s = spread2(x0); a3 = dot(u2, s, a3); b3 = dot(v2, s, b3);
        s = spread3(x0); a3 = dot(u3, s, a3); b3 = dot(v3, s, b3);
      }
      const power = spread0(v128.load(x));
      a1 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(a0, 7), a1));
      a3 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(a2, 7), a3));
      b1 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(b0, 7), b1));
      b3 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(b2, 7), b3));
      a1 = f32x4.mul(f32x4.relaxed_madd(a1, twoSevens, a3), power);
      b1 = f32x4.mul(f32x4.relaxed_madd(b1, twoSevens, b3), power);
      v128.store(to, f32x4.relaxed_madd(a1, v128.load(tile, 256), v128.load(to)));
      v128.store(to, f32x4.relaxed_madd(b1, v128.load(tile, 272), v128.load(to, 16)), 16);
    }
    at += 304;
    x += SEVENS_BYTES;
    if (x == last) {
      last = min(end, x + PIECE / 2 * SEVENS_BYTES);
      addPiece(out, past);
    }
  }
}

/** Q4_0: see above. */
export function nibbles32less8(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  nibbles(at, stride, tiles, x, end, out, 2, 3);
}

/** Q4_1 and Q4_K: see above. */
export function nibbles32(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  nibbles(at, stride, tiles, x, end, out, 2, 0);
}

/** Q3_K: see above. */
export function nibbles16less4(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  nibbles(at, stride, tiles, x, end, out, 1, 2);
}

/** Q2_K: see above. */
export function nibbles16(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  nibbles(at, stride, tiles, x, end, out, 1, 0);
}

/** Q5_0: see above. */
export function bytes32less16(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  bytes(at, stride, tiles, x, end, out, 2, 4);
}

/** Q5_1 and Q5_K: see above. */
export function bytes32(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  bytes(at, stride, tiles, x, end, out, 2, 0);
}

/** Q6_K: see above. */
export function bytes16less32(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  bytes(at, stride, tiles, x, end, out, 1, 5);
}
