// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Products of one tile of plain floats with one position. Columns are taken by fours, each with sums of its own (an addition waits four
 * cycles for the one before), which are added to a running total after 64 columns at most: errors of long sums stay small.
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

/** F32: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
export function floats(at: usize, x: usize, end: usize, out: usize): void {
  const zero = i32x4.splat(0);
  let p: v128, q: v128, x4: v128, s: v128;
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      x4 = v128.load(x);
      p = v128.load(at); q = v128.load(at, 16);
      s = spread0(x4);
      a0 = f32x4.relaxed_madd(s, p, a0); b0 = f32x4.relaxed_madd(s, q, b0);
      p = v128.load(at, 32); q = v128.load(at, 48);
      s = spread1(x4);
      a1 = f32x4.relaxed_madd(s, p, a1); b1 = f32x4.relaxed_madd(s, q, b1);
      p = v128.load(at, 64); q = v128.load(at, 80);
      s = spread2(x4);
      a2 = f32x4.relaxed_madd(s, p, a2); b2 = f32x4.relaxed_madd(s, q, b2);
      p = v128.load(at, 96); q = v128.load(at, 112);
      s = spread3(x4);
      a3 = f32x4.relaxed_madd(s, p, a3); b3 = f32x4.relaxed_madd(s, q, b3);
      at += 128;
    }
    sumA = f32x4.add(sumA, f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    sumB = f32x4.add(sumB, f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3)));
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** BF16: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
export function brainFloats(at: usize, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HIGH_HALF);
  const zero = i32x4.splat(0);
  let words: v128, x4: v128, s: v128;
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      x4 = v128.load(x);
      words = v128.load(at);
      s = spread0(x4);
      a0 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a0); b0 = f32x4.relaxed_madd(s, v128.and(words, mask), b0);
      words = v128.load(at, 16);
      s = spread1(x4);
      a1 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a1); b1 = f32x4.relaxed_madd(s, v128.and(words, mask), b1);
      words = v128.load(at, 32);
      s = spread2(x4);
      a2 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a2); b2 = f32x4.relaxed_madd(s, v128.and(words, mask), b2);
      words = v128.load(at, 48);
      s = spread3(x4);
      a3 = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a3); b3 = f32x4.relaxed_madd(s, v128.and(words, mask), b3);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    sumB = f32x4.add(sumB, f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3)));
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** F16, stored 2¹⁰ times as large, read 2¹¹² times too small (see plain.as.ts of the weights); x is large for that: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
function fastHalves(at: usize, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HALF_BITS), low = v128.load(LOW_HALF);
  const zero = i32x4.splat(0);
  let words: v128, x4: v128, s: v128;
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      x4 = v128.load(x);
      words = v128.load(at);
      s = spread0(x4);
      a0 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a0); b0 = f32x4.relaxed_madd(s, highHalf(words, mask), b0);
      words = v128.load(at, 16);
      s = spread1(x4);
      a1 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a1); b1 = f32x4.relaxed_madd(s, highHalf(words, mask), b1);
      words = v128.load(at, 32);
      s = spread2(x4);
      a2 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a2); b2 = f32x4.relaxed_madd(s, highHalf(words, mask), b2);
      words = v128.load(at, 48);
      s = spread3(x4);
      a3 = f32x4.relaxed_madd(s, lowHalf(words, low, mask), a3); b3 = f32x4.relaxed_madd(s, highHalf(words, mask), b3);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    sumB = f32x4.add(sumB, f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3)));
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** F16 of any size: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
function rawHalves(at: usize, x: usize, end: usize, out: usize): void {
  const mask = v128.load(HALF_BITS), low = v128.load(LOW_HALF);
  const zero = i32x4.splat(0);
  let words: v128, x4: v128, s: v128;
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      x4 = v128.load(x);
      words = v128.load(at);
      s = spread0(x4);
      a0 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a0); b0 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b0);
      words = v128.load(at, 16);
      s = spread1(x4);
      a1 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a1); b1 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b1);
      words = v128.load(at, 32);
      s = spread2(x4);
      a2 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a2); b2 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b2);
      words = v128.load(at, 48);
      s = spread3(x4);
      a3 = f32x4.relaxed_madd(s, wholeHalves(lowHalf(words, low, mask)), a3); b3 = f32x4.relaxed_madd(s, wholeHalves(highHalf(words, mask)), b3);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    sumB = f32x4.add(sumB, f32x4.add(f32x4.add(b0, b1), f32x4.add(b2, b3)));
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** F16: `x` is what {@linkcode turnScaled} makes, its first word with it. */
export function halves(at: usize, x: usize, end: usize, out: usize): void {
  const fast = load<u32>(at) == FAST, power = f32x4.splat(load<f32>(x));
  if (fast) fastHalves(at + 16, x + 16, end, out);
  else rawHalves(at + 16, x + 16, end, out);
  // 2⁷² = 2¹¹² / 2¹⁰ / 2³⁰, or 2⁻³⁰.
  const back = f32x4.splat(reinterpret<f32>(fast ? 0x63800000 : 0x30800000));
  v128.store(out, f32x4.mul(f32x4.mul(v128.load(out), back), power));
  v128.store(out, f32x4.mul(f32x4.mul(v128.load(out, 16), back), power), 16);
}
