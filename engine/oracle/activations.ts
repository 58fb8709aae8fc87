/** Nonlinearities of FFNs in 64-bit floats. */
import type { Activation, Xielu } from "../model/config.ts";

/** The numbers of xIELU in one layer, as the model learned them: α_n and α_p before their softplus. */
export type XieluNumbers = { readonly [name in keyof Xielu]: number };

/**
 * An ungated FFN's activation, number by number.
 *
 * @param numbers of the layer, where the activation is `xielu`
 * @throws {RangeError} for `swiglu_clamped`, which only a gate has, and for `xielu` without its numbers
 */
export function activate(
  x: Float64Array,
  activation: Activation,
  numbers?: XieluNumbers,
): Float64Array {
  if (activation === "xielu") {
    if (!numbers) throw new RangeError("Cannot compute xIELU: the layer has no numbers for it");
    return x.map((value) => xielu(value, numbers));
  }
  if (activation === "swiglu_clamped") {
    throw new RangeError("Cannot compute swiglu_clamped without a gate");
  }
  return x.map(FUNCTIONS[activation]);
}

/**
 * A gated FFN's: act(gate) · up (GLU variants, arXiv 2002.05202).
 *
 * @param gate any shape
 * @param up the same shape
 * @throws as {@linkcode activate}
 */
export function glu(
  gate: Float64Array,
  up: Float64Array,
  activation: Activation,
  numbers?: XieluNumbers,
): Float64Array {
  if (activation === "swiglu_clamped") return gate.map((z, i) => swigluClamped(z, up[i]));
  return activate(gate, activation, numbers).map((value, i) => value * up[i]);
}

const FUNCTIONS: Readonly<
  Record<Exclude<Activation, "xielu" | "swiglu_clamped">, (x: number) => number>
> = {
  /** z / (1 + e^−z) (arXiv 1606.08415, 1710.05941). */
  silu: (z) => z / (1 + Math.exp(-z)),
  /** The approximation of GELU by tanh (arXiv 1606.08415, section 2). */
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  /** x · Φ(x), Φ being the normal distribution (arXiv 1606.08415). */
  gelu: (x) => 0.5 * x * complementaryError(-x / Math.SQRT2),
  relu: (x) => Math.max(x, 0),
  /** Squared ReLU (arXiv 2109.08668). */
  relu2: (x) => Math.max(x, 0) ** 2,
};

/**
 * xIELU (arXiv 2411.13010) as `ggml_xielu` and `op_xielu` have it: α_p x² + βx above zero, α_n (e^min(x, ε) − 1 − x) + βx below, with
 * α_p and α_n − β kept positive by softplus.
 */
function xielu(x: number, { alphaN, alphaP, beta, epsilon }: XieluNumbers): number {
  if (x > 0) return softplus(alphaP) * x * x + beta * x;
  return (beta + softplus(alphaN)) * (Math.expm1(Math.min(x, epsilon)) - x) + beta * x;
}

/** ln(1 + e^x), without an overflow. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** gpt-oss's SwiGLU (`ggml_compute_forward_swiglu_oai`): g · σ(1.702 g) · (u + 1), with g at most 7 and u within ±7. */
function swigluClamped(gate: number, up: number): number {
  const g = Math.min(gate, 7);
  const u = Math.min(Math.max(up, -7), 7);
  return g / (1 + Math.exp(-1.702 * g)) * (u + 1);
}

/** From here on the continued fraction has 64-bit precision within {@linkcode FRACTIONS} terms. */
const FAR = 2.5;
const FRACTIONS = 100;

/**
 * erfc(x) = 1 − erf(x), to about 1e-15 of 1 and, for large x, of itself. Near zero the series without cancellation
 * erf(x) = 2/√π · e^−x² · Σ 2^n x^(2n+1) / (1 · 3 · … · (2n+1)) (Abramowitz & Stegun 7.1.6), farther out the continued fraction 7.1.14.
 */
export function complementaryError(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (x < 0) return 2 - complementaryError(-x);
  if (x < FAR) {
    let term = x;
    let sum = x;
    for (let n = 1; term > sum * 1e-18; n++) sum += term *= 2 * x * x / (2 * n + 1);
    return 1 - 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
  }
  if (x === Infinity) return 0;
  let fraction = x;
  for (let n = FRACTIONS; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}
