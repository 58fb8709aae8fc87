/** How far activations and scales may be off: the rules of bounds.ts for functions of one number. */
import {
  activate,
  ACTIVATIONS,
  gated,
  geluTanhExponent,
  normalBelow,
  sigmoid,
  softplus,
} from "../../kernels/elementwise/activations.ts";
import type { Constants } from "../../kernels/kernel.ts";
import { growth, TINY, ULP } from "./rounding.ts";

/** Beyond ±80 exponents are kept there, which leaves that much of a number that should have nothing left. */
const LEFT = 2 * Math.exp(-80);

/** ULP of 1 / (1 + exp(−w)) where w is off by `ulps` of its own: exp's error counts as much as exp does beside 1; then a sum and a quotient. */
function sigmoidUlps(w: number, ulps = 0): number {
  return (3 + (2 + ulps) * Math.abs(w)) * (1 - sigmoid(w)) + 1 + 2.5;
}

/**
 * ULP of Φ(−a): 26 of its polynomial, whose terms together are 2.3 times as large as it is; t is off by 3.5, which counts 2.7-fold at most; exp,
 * and the two roundings of its exponent.
 */
function tailUlps(a: number): number {
  return 26 + 2.7 * 3.5 + 3 + (2 + 2) * a * a / 2 + 2;
}

/** That many ULP of a size; of nothing none, however many. */
function share(size: number, ulps: number): number {
  return size === 0 ? 0 : size * growth(ulps);
}

/** By place in ACTIVATIONS: ULP of act(x), and how far it may be off beside. */
const OWN: readonly ((x: number) => readonly [ulps: number, beside: number])[] = [
  (x) => [sigmoidUlps(x), x < -80 ? Math.abs(x) * LEFT : 0],
  (x) => {
    const w = geluTanhExponent(x);
    // A square, a sum with a product, two products, and two constants.
    return [sigmoidUlps(w, 6), w < -80 ? Math.abs(x) * LEFT : 0];
  },
  (x) => {
    const tail = normalBelow(-Math.abs(x));
    const ulps = tailUlps(Math.min(14, Math.abs(x)));
    return [x < 0 ? ulps + 1 : (ulps + 1) * tail / (1 - tail) + 1, Math.abs(x) * 2 * TINY];
  },
  () => [1, 0],
  () => [0, 0],
  (x) => [sigmoidUlps(x), x < -80 ? LEFT : 0],
];

/** By place in ACTIVATIONS: what the derivative's magnitude stays below, within δ of x. */
const STEEPEST: readonly ((x: number, δ: number) => number)[] = [
  () => 1.1,
  () => 1.13,
  () => 1.13,
  (x, δ) => 2 * (Math.abs(x) + δ),
  () => 1,
  () => 0.25,
];

/** The error of act(x), and of `more` rounded operations on it, where x is off by as much as is given. */
export function activatedError(activation: number, x: number, error = 0, more = 0): number {
  const [ulps, beside] = OWN[activation](x);
  return share(Math.abs(activate(activation, x)), ulps + more + 0.5) + beside +
    STEEPEST[activation](x, error) * error;
}

/** The error of act(gate) · up where gate and up are off by as much as is given. */
export function gatedError(
  activation: number,
  gate: number,
  up: number,
  gateError = 0,
  upError = 0,
): number {
  const tiny = 2 * TINY * (1 + Math.abs(up));
  if (ACTIVATIONS[activation] !== "swiglu_clamped") {
    const act = activatedError(activation, gate, gateError, 1);
    return act * (Math.abs(up) + upError) + Math.abs(activate(activation, gate)) * upError + tiny;
  }
  const g = Math.min(gate, 7);
  const w = 1.702 * g;
  const factor = Math.abs(Math.max(-7, Math.min(up, 7)) + 1) + upError;
  const size = Math.abs(g) * sigmoid(w);
  // The sigmoid's exponent is a product with a constant; the factor is a sum; and the product of both.
  const own = share(size, sigmoidUlps(w, 2) + 1 + 1 + 0.5) + (w < -80 ? Math.abs(g) * LEFT : 0);
  return (own + 1.1 * gateError) * factor + size * upError + tiny +
    ULP * Math.abs(gated(activation, gate, up));
}

/** The error of xIELU: see xielu.wgsl. */
export function xieluError(x: number, { alpha_n, alpha_p, beta, epsilon }: Constants): number {
  // exp, a quotient, a square, the sum of eight terms that shrink ninefold, two products and a sum.
  const slope = growth(3 + 2 * 1 + 1 + 2.5 + 2 + 4 + 2 + 1);
  const line = Math.abs(beta * x);
  if (x > 0) {
    const bend = softplus(alpha_p) * x * x;
    return bend * (slope + growth(4)) + line * growth(3) + TINY;
  }
  const low = Math.min(x, epsilon);
  const fall = Math.abs(beta) + softplus(alpha_n);
  const bend = Math.abs(Math.expm1(low) - low);
  // Far from 0 exp, 1 and x are terms; near it a product of five.
  const terms = low < -0.5 ? (1 + Math.exp(low) * (3 + 2 * Math.abs(low)) + 3 * Math.abs(low)) : 0;
  const off = growth(1) * terms + bend * growth(14) + 3 * ULP * Math.abs(low - x);
  return fall * (off + (bend + Math.abs(low - x)) * (slope + growth(3))) + line * growth(3) + TINY;
}

/** The error of cap · tanh(x / cap): a quotient, tanh.wgsl, a product. */
export function cappedError(x: number, { cap }: Constants): number {
  const size = Math.abs(x / cap);
  const tanh = Math.tanh(size);
  const left = 1 - tanh;
  // Near 0 the polynomial is an eighth of the sum; elsewhere a difference from 1, of a quotient with exp.
  const ulps = size <= 0.625 ? 1 + 13 / 8 : 1 + (3 + 2 * 2 * size + 1 + 2.5) * left / tanh;
  // A quotient that is off counts at most as much as itself.
  return Math.abs(cap) * tanh * growth(ulps + 2.5 + 1 + 0.5) + TINY;
}

/** The error of x · (1 + scale · ln n): WGSL's log is good to 3 ULP from 2 on. */
export function scaledByPositionError(x: number, factor: number): number {
  const logarithm = Math.abs(factor - 1);
  return Math.abs(x) * (logarithm * growth(3 + 2) + Math.abs(factor) * growth(1 + 1 + 0.5)) + TINY;
}
