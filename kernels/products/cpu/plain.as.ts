// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Products of plain floats with one position. Columns are taken by fours, each with sums of its own (an addition waits four cycles for the
 * one before), which are added to a running total after 64 columns at most: errors of long sums stay small.
 *
 * Each function takes `tiles` tiles, `stride` bytes from one to the next, piece by piece: see quants.as.ts. `x` to `end` are a position's columns,
 * filled up to a multiple of four; products go to `out`, [tiles][8 rows].
 */
import { spread0, spread1, spread2, spread3 } from "./x.as.ts";
import { FAST } from "../../weights/plain.as.ts";
import { wholeHalves } from "../../weights/read.as.ts";

/** Masks lie in memory: see quants.as.ts. */
const HIGH_HALF: usize = memory.data<u32>([0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000], 16);
const LOW_HALF: usize = memory.data<u32>([8192, 8192, 8192, 8192], 16);
const HALF_BITS: usize = memory.data<u32>([0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000], 16);

/** Bytes of 64 columns of x. */
const PIECE: usize = 256;

/** The first of two halves in each lane, its sign, exponent and mantissa where they are in an f32: a product with 2¹³ is one shift. */
@inline
function lowHalf(words: v128, low: v128, mask: v128): v128 {
  return v128.and(i32x4.dot_i16x8_s(words, low), mask);
}

/** The second. */
@inline
function highHalf(words: v128, mask: v128): v128 {
  return v128.and(i32x4.shr_s(words, 3), mask);
}

/** F32: see above. */
export function floats(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const zero = i32x4.splat(0), past = out + (<usize> tiles << 5);
  let p: v128, q: v128, x4: v128, s: v128;
  for (let to = out; to < past; to += 16) v128.store(to, zero);
  while (x < end) {
    const first = x, last = min(end, x + PIECE);
    let tile = at;
    for (let to = out, next = at; to < past; to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
      for (x = first, tile = next; x < last; x += 16) {
        x4 = v128.load(x);
        p = v128.load(tile); q = v128.load(tile, 16);
        s = spread0(x4);
        a0 = f32x4.relaxed_madd(s, p, a0); b0 = f32x4.relaxed_madd(s, q, b0);
        p = v128.load(tile, 32); q = v128.load(tile, 48);
        s = spread1(x4);
        a1 = f32x4.relaxed_madd(s, p, a1); b1 = f32x4.relaxed_madd(s, q, b1);
        p = v128.load(tile, 64); q = v128.load(tile, 80);
        s = spread2(x4);
        a2 = f32x4.relaxed_madd(s, p, a2); b2 = f32x4.relaxed_madd(s, q, b2);
        p = v128.load(tile, 96); q = v128.load(tile, 112);
        s = spread3(x4);
        a3 = f32x4.relaxed_madd(s, p, a3); b3 = f32x4.relaxed_madd(s, q, b3);
        tile += 128;
      }
      a0 = f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
      b0 = f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3));
      v128.store(to, f32x4.add(v128.load(to), a0));
      v128.store(to, f32x4.add(v128.load(to, 16), b0), 16);
      next += stride;
    }
    at += 2048;
  }
}

/** BF16: see above. */
export function brainFloats(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HIGH_HALF);
  const zero = i32x4.splat(0), past = out + (<usize> tiles << 5);
  let words: v128, x4: v128, s: v128;
  for (let to = out; to < past; to += 16) v128.store(to, zero);
  while (x < end) {
    const first = x, last = min(end, x + PIECE);
    let tile = at;
    for (let to = out, next = at; to < past; to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
      for (x = first, tile = next; x < last; x += 16) {
        x4 = v128.load(x);
        words = v128.load(tile);
        s = spread0(x4);
        a0 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a0); b0 = f32x4.relaxed_madd(s, v128.and(words, mask), b0);
        words = v128.load(tile, 16);
        s = spread1(x4);
        a1 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a1); b1 = f32x4.relaxed_madd(s, v128.and(words, mask), b1);
        words = v128.load(tile, 32);
        s = spread2(x4);
        a2 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a2); b2 = f32x4.relaxed_madd(s, v128.and(words, mask), b2);
        words = v128.load(tile, 48);
        s = spread3(x4);
        a3 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a3); b3 = f32x4.relaxed_madd(s, v128.and(words, mask), b3);
        tile += 64;
      }
      a0 = f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
      b0 = f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3));
      v128.store(to, f32x4.add(v128.load(to), a0));
      v128.store(to, f32x4.add(v128.load(to, 16), b0), 16);
      next += stride;
    }
    at += 1024;
  }
}

/** F16, stored 2¹⁰ times as large, read 2¹¹² times too small (see plain.as.ts of the weights); x is large for that: see above. */
function fastHalves(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HALF_BITS), low = v128.load(LOW_HALF);
  const zero = i32x4.splat(0), past = out + (<usize> tiles << 5);
  let words: v128, x4: v128, s: v128;
  for (let to = out; to < past; to += 16) v128.store(to, zero);
  while (x < end) {
    const first = x, last = min(end, x + PIECE);
    let tile = at;
    for (let to = out, next = at; to < past; to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
      for (x = first, tile = next; x < last; x += 16) {
        x4 = v128.load(x);
        words = v128.load(tile);
        s = spread0(x4);
        a0 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a0); b0 = f32x4.relaxed_madd(s, highHalf(words, mask), b0);
        words = v128.load(tile, 16);
        s = spread1(x4);
        a1 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a1); b1 = f32x4.relaxed_madd(s, highHalf(words, mask), b1);
        words = v128.load(tile, 32);
        s = spread2(x4);
        a2 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a2); b2 = f32x4.relaxed_madd(s, highHalf(words, mask), b2);
        words = v128.load(tile, 48);
        s = spread3(x4);
        a3 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a3); b3 = f32x4.relaxed_madd(s, highHalf(words, mask), b3);
        tile += 64;
      }
      a0 = f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
      b0 = f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3));
      v128.store(to, f32x4.add(v128.load(to), a0));
      v128.store(to, f32x4.add(v128.load(to, 16), b0), 16);
      next += stride;
    }
    at += 1024;
  }
}

/** F16 of any size: see above. */
function rawHalves(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HALF_BITS), low = v128.load(LOW_HALF);
  const zero = i32x4.splat(0), past = out + (<usize> tiles << 5);
  let words: v128, x4: v128, s: v128;
  for (let to = out; to < past; to += 16) v128.store(to, zero);
  while (x < end) {
    const first = x, last = min(end, x + PIECE);
    let tile = at;
    for (let to = out, next = at; to < past; to += 32) {
      let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
      for (x = first, tile = next; x < last; x += 16) {
        x4 = v128.load(x);
        words = v128.load(tile);
        s = spread0(x4);
        a0 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a0); b0 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b0);
        words = v128.load(tile, 16);
        s = spread1(x4);
        a1 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a1); b1 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b1);
        words = v128.load(tile, 32);
        s = spread2(x4);
        a2 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a2); b2 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b2);
        words = v128.load(tile, 48);
        s = spread3(x4);
        a3 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a3); b3 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b3);
        tile += 64;
      }
      a0 = f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3));
      b0 = f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3));
      v128.store(to, f32x4.add(v128.load(to), a0));
      v128.store(to, f32x4.add(v128.load(to, 16), b0), 16);
      next += stride;
    }
    at += 1024;
  }
}

/** F16: `x` is what {@linkcode turnScaled} makes, its first word with it. */
export function halves(at: usize, stride: usize, tiles: i32, x: usize, end: usize, out: usize): void {
  const power = f32x4.splat(load<f32>(x));
  for (let tile = 0; tile < tiles;) {
    // Neighbours that are stored alike are read together.
    const kind = load<u32>(at);
    let count = 1;
    while (tile + count < tiles && load<u32>(at + <usize> count * stride) == kind) count++;
    if (kind == FAST) fastHalves(at + 16, stride, count, x + 16, end, out);
    else rawHalves(at + 16, stride, count, x + 16, end, out);
    // 2⁷² = 2¹¹² / 2¹⁰ / 2³⁰, or 2⁻³⁰.
    const back = f32x4.splat(reinterpret<f32>(kind == FAST ? 0x63800000 : 0x30800000));
    for (const past = out + (<usize> count << 5); out < past; out += 16) {
      v128.store(out, f32x4.mul(f32x4.mul(v128.load(out), back), power));
    }
    tile += count;
    at += <usize> count * stride;
  }
}
