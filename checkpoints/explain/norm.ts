/** Suspected faults of RMSNorm. */
import { type Operation, rerun } from "./chain.ts";
import { damagedColumns } from "./sparse.ts";
import type { Variant } from "./variants.ts";

/** Epsilons that models have. */
const EPSILONS = [1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-4, 1e-7, 0];

/** x [T, D] → [T, 1] */
export function rmsVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants }, target } = operation;
  const epsilons = new Set(EPSILONS);
  if (target) epsilons.add(fitEpsilon(x, constants.columns, (row) => target[row]));
  return epsilonVariants(
    [...epsilons],
    constants.epsilon,
    (epsilon) => rerun(operation, { constants: { epsilon } }),
  );
}

/** x [T, D], rms [T, 1] → [T, D] */
export function normalizeVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants: { columns } }, target, config } = operation;
  const variants: Variant[] = [];
  if (target) {
    const epsilon = fitEpsilon(x, columns, (row) => scaleOf(x, target, row, columns));
    const tried = Number(epsilon.toPrecision(3));
    variants.push(
      ...epsilonVariants(
        [tried],
        config.normEpsilon,
        (value) => normalized(x, columns, value, false),
      ),
    );
  }
  variants.push({
    cause: "layernorm",
    detail: "the mean is subtracted",
    output: normalized(x, columns, config.normEpsilon, true),
  });
  return variants;
}

/** pre [T, D], weight [D] → [T, D] */
export function scaleVariants(operation: Operation): Variant[] {
  const { weights: [weight], target, output } = operation;
  const offset = (by: number): Variant => ({
    cause: "norm-offset",
    detail: `the weight is ${by > 0 ? "one smaller" : "one larger"} here than there`,
    output: rerun(operation, { weights: [{ ...weight, data: weight.data.map((w) => w + by) }] }),
  });
  const variants = [offset(1), offset(-1)];
  const damaged = target && damagedColumns(output, target, weight.columns);
  if (damaged) {
    variants.push({
      cause: "dequant-block",
      detail: `${weight.name}, columns ${damaged.first} to ${damaged.last}`,
      output: damaged.mended,
    });
  }
  return variants;
}

function epsilonVariants(
  epsilons: readonly number[],
  own: number,
  make: (epsilon: number) => Float32Array,
): Variant[] {
  return epsilons.filter((epsilon) => epsilon >= 0 && epsilon !== own).map((epsilon) => ({
    cause: "epsilon",
    detail: `${Number(epsilon.toPrecision(3))} instead of ${Number(own.toPrecision(3))}`,
    output: make(epsilon),
  }));
}

/** RMSNorm or LayerNorm without a weight. */
function normalized(
  x: Float32Array,
  columns: number,
  epsilon: number,
  centred: boolean,
): Float32Array {
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += columns) {
    let mean = 0;
    if (centred) { for (let i = 0; i < columns; i++) mean += x[row + i] / columns; }
    let square = 0;
    for (let i = 0; i < columns; i++) square += (x[row + i] - mean) ** 2 / columns;
    const scale = 1 / Math.sqrt(square + epsilon);
    for (let i = 0; i < columns; i++) out[row + i] = (x[row + i] - mean) * scale;
  }
  return out;
}

/** The root mean square that a row was divided by: least squares of x = rms · y. */
function scaleOf(x: Float32Array, y: Float32Array, row: number, columns: number): number {
  let [above, below] = [0, 0];
  for (let i = row * columns; i < (row + 1) * columns; i++) {
    above += x[i] * y[i];
    below += y[i] * y[i];
  }
  return above / below;
}

/** The epsilon that the smallest rows show: there it weighs most. */
function fitEpsilon(x: Float32Array, columns: number, rms: (row: number) => number): number {
  const rows = Array.from({ length: x.length / columns }, (_, row) => {
    let square = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) square += x[i] * x[i] / columns;
    return { square, epsilon: rms(row) ** 2 - square };
  }).sort((a, b) => a.square - b.square);
  const few = rows.slice(0, 5).map(({ epsilon }) => epsilon).sort((a, b) => a - b);
  return Math.max(0, few[few.length >> 1] ?? 0);
}
