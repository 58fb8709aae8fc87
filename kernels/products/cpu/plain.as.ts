// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/**
 * Products of one tile of plain floats with one position. Columns are taken by fours; even and odd ones have sums of their own, which are
 * added to a running total after 64 columns at most: errors of long sums stay small.
 */
import { spread0, spread1, spread2, spread3 } from "./x.as.ts";
import { FAST } from "../../weights/plain.as.ts";
import { wholeHalves } from "../../weights/read.as.ts";

/** Bytes of 64 columns of x. */
const PIECE: usize = 256;

/** F32: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
export function floats(at: usize, x: usize, end: usize, out: usize): void {
  const zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a = zero, b = zero, c = zero, d = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      const four = v128.load(x);
      let s = spread0(four);
      a = f32x4.relaxed_madd(s, v128.load(at, 0), a);
      b = f32x4.relaxed_madd(s, v128.load(at, 16), b);
      s = spread1(four);
      c = f32x4.relaxed_madd(s, v128.load(at, 32), c);
      d = f32x4.relaxed_madd(s, v128.load(at, 48), d);
      s = spread2(four);
      a = f32x4.relaxed_madd(s, v128.load(at, 64), a);
      b = f32x4.relaxed_madd(s, v128.load(at, 80), b);
      s = spread3(four);
      c = f32x4.relaxed_madd(s, v128.load(at, 96), c);
      d = f32x4.relaxed_madd(s, v128.load(at, 112), d);
      at += 128;
    }
    sumA = f32x4.add(sumA, f32x4.add(a, c));
    sumB = f32x4.add(sumB, f32x4.add(b, d));
  }

  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** BF16: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
export function brainFloats(at: usize, x: usize, end: usize, out: usize): void {
  const mask = i32x4.splat(<i32> 0xffff0000);
  const zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a = zero, b = zero, c = zero, d = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      const four = v128.load(x);
      let words = v128.load(at, 0);
      let s = spread0(four);
      a = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a);
      b = f32x4.relaxed_madd(s, v128.and(words, mask), b);
      words = v128.load(at, 16);
      s = spread1(four);
      c = f32x4.relaxed_madd(s, i32x4.shl(words, 16), c);
      d = f32x4.relaxed_madd(s, v128.and(words, mask), d);
      words = v128.load(at, 32);
      s = spread2(four);
      a = f32x4.relaxed_madd(s, i32x4.shl(words, 16), a);
      b = f32x4.relaxed_madd(s, v128.and(words, mask), b);
      words = v128.load(at, 48);
      s = spread3(four);
      c = f32x4.relaxed_madd(s, i32x4.shl(words, 16), c);
      d = f32x4.relaxed_madd(s, v128.and(words, mask), d);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(a, c));
    sumB = f32x4.add(sumB, f32x4.add(b, d));
  }

  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** F16, stored 2¹⁰ times as large, read 2¹¹² times too small (see plain.as.ts of the weights); x is large for that: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
function fastHalves(at: usize, x: usize, end: usize, out: usize): void {
  const mask = i32x4.splat(<i32> 0x8fffe000);
  const zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a = zero, b = zero, c = zero, d = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      const four = v128.load(x);
      let words = v128.load(at, 0);
      let s = spread0(four);
      a = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask), a);
      b = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(words, 3), mask), b);
      words = v128.load(at, 16);
      s = spread1(four);
      c = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask), c);
      d = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(words, 3), mask), d);
      words = v128.load(at, 32);
      s = spread2(four);
      a = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask), a);
      b = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(words, 3), mask), b);
      words = v128.load(at, 48);
      s = spread3(four);
      c = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask), c);
      d = f32x4.relaxed_madd(s, v128.and(i32x4.shr_s(words, 3), mask), d);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(a, c));
    sumB = f32x4.add(sumB, f32x4.add(b, d));
  }

  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** F16 of any size: eight rows' products, f32, to `out`. `x` to `end` are a position's columns, filled up to a multiple of four. */
function rawHalves(at: usize, x: usize, end: usize, out: usize): void {
  const mask = i32x4.splat(<i32> 0x8fffe000);
  const zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a = zero, b = zero, c = zero, d = zero;
    for (const last = min(end, x + PIECE); x < last; x += 16) {
      const four = v128.load(x);
      let words = v128.load(at, 0);
      let s = spread0(four);
      a = f32x4.relaxed_madd(
        s,
        wholeHalves(v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask)),
        a,
      );
      b = f32x4.relaxed_madd(s, wholeHalves(v128.and(i32x4.shr_s(words, 3), mask)), b);
      words = v128.load(at, 16);
      s = spread1(four);
      c = f32x4.relaxed_madd(
        s,
        wholeHalves(v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask)),
        c,
      );
      d = f32x4.relaxed_madd(s, wholeHalves(v128.and(i32x4.shr_s(words, 3), mask)), d);
      words = v128.load(at, 32);
      s = spread2(four);
      a = f32x4.relaxed_madd(
        s,
        wholeHalves(v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask)),
        a,
      );
      b = f32x4.relaxed_madd(s, wholeHalves(v128.and(i32x4.shr_s(words, 3), mask)), b);
      words = v128.load(at, 48);
      s = spread3(four);
      c = f32x4.relaxed_madd(
        s,
        wholeHalves(v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask)),
        c,
      );
      d = f32x4.relaxed_madd(s, wholeHalves(v128.and(i32x4.shr_s(words, 3), mask)), d);
      at += 64;
    }
    sumA = f32x4.add(sumA, f32x4.add(a, c));
    sumB = f32x4.add(sumB, f32x4.add(b, d));
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
