// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/**
 * Products of one tile of quants with one position: sums of whole numbers (see x.as.ts), four rows in a vector. `a` is the first four
 * rows, `b` the last four; 0, 1 and 2 are the digits of x. What is loaded of x serves all eight rows.
 */
import { SIGNED_BYTES, spread0, spread1, spread2, spread3 } from "./x.as.ts";

/** Sums of digits, the first two together, as f32 in units of x's power. */

function joined(sum01: v128, sum2: v128): v128 {
  return f32x4.relaxed_madd(
    f32x4.convert_i32x4_s(sum01),
    f32x4.splat(256),
    f32x4.convert_i32x4_s(sum2),
  );
}

function dot(x: v128, weights: v128, sum: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, weights, sum);
}

/** Nibbles: `parts` times 16 columns have a scale in common; quants are 2^`shift` too large, or have minimums where it is 0. */

function nibbles(at: usize, x: usize, end: usize, out: usize, parts: usize, shift: i32): void {
  const mask = i8x16.splat(15), zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero;
    let b0 = zero, b1 = zero, b2 = zero;
    const words = v128.load(x + (parts == 2 ? 16 : 0));
    if (shift) {
      const less = i32x4.shl(words, shift);
      a1 = b1 = spread0(less);
      a2 = b2 = spread1(less);
    }
    for (
      let digits = x + 32, last = digits + parts * SIGNED_BYTES;
      digits < last;
      digits += SIGNED_BYTES
    ) {
      const x0 = v128.load(digits), x1 = v128.load(digits, 16), x2 = v128.load(digits, 32);
      let q = v128.load(at, 0);
      let p = v128.load(at, 16);
      let u = v128.and(q, mask), v = v128.and(p, mask);
      let s = spread0(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread0(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread0(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      u = v128.and(i16x8.shr_u(q, 4), mask);
      v = v128.and(i16x8.shr_u(p, 4), mask);
      s = spread2(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread2(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread2(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      q = v128.load(at, 32);
      p = v128.load(at, 48);
      u = v128.and(q, mask);
      v = v128.and(p, mask);
      s = spread1(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread1(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread1(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      u = v128.and(i16x8.shr_u(q, 4), mask);
      v = v128.and(i16x8.shr_u(p, 4), mask);
      s = spread3(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread3(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread3(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      at += 64;
    }
    const power = spread2(words);
    a0 = joined(i32x4.add(i32x4.shl(a0, 8), a1), a2);
    b0 = joined(i32x4.add(i32x4.shl(b0, 8), b1), b2);
    sumA = f32x4.relaxed_madd(f32x4.mul(a0, power), v128.load(at), sumA);
    sumB = f32x4.relaxed_madd(f32x4.mul(b0, power), v128.load(at, 16), sumB);
    if (!shift) {
      const total = spread3(words);
      sumA = f32x4.relaxed_madd(total, v128.load(at, 32), sumA);
      sumB = f32x4.relaxed_madd(total, v128.load(at, 48), sumB);
    }
    at += shift ? 32 : 64;
    x += parts * SIGNED_BYTES;
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** Bytes from 0 to 127, as nibbles. */

function bytes(at: usize, x: usize, end: usize, out: usize, parts: usize, shift: i32): void {
  const zero = i32x4.splat(0);
  let sumA = zero, sumB = zero;
  while (x < end) {
    let a0 = zero, a1 = zero, a2 = zero;
    let b0 = zero, b1 = zero, b2 = zero;
    const words = v128.load(x + (parts == 2 ? 16 : 0));
    if (shift) {
      const less = i32x4.shl(words, shift);
      a1 = b1 = spread0(less);
      a2 = b2 = spread1(less);
    }
    for (
      let digits = x + 32, last = digits + parts * SIGNED_BYTES;
      digits < last;
      digits += SIGNED_BYTES
    ) {
      const x0 = v128.load(digits), x1 = v128.load(digits, 16), x2 = v128.load(digits, 32);
      let u = v128.load(at, 0), v = v128.load(at, 16);
      let s = spread0(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread0(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread0(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      u = v128.load(at, 32);
      v = v128.load(at, 48);
      s = spread1(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread1(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread1(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      u = v128.load(at, 64);
      v = v128.load(at, 80);
      s = spread2(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread2(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread2(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      u = v128.load(at, 96);
      v = v128.load(at, 112);
      s = spread3(x0);
      a0 = dot(s, u, a0);
      b0 = dot(s, v, b0);
      s = spread3(x1);
      a1 = dot(s, u, a1);
      b1 = dot(s, v, b1);
      s = spread3(x2);
      a2 = dot(s, u, a2);
      b2 = dot(s, v, b2);
      at += 128;
    }
    const power = spread2(words);
    a0 = joined(i32x4.add(i32x4.shl(a0, 8), a1), a2);
    b0 = joined(i32x4.add(i32x4.shl(b0, 8), b1), b2);
    sumA = f32x4.relaxed_madd(f32x4.mul(a0, power), v128.load(at), sumA);
    sumB = f32x4.relaxed_madd(f32x4.mul(b0, power), v128.load(at, 16), sumB);
    if (!shift) {
      const total = spread3(words);
      sumA = f32x4.relaxed_madd(total, v128.load(at, 32), sumA);
      sumB = f32x4.relaxed_madd(total, v128.load(at, 48), sumB);
    }
    at += shift ? 32 : 64;
    x += parts * SIGNED_BYTES;
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** Signed bytes with x in digits of 7 bits, without a sign: an offset of 64 in the first digit, which the stored sums take back. */
export function signed(at: usize, x: usize, end: usize, out: usize): void {
  const zero = i32x4.splat(0), first = f32x4.splat(16384);
  let sumA = zero, sumB = zero;
  while (x < end) {
    const less = v128.load(at, 288), power = spread0(v128.load(x));
    let a0 = i32x4.shl(i32x4.extend_low_i16x8_s(less), 6), a1 = zero, a2 = zero, a3 = zero;
    let b0 = i32x4.shl(i32x4.extend_high_i16x8_s(less), 6), b1 = zero, b2 = zero, b3 = zero;
    x += 16;
    for (const last = x + 128; x < last; x += 64) {
      const x0 = v128.load(x), x1 = v128.load(x, 16), x2 = v128.load(x, 32), x3 = v128.load(x, 48);
      let u = v128.load(at, 0), v = v128.load(at, 16);
      let s = spread0(x0);
      a0 = dot(u, s, a0);
      b0 = dot(v, s, b0);
      s = spread0(x1);
      a1 = dot(u, s, a1);
      b1 = dot(v, s, b1);
      s = spread0(x2);
      a2 = dot(u, s, a2);
      b2 = dot(v, s, b2);
      s = spread0(x3);
      a3 = dot(u, s, a3);
      b3 = dot(v, s, b3);
      u = v128.load(at, 32);
      v = v128.load(at, 48);
      s = spread1(x0);
      a0 = dot(u, s, a0);
      b0 = dot(v, s, b0);
      s = spread1(x1);
      a1 = dot(u, s, a1);
      b1 = dot(v, s, b1);
      s = spread1(x2);
      a2 = dot(u, s, a2);
      b2 = dot(v, s, b2);
      s = spread1(x3);
      a3 = dot(u, s, a3);
      b3 = dot(v, s, b3);
      u = v128.load(at, 64);
      v = v128.load(at, 80);
      s = spread2(x0);
      a0 = dot(u, s, a0);
      b0 = dot(v, s, b0);
      s = spread2(x1);
      a1 = dot(u, s, a1);
      b1 = dot(v, s, b1);
      s = spread2(x2);
      a2 = dot(u, s, a2);
      b2 = dot(v, s, b2);
      s = spread2(x3);
      a3 = dot(u, s, a3);
      b3 = dot(v, s, b3);
      u = v128.load(at, 96);
      v = v128.load(at, 112);
      s = spread3(x0);
      a0 = dot(u, s, a0);
      b0 = dot(v, s, b0);
      s = spread3(x1);
      a1 = dot(u, s, a1);
      b1 = dot(v, s, b1);
      s = spread3(x2);
      a2 = dot(u, s, a2);
      b2 = dot(v, s, b2);
      s = spread3(x3);
      a3 = dot(u, s, a3);
      b3 = dot(v, s, b3);
      at += 128;
    }
    a1 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(a0, 7), a1));
    a3 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(a2, 7), a3));
    b1 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(b0, 7), b1));
    b3 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(b2, 7), b3));
    a1 = f32x4.mul(f32x4.relaxed_madd(a1, first, a3), power);
    b1 = f32x4.mul(f32x4.relaxed_madd(b1, first, b3), power);
    sumA = f32x4.relaxed_madd(a1, v128.load(at), sumA);
    sumB = f32x4.relaxed_madd(b1, v128.load(at, 16), sumB);
    at += 48;
  }
  v128.store(out, sumA);
  v128.store(out, sumB, 16);
}

/** Q4_0: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function nibbles32less8(at: usize, x: usize, end: usize, out: usize): void {
  nibbles(at, x, end, out, 2, 3);
}

/** Q4_1 and Q4_K: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function nibbles32(at: usize, x: usize, end: usize, out: usize): void {
  nibbles(at, x, end, out, 2, 0);
}

/** Q3_K: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function nibbles16less4(at: usize, x: usize, end: usize, out: usize): void {
  nibbles(at, x, end, out, 1, 2);
}

/** Q2_K: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function nibbles16(at: usize, x: usize, end: usize, out: usize): void {
  nibbles(at, x, end, out, 1, 0);
}

/** Q5_0: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function bytes32less16(at: usize, x: usize, end: usize, out: usize): void {
  bytes(at, x, end, out, 2, 4);
}

/** Q5_1 and Q5_K: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function bytes32(at: usize, x: usize, end: usize, out: usize): void {
  bytes(at, x, end, out, 2, 0);
}

/** Q6_K: eight rows' products, f32, to `out`. `x` to `end` is a position's record. */
export function bytes16less32(at: usize, x: usize, end: usize, out: usize): void {
  bytes(at, x, end, out, 1, 5);
}
