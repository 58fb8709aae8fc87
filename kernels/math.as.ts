// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Functions that the processor has no instruction for. */

/** Constants lie in memory, four times each: those that the compiler knows are put together anew at every use. */
const EXP: usize = memory.data<f32>([
  -104, -104, -104, -104, // below it e^x is 0
  89, 89, 89, 89, // above it e^x is infinite
  1.44269502162933349609375, 1.44269502162933349609375, 1.44269502162933349609375, 1.44269502162933349609375, // log₂e
  12582912, 12582912, 12582912, 12582912, // 1.5 · 2²³: a sum with it is rounded to a whole number
  -0.693359375, -0.693359375, -0.693359375, -0.693359375, // −ln 2, so short that its products are exact
  0.000212194440, 0.000212194440, 0.000212194440, 0.000212194440, // the rest of it
  0.0013814547564834356, 0.0013814547564834356, 0.0013814547564834356, 0.0013814547564834356,
  0.008368747308850288, 0.008368747308850288, 0.008368747308850288, 0.008368747308850288,
  0.04166838899254799, 0.04166838899254799, 0.04166838899254799, 0.04166838899254799,
  0.1666651964187622, 0.1666651964187622, 0.1666651964187622, 0.1666651964187622,
  0.4999999403953552, 0.4999999403953552, 0.4999999403953552, 0.4999999403953552,
  1, 1, 1, 1,
  -87.3, -87.3, -87.3, -87.3, // below it e^x is subnormal, or about to be
], 16);

/**
 * e^x of four numbers, to about 1 ulp; 0 and infinity where it is beyond what f32 holds, subnormal numbers between, NaN for NaN.
 *
 * e^x = 2ⁿ · e^r with n = round(x · log₂e). ln 2 is subtracted in two parts (Cody & Waite, "Software Manual for the Elementary
 * Functions", 1980). e^r = 1 + r + r² · p(r), and p, of degree 4, is the minimax polynomial of its relative error for |r| ≤ ln 2 / 2:
 * 4.5e-9 with these coefficients, found by iteratively reweighted least squares. 2ⁿ is multiplied in two steps, since n reaches −150.
 */
@inline
export function exp4(x: v128): v128 {
  // Of pmin and pmax the first argument stays where it is NaN.
  x = f32x4.pmin(f32x4.pmax(x, v128.load(EXP)), v128.load(EXP, 16));
  const shifted = f32x4.relaxed_madd(x, v128.load(EXP, 32), v128.load(EXP, 48));
  const n = f32x4.sub(shifted, v128.load(EXP, 48));
  let r = f32x4.relaxed_madd(n, v128.load(EXP, 64), x);
  r = f32x4.relaxed_madd(n, v128.load(EXP, 80), r);
  let p = f32x4.relaxed_madd(v128.load(EXP, 96), r, v128.load(EXP, 112));
  p = f32x4.relaxed_madd(p, r, v128.load(EXP, 128));
  p = f32x4.relaxed_madd(p, r, v128.load(EXP, 144));
  p = f32x4.relaxed_madd(p, r, v128.load(EXP, 160));
  p = f32x4.relaxed_madd(p, f32x4.mul(r, r), r);
  p = f32x4.add(p, v128.load(EXP, 176));
  const whole = i32x4.sub(shifted, v128.load(EXP, 48));
  const half = i32x4.shr_s(whole, 1);
  const first = i32x4.add(i32x4.shl(half, 23), v128.load(EXP, 176));
  const second = i32x4.add(i32x4.shl(i32x4.sub(whole, half), 23), v128.load(EXP, 176));
  return f32x4.mul(f32x4.mul(p, first), second);
}

/** e^x of one number, with the bits that {@linkcode exp4} gives. */
@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

/**
 * Softmax's weights: y = e^(x − largest) for the numbers from x to `end`, whole vectors, none above `largest`. Weights that would be
 * subnormal are 0, whatever x is, NaN stays NaN. A subnormal aside, these are the bits of {@linkcode exp4} or its neighbours.
 *
 * @returns four sums of them
 */
export function weights(x: usize, end: usize, y: usize, largest: v128): v128 {
  const log2e = v128.load(EXP, 32), rounder = v128.load(EXP, 48);
  const ln2 = v128.load(EXP, 64), rest = v128.load(EXP, 80);
  const c6 = v128.load(EXP, 96), c5 = v128.load(EXP, 112), c4 = v128.load(EXP, 128);
  const c3 = v128.load(EXP, 144), c2 = v128.load(EXP, 160);
  const one = v128.load(EXP, 176), least = v128.load(EXP, 192);
  let sum = f32x4.splat(0);
  for (; x < end; x += 16, y += 16) {
    const distance = f32x4.sub(v128.load(x), largest);
    const shifted = f32x4.relaxed_madd(distance, log2e, rounder);
    const n = f32x4.sub(shifted, rounder);
    let r = f32x4.relaxed_madd(n, ln2, distance);
    r = f32x4.relaxed_madd(n, rest, r);
    let p = f32x4.relaxed_madd(c6, r, c5);
    p = f32x4.relaxed_madd(p, r, c4);
    p = f32x4.relaxed_madd(p, r, c3);
    p = f32x4.relaxed_madd(p, r, c2);
    p = f32x4.relaxed_madd(p, f32x4.mul(r, r), r);
    p = f32x4.add(p, one);
    p = f32x4.mul(p, i32x4.add(i32x4.shl(shifted, 23), one));
    // What is wrong far below, −∞ included, goes here.
    p = v128.andnot(p, f32x4.lt(distance, least));
    v128.store(y, p);
    sum = f32x4.add(sum, p);
  }
  return sum;
}

const TANH: usize = memory.data<f32>([
  0.625, 0.625, 0.625, 0.625,
  -0.00570499, -0.00570499, -0.00570499, -0.00570499,
  0.02063909, 0.02063909, 0.02063909, 0.02063909,
  -0.053739715, -0.053739715, -0.053739715, -0.053739715,
  0.13331442, 0.13331442, 0.13331442, 0.13331442,
  -0.3333328, -0.3333328, -0.3333328, -0.3333328,
  40, 40, 40, 40, // from 20 on tanh is 1
], 16);

/** tanh of four numbers, to a few ulp: see tanh.wgsl. */
@inline
export function tanh4(x: v128): v128 {
  const size = f32x4.abs(x), z = f32x4.mul(x, x), one = v128.load(EXP, 176);
  let p = f32x4.relaxed_madd(z, v128.load(TANH, 16), v128.load(TANH, 32));
  p = f32x4.relaxed_madd(z, p, v128.load(TANH, 48));
  p = f32x4.relaxed_madd(z, p, v128.load(TANH, 64));
  p = f32x4.relaxed_madd(z, p, v128.load(TANH, 80));
  const small = f32x4.relaxed_madd(f32x4.mul(x, z), p, x);
  const power = exp4(f32x4.pmin(f32x4.add(size, size), v128.load(TANH, 96)));
  const large = f32x4.sub(one, f32x4.div(f32x4.add(one, one), f32x4.add(power, one)));
  const signed = v128.or(large, v128.xor(x, size));
  return v128.bitselect(small, signed, f32x4.le(size, v128.load(TANH)));
}
