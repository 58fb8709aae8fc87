/** Suspected faults of sums and of the activation. */
import type { Activation } from "../../../engine/model/config.ts";
import { factorText, namedFactor } from "../../files/patterns/factors.ts";
import { sumsOfOthers } from "./instead.ts";
import { type Operation, rerun, type Variant } from "./operation.ts";

/** The first input is the residual stream. */
export function addVariants(operation: Operation): Variant[] {
  const { inputs: [stream, added] } = operation;
  const of = (what: string, sum: (a: number, b: number) => number): Variant => ({
    cause: "residual-missing",
    what,
    make: () => added.map((b, i) => sum(stream[i], b)),
  });
  return [
    of("the residual stream is not added", (_, b) => b),
    of("the residual stream is added twice", (a, b) => 2 * a + b),
    of("only the residual stream is there", (a) => a),
    of("the branch is added twice", (a, b) => a + 2 * b),
    ...multiplierVariants(operation),
    ...sumsOfOthers(operation),
  ];
}

/** How near a multiplier must be to one that has a name, or to 1. */
const NAMED = 1e-4;
/** What two multipliers may leave, of the whole, where they are worth trying. */
const LEAVES = 0.01;

/** The stream and what is added to it, each with a factor: what brings them nearest to the sum of the other side. */
function multiplierVariants(
  { inputs: [stream, added], target, config, step }: Operation,
): Variant[] {
  if (!target) return [];
  let [aa, ab, bb, ac, bc, cc] = [0, 0, 0, 0, 0, 0];
  target.forEach((c, i) => {
    const [a, b] = [stream[i], added[i]];
    aa += a * a;
    ab += a * b;
    bb += b * b;
    ac += a * c;
    bc += b * c;
    cc += c * c;
  });
  const size = aa * bb - ab * ab;
  if (!(size > 1e-6 * aa * bb)) return [];
  const factors = [(ac * bb - bc * ab) / size, (bc * aa - ac * ab) / size].map((factor) =>
    Math.abs(factor - 1) < NAMED ? 1 : factor
  );
  const named = factors.map((factor) => namedFactor(factor, config, NAMED));
  const [f, g] = factors.map((factor, i) => named[i]?.value ?? factor);
  const left = target.reduce((sum, c, i) => sum + (c - f * stream[i] - g * added[i]) ** 2, 0);
  if (!(left <= LEAVES * cc) || (f === 1 && g === 1)) return [];
  const words = factors.flatMap((factor, i) =>
    factor === 1 ? [] : [`${step.inputs[i].name} times ${factorText(factor, config, NAMED)}`]
  );
  return [{
    // Two factors of their own are hardly one fault.
    cause: words.length === 1 ? "scaled" : "unknown",
    what: `${words.join(" and ")} ${words.length === 1 ? "is" : "are"} added there`,
    fitted: true,
    make: () => stream.map((a, i) => f * a + g * added[i]),
  }];
}

const silu = (x: number) => x / (1 + Math.exp(-x));

/** Abramowitz and Stegun 7.1.26 is too coarse here: erf by its series and continued fraction, to 64-bit precision. */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  let [sum, term] = [z, z];
  for (let n = 1; n < 200 && Math.abs(term) > 1e-17 * sum; n++) {
    term *= -z * z / n;
    sum += term / (2 * n + 1);
  }
  return z < 3.5
    ? Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum
    : Math.sign(x) * (1 - Math.exp(-z * z) / (z * Math.sqrt(Math.PI)) * (1 - 0.5 / (z * z)));
}

/** Activations that are met in models: Hendrycks & Gimpel 2016 (GELU, exact, by tanh and by the logistic function), and others. */
const ACTIVATIONS: Readonly<Record<string, (x: number) => number>> = {
  "GELU (erf)": (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  "GELU (tanh)": (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  "GELU (logistic)": (x) => x / (1 + Math.exp(-1.702 * x)),
  ReLU: (x) => Math.max(0, x),
  "ReLU²": (x) => Math.max(0, x) ** 2,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  none: (x) => x,
};

/** Where gpt-oss cuts what goes into its activation (swiglu_limit of its config). */
const CUT = 7;

/** What people call the model's own. */
const CALLED: Readonly<Record<Activation, string>> = {
  ...{ silu: "SiLU", gelu: "GELU (erf)", gelu_tanh: "GELU (tanh)", relu: "ReLU", relu2: "ReLU²" },
  ...{ swiglu_clamped: "gpt-oss's", xielu: "xIELU" },
};

/** gate, up [T, F], or what is activated alone → [T, F] */
export function activationVariants(operation: Operation): Variant[] {
  const { inputs: [gate, up], step, config, name } = operation;
  if (/_shared_weight$/.test(name)) return [];
  const own = step.operation === "xielu" ? "xielu" : config.activation;
  const called = CALLED[own];
  const other = (what: string, make: Variant["make"]): Variant => ({
    cause: "activation",
    what,
    make,
  });
  const all = { SiLU: silu, ...ACTIVATIONS };
  const others = Object.entries(all).filter(([name]) => name !== called);
  const times = (i: number) => up?.[i] ?? 1;
  const instead = others.map(([name, activation]) =>
    other(`${name} instead of ${called}`, () => gate.map((x, i) => activation(x) * times(i)))
  );
  if (!up) return instead;
  const act = (all as Readonly<Record<string, (x: number) => number>>)[called];
  const gatedOnly = !act ? [] : [
    other("up is left out", () => gate.map(act)),
    other(`${called} twice`, () => gate.map((x, i) => act(act(x)) * up[i])),
    ...Object.entries(all).filter(([name]) => name !== "none").map((
      [name, activation],
    ) =>
      other(
        `up goes through an activation as well: ${name}`,
        () => gate.map((x, i) => act(x) * activation(up[i])),
      )
    ),
  ];
  const cut = (x: number) => Math.max(-CUT, Math.min(CUT, x));
  const steep = (x: number) => x / (1 + Math.exp(-1.702 * x));
  return [
    {
      cause: "gate-up-swapped",
      what: own === "silu" ? "silu(up) · gate" : `${called} of up, times gate`,
      make: () => rerun(operation, { inputs: [up, gate] }),
    },
    ...instead,
    ...gatedOnly,
    ...own === "swiglu_clamped"
      ? [
        other(
          `nothing is cut at ${CUT}`,
          () => gate.map((x, i) => steep(x) * (up[i] + 1)),
        ),
        other(
          "up lacks its 1",
          () => gate.map((x, i) => steep(Math.min(CUT, x)) * cut(up[i])),
        ),
      ]
      : [other(
        `gpt-oss's: x · σ(1.702 x) of the gate, and up plus 1, cut at ${CUT}`,
        () => gate.map((x, i) => steep(Math.min(CUT, x)) * (cut(up[i]) + 1)),
      )],
  ];
}
