/** Formulas of what makes a number of the one, or the two, in its place. */
import { ACTIVATIONS } from "../../../../kernels/elementwise/activations.ts";
import type { Formulas, Said } from "./said.ts";

/** By operation. */
export const NUMBER_FORMULAS: Formulas = {
  add({ inputs: [a, b], element }) {
    return {
      text: `a + b, a of ${a.name}, b of ${b.name}`,
      facts: [["a", a.data[element]], ["b", b.data[element]]],
      value: a.data[element] + b.data[element],
      size: Math.abs(a.data[element]) + Math.abs(b.data[element]),
    };
  },

  glu({ inputs: [gate, up], constants: { activation }, element }) {
    const [g, u] = [gate.data[element], up.data[element]];
    const name = ACTIVATIONS[activation];
    const of = `g of ${gate.name}, u of ${up.name}`;
    if (name === "swiglu_clamped") {
      const [cut, within] = [Math.min(g, 7), Math.min(7, Math.max(-7, u))];
      const text = `min(g, 7) · σ(1.702 min(g, 7)) · (1 + u within ±7), ${of}`;
      const value = cut / (1 + Math.exp(-1.702 * cut)) * (1 + within);
      return { text, facts: [["g", g], ["u", u]], value };
    }
    const { called, meaning, of: act } = MEANINGS[name];
    const value = act(g);
    return {
      text: `${called}(g) · u, ${called}(g) = ${meaning.replaceAll("x", "g")}, ${of}`,
      facts: [["g", g], [`${called}(g)`, value], ["u", u]],
      value: value * u,
    };
  },

  activate({ inputs: [x], constants: { activation }, element }) {
    const { called, meaning, of } = MEANINGS[ACTIVATIONS[activation] as keyof typeof MEANINGS];
    return ofOne(x, element, `${called}(x) = ${meaning}`, of);
  },

  xielu({ inputs: [x], constants: { alpha_n, alpha_p, beta, epsilon }, element }) {
    const [n, p] = [alpha_n, alpha_p].map((alpha) =>
      alpha > 30 ? alpha : Math.log1p(Math.exp(alpha))
    );
    const said = x.data[element] > 0
      ? ofOne(x, element, "αp · x² + β · x", (v) => p * v * v + beta * v)
      : ofOne(
        x,
        element,
        "(αn + β) · (exp(min(x, ε)) − 1 − x) + β · x",
        (v) => (n + beta) * (Math.expm1(Math.min(v, epsilon)) - v) + beta * v,
      );
    const more: Said["facts"] = [["αp", p], ["αn", n], ["β", beta], ["ε", epsilon]];
    return { ...said, facts: [...said.facts, ...more] };
  },

  scale: ({ inputs: [x], constants: { factor }, element }) =>
    ofOne(x, element, "x · factor", (v) => v * factor, ["factor", factor]),

  cap: ({ inputs: [x], constants: { cap }, element }) =>
    ofOne(x, element, "cap · tanh(x / cap)", (v) => cap * Math.tanh(v / cap), ["cap", cap]),

  clamp: ({ inputs: [x], constants: { limit }, element }) =>
    ofOne(
      x,
      element,
      "x within ±limit",
      (v) => v > limit ? limit : v < -limit ? -limit : v,
      ["limit", limit],
    ),

  scale_by_position({ inputs: [x], constants, element, place: { position } }) {
    const { scale, period, offset = 0 } = constants;
    const factor = 1 + scale * Math.log(1 + Math.floor((position + offset) / period));
    const text = `x · (1 + ${scale} · ln(1 + ⌊(position + ${offset}) / ${period}⌋))`;
    const said = ofOne(x, element, text, (v) => v * factor);
    return { ...said, facts: [["position", position], ["factor", factor], ...said.facts] };
  },
};

/** A number that is made of one. */
function ofOne(
  { name, data }: { readonly name: string; readonly data: Float32Array },
  element: number,
  text: string,
  of: (x: number) => number,
  ...more: Said["facts"]
): Said {
  const x = data[element];
  return { text: `${text}, x of ${name}`, facts: [["x", x], ...more], value: of(x) };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** What activations are called, and what they make of a number. */
const MEANINGS = {
  silu: { called: "silu", meaning: "x / (1 + exp(−x))", of: (x: number) => x * sigmoid(x) },
  gelu_tanh: {
    called: "gelu",
    meaning: "x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2",
    // (1 + tanh(u)) / 2 is σ(2u), which loses nothing where u is far below 0.
    of: (x: number) => x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)),
  },
  gelu: {
    called: "gelu",
    meaning: "x · Φ(x) of the normal distribution",
    of: (x: number) => x * normalBelow(x),
  },
  relu: { called: "relu", meaning: "max(x, 0)", of: (x: number) => x > 0 ? x : 0 },
  relu2: { called: "relu²", meaning: "max(x, 0)²", of: (x: number) => x > 0 ? x * x : 0 },
  sigmoid: { called: "σ", meaning: "1 / (1 + exp(−x))", of: sigmoid },
} as const;

/** Φ(x), by Simpson's rule over the density from 0: to about 12 digits within ±8, beyond which nothing is left. */
function normalBelow(x: number): number {
  const end = Math.min(Math.abs(x), 40);
  const above = end > 3 ? tail(end) : 0.5 - integral(0, end);
  return x < 0 ? above : 1 - above;
}

/** What lies beyond, far out: to where the density is 1e-30 of what it is there. */
function tail(from: number): number {
  return integral(from, from + 70 / from);
}

function integral(from: number, to: number): number {
  const steps = 2000;
  const h = (to - from) / steps;
  let sum = 0;
  for (let i = 0; i <= steps; i++) {
    const x = from + i * h;
    const weight = i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2;
    sum += weight * Math.exp(-x * x / 2);
  }
  return sum * h / 3 / Math.sqrt(2 * Math.PI);
}
