/** Suspected faults of sums and of the activation. */
import { type Operation, rerun, type Variant } from "./operation.ts";

/** The first input is the residual stream. */
export function addVariants({ inputs: [stream, added] }: Operation): Variant[] {
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

/** gate, up [T, F] → [T, F] */
export function activationVariants(operation: Operation): Variant[] {
  const { inputs: [gate, up] } = operation;
  const other = (what: string, make: Variant["make"]): Variant => ({
    cause: "activation",
    what,
    make,
  });
  return [
    {
      cause: "gate-up-swapped",
      what: "silu(up) · gate",
      make: () => rerun(operation, { inputs: [up, gate] }),
    },
    ...Object.entries(ACTIVATIONS).map(([name, activation]) =>
      other(`${name} instead of SiLU`, () => gate.map((x, i) => activation(x) * up[i]))
    ),
    other("up is left out", () => gate.map(silu)),
  ];
}
