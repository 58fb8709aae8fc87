/** Steps that make each number of one number, or of two, computed again. */
import { factor, show, worked } from "./arithmetic.js";

/** Φ(x), the share of a normal distribution below x: its density, summed by Simpson's rule from 0. */
function normalShare(x) {
  const n = 400, h = Math.min(Math.abs(x), 9) / n;
  let sum = 0;
  for (let i = 0; i <= n; i++) {
    sum += (i === 0 || i === n ? 1 : i % 2 ? 4 : 2) * Math.exp(-((i * h) ** 2) / 2);
  }
  const half = sum * h / 3 / Math.sqrt(2 * Math.PI);
  return x < 0 ? 0.5 - half : 0.5 + half;
}

const sigma = (x) => 1 / (1 + Math.exp(-x));

/** Activations by the number that the plan knows them by: name, what it is in words, and the function. */
const BENDS = [
  ["silu", "x / (1 + exp(−x))", (x) => x * sigma(x)],
  [
    "gelu",
    "x/2 × (1 + tanh(√(2/π) × (x + 0.044715 x³)))",
    (x) => x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  ],
  ["gelu", "x × Φ(x), the share of a normal distribution below x", (x) => x * normalShare(x)],
  ["relu²", "max(x, 0)²", (x) => Math.max(x, 0) ** 2],
  ["relu", "max(x, 0)", (x) => Math.max(x, 0)],
  ["σ", "1 / (1 + exp(−x))", sigma],
];

/** ln(1 + exp(x)). */
const softplusOf = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** The number of each input at a place. */
const inputsAt = (page, step, position, place) =>
  step.inputs.map((name) => page.vector(name, position)[place]);

/** gpt-oss's gate: both numbers limited, a steeper sigmoid, up plus 1. */
function clampedGate(gate, up) {
  const g = Math.min(gate, 7), u = Math.max(-7, Math.min(up, 7));
  const open = g * sigma(1.702 * g);
  const value = open * (u + 1);
  return worked(
    value,
    Math.abs(open) * (1 + Math.abs(g)) * (Math.abs(u) + 1) + Math.abs(g),
    `g × σ(1.702 g) × (u + 1), with g = min(gate, 7) = ${show(g)} and u = up within ±7 = ${
      show(u)
    }`,
    `= ${factor(open)} × ${factor(u + 1)} = ${show(value)}`,
  );
}

/** Each operation's own arithmetic. */
export const ELEMENTWISE = {
  glu(page, { step, position, place }) {
    const [gate, up] = inputsAt(page, step, position, place);
    const bend = BENDS[step.constants.activation];
    if (!bend) return clampedGate(gate, up);
    const [name, words, act] = bend;
    const open = act(gate);
    return worked(
      open * up,
      Math.abs(gate * up) * (1 + Math.abs(gate)),
      `${name}(gate) × up, with ${name}(x) = ${words}`,
      `= ${name}(${show(gate)}) × ${factor(up)}`,
      `= ${factor(open)} × ${factor(up)} = ${show(open * up)}`,
    );
  },

  activate(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const [name, words, act] = BENDS[step.constants.activation];
    return worked(
      act(x),
      (1 + Math.abs(x)) ** 2,
      `${name}(x) = ${words}`,
      `= ${name}(${show(x)}) = ${show(act(x))}`,
    );
  },

  xielu(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const { alpha_n, alpha_p, beta, epsilon } = step.constants;
    const value = x > 0
      ? softplusOf(alpha_p) * x * x + beta * x
      : (beta + softplusOf(alpha_n)) * (Math.expm1(Math.min(x, epsilon)) - x) + beta * x;
    const a = show(x > 0 ? softplusOf(alpha_p) : beta + softplusOf(alpha_n));
    return worked(
      value,
      (1 + Math.abs(x)) ** 2,
      x > 0 ? "above 0: α x² + β x" : "up to 0: α (exp(x) − 1 − x) + β x",
      `with x = ${show(x)}, the layer's α = ${a} and β = ${show(beta)}: ${show(value)}`,
    );
  },

  scale(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const value = x * step.constants.factor;
    return worked(
      value,
      Math.abs(value),
      `${factor(x)} × ${show(step.constants.factor)} = ${show(value)}`,
    );
  },

  cap(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const { cap } = step.constants;
    const value = cap * Math.tanh(x / cap);
    return worked(
      value,
      Math.abs(x),
      `${show(cap)} × tanh(${show(x)} / ${show(cap)}) = ${show(value)}`,
    );
  },

  clamp(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const { limit } = step.constants;
    const value = Math.max(-limit, Math.min(x, limit));
    return worked(value, Math.abs(value), `${show(x)} within ±${show(limit)}: ${show(value)}`);
  },

  scale_by_position(page, { step, position, place }) {
    const [x] = inputsAt(page, step, position, place);
    const { scale, period, offset } = step.constants;
    const times = 1 + scale * Math.log(1 + Math.floor((position + offset) / period));
    return worked(
      x * times,
      Math.abs(x * times),
      `× 1 + ${show(scale)} × ln(1 + ⌊${position + offset} / ${period}⌋) = ${show(times)}`,
      `= ${factor(x)} × ${show(times)} = ${show(x * times)}`,
    );
  },
};
