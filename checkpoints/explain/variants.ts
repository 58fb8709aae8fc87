/** What suspected faults would make of an operation: by the kernel's name, each with the cause that it stands for. */
import type { Cause } from "../causes.ts";
import type { Operation } from "./chain.ts";
import { biasVariants, linearVariants } from "./linear.ts";
import { normalizeVariants, rmsVariants, scaleVariants } from "./norm.ts";
import { ropeVariants, storeVariants } from "./rope.ts";
import { mixVariants, scoresVariants } from "./heads.ts";
import { rerun } from "./chain.ts";

/** What one fault would make of an operation. */
export interface Variant {
  readonly cause: Cause;
  /** One line with the figures: which base, which offset, which rows. */
  readonly detail: string;
  readonly output: Float32Array;
}

/** Lists the variants of one operation. */
type Suspect = (operation: Operation) => Promise<readonly Variant[]> | readonly Variant[];

/** By kernel. */
export const SUSPECTS: Readonly<Record<string, Suspect>> = {
  rms: rmsVariants,
  normalize: normalizeVariants,
  scale_columns: scaleVariants,
  linear: linearVariants,
  add_bias: biasVariants,
  rope: ropeVariants,
  store: storeVariants,
  scores: scoresVariants,
  mix: mixVariants,
  swiglu: swigluVariants,
  add: addVariants,
};

/** The first input is the residual stream. */
function addVariants({ inputs: [stream, added] }: Operation): Variant[] {
  const of = (detail: string, make: (a: number, b: number) => number): Variant => ({
    cause: "residual-missing",
    detail,
    output: added.map((b, i) => make(stream[i], b)),
  });
  return [
    of("the residual stream is not added", (_, b) => b),
    of("the residual stream is added twice", (a, b) => 2 * a + b),
    of("only the residual stream is there", (a) => a),
    of("the branch is added twice", (a, b) => a + 2 * b),
  ];
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

function swigluVariants(operation: Operation): Variant[] {
  const [gate, up] = operation.inputs;
  return [
    {
      cause: "gate-up-swapped",
      detail: "silu(up) · gate",
      output: rerun(operation, { inputs: [up, gate] }),
    },
    ...Object.entries(ACTIVATIONS).map(([name, activation]): Variant => ({
      cause: "activation",
      detail: `${name} instead of SiLU`,
      output: gate.map((x, i) => activation(x) * up[i]),
    })),
    { cause: "activation", detail: "up is left out", output: gate.map(silu) },
  ];
}
