/** Activations: what becomes of one number, or of two where one gates the other. */

/** Their names; kernels know them by their place here. */
export const ACTIVATIONS = [
  "silu",
  "gelu_tanh",
  "gelu",
  "relu2",
  "relu",
  "sigmoid",
  "swiglu_clamped",
] as const;

/** The name of an activation. */
export type Activation = typeof ACTIVATIONS[number];

/** The one that exists as a gate only. */
const CLAMPED = ACTIVATIONS.indexOf("swiglu_clamped");

/** What limits the numbers of `swiglu_clamped`, and what its sigmoid's are multiplied by. */
const [CLAMP, STEEPNESS] = [7, 1.702];

/** σ(x) = 1 / (1 + exp(−x)). */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** What exp is of, in the sigmoid that gelu_tanh is: x·σ(w), with w = 2·√(2/π)·(x + 0.044715 x³). */
export function geluTanhExponent(x: number): number {
  return 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
}

/** Φ(x), the share of a normal distribution that lies below x, to about 15 digits also where it is small. */
export function normalBelow(x: number): number {
  const size = Math.abs(x);
  const density = Math.exp(-size * size / 2) / Math.sqrt(2 * Math.PI);
  let above: number;
  if (size < 2.5) {
    // Φ(x) − ½ = φ(x) · (x + x³/3 + x⁵/(3·5) + …): Abramowitz & Stegun 26.2.11.
    let [sum, term] = [0, size];
    for (let n = 3; term > 1e-18 * sum; n += 2) {
      sum += term;
      term *= size * size / n;
    }
    above = 0.5 - density * sum;
  } else {
    // 1 − Φ(x) = φ(x) / (x + 1/(x + 2/(x + 3/(x + …)))): 26.2.14.
    let rest = size;
    for (let n = 200; n > 0; n--) rest = size + n / rest;
    above = density / rest;
  }
  return x < 0 ? above : 1 - above;
}

/** By their places. GELU: Hendrycks & Gimpel 2016; its form with tanh is x·σ(w), since (1 + tanh(u)) / 2 = σ(2u). ReLU²: So et al. 2021. */
const OF_ONE: readonly ((x: number) => number)[] = [
  (x) => x / (1 + Math.exp(-x)), // silu: Elfwing et al. 2018
  (x) => x / (1 + Math.exp(-geluTanhExponent(x))),
  (x) => x * normalBelow(x),
  (x) => Math.max(x, 0) ** 2,
  (x) => Math.max(x, 0),
  sigmoid,
];

/** An activation of one number, by its place in {@linkcode ACTIVATIONS}; none of those that are gates only. */
export function activate(activation: number, x: number): number {
  return OF_ONE[activation](x);
}

/**
 * A gated linear unit (Shazeer 2020, "GLU Variants Improve Transformer"): act(gate) · up. In `swiglu_clamped` (gpt-oss) it is
 * g·σ(1.702 g)·(u + 1), with the gate at most 7 and up within ±7.
 */
export function gated(activation: number, gate: number, up: number): number {
  if (activation !== CLAMPED) return activate(activation, gate) * up;
  const g = Math.min(gate, CLAMP);
  const u = Math.max(-CLAMP, Math.min(up, CLAMP));
  return g / (1 + Math.exp(-STEEPNESS * g)) * (u + 1);
}

/** The slope of xIELU's learned numbers: softplus(x) = ln(1 + exp(x)), without overflow. */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** The learned numbers of xIELU, as files have them. */
export interface XieluNumbers {
  readonly alpha_n: number;
  readonly alpha_p: number;
  readonly beta: number;
  readonly epsilon: number;
}

/**
 * xIELU (Huang & Schlag 2025, "Deriving Activation Functions Using Integration"), as ggml computes it: softplus(αp)·x² + βx above 0,
 * (β + softplus(αn))·(exp(min(x, ε)) − 1 − x) + βx elsewhere.
 */
export function xielu(x: number, { alpha_n, alpha_p, beta, epsilon }: XieluNumbers): number {
  return x > 0
    ? softplus(alpha_p) * x * x + beta * x
    : (beta + softplus(alpha_n)) * (Math.expm1(Math.min(x, epsilon)) - x) + beta * x;
}
