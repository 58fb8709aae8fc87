/** Suspected faults of RMSNorm. */
import { CAUSES } from "../causes.ts";
import { LARGEST_F16, type Operation, rerun, type Variant, withWeight } from "./operation.ts";
import { runsText } from "../../files/patterns/runs.ts";
import { fitsBlock, wrongColumns } from "./products/sparse.ts";
import { normsOfOthers } from "./instead.ts";
import { rootMean, rootMeans, squareSum } from "./root_mean.ts";
import { normWeightVariants, weightBetween } from "./products/vectors.ts";

/** Numbers of a norm's weight that may be damaged: a block of most types. */
const MOST_DAMAGED = 32;

/** x [T, D] → [T, 1] */
export function rmsVariants(operation: Operation): Variant[] {
  const { inputs: [x], step: { constants: { columns, epsilon: own } }, target } = operation;
  const outside = target && outsideEpsilon(x, columns, target);
  const here = Number(own.toPrecision(3));
  const epsilons = new Set<number>(CAUSES.epsilon.undo);
  if (target) epsilons.add(Number(fitEpsilon(x, columns, target).toPrecision(3)));
  return [
    ...[...epsilons].filter((epsilon) => !isClose(epsilon, own)).map((epsilon): Variant => ({
      cause: "epsilon",
      what: `${epsilon} instead of ${here}`,
      make: () => rerun(operation, { constants: { epsilon } }),
    })),
    ...outside
      ? [
        {
          cause: "epsilon",
          what: `${outside} is added to the root, instead of ${here} below it`,
          make: () => rootMeans(x, columns, 0).map((root) => root + outside),
        } satisfies Variant,
      ]
      : [],
    ...overflowVariants(operation),
  ];
}

/** What is added to each row's root, in few digits; undefined where that is nothing. */
function outsideEpsilon(x: Float32Array, columns: number, rms: Float32Array): number | undefined {
  const added = rootMeans(x, columns, 0).map((root, row) => rms[row] - root).sort();
  const epsilon = Number(added[added.length >> 1].toPrecision(3));
  return epsilon > 0 ? epsilon : undefined;
}

/** Squares that were summed in f16: rows in which that leaves its range are divided by infinity. */
function overflowVariants(
  { inputs: [x], step: { constants: { columns } }, output }: Operation,
): Variant[] {
  const sums = Array.from(output, (_, row) => squareSum(x, row, columns));
  return Object.entries({ sum: 1, mean: columns }).flatMap(([name, divisor]): Variant[] => {
    const overflows = sums.map((sum) => sum / divisor > LARGEST_F16);
    if (!overflows.includes(true)) return [];
    return [{
      cause: "f16-overflow",
      what: `the ${name} of squares reaches ${(Math.max(...sums) / divisor).toPrecision(4)}`,
      make: () => output.map((value, row) => overflows[row] ? Infinity : value),
    }];
  });
}

/** x [T, D], rms [T, 1] → [T, D] */
export function normalizeVariants({ inputs: [x], step, config }: Operation): Variant[] {
  const { columns } = step.constants;
  return [
    ...config.normKind === "layer" ? [] : [
      {
        cause: "layernorm",
        what: "the mean is subtracted",
        make: () => centred(x, columns, config.normEpsilon),
      } satisfies Variant,
    ],
    {
      cause: "left-out",
      what: "rows are not divided by their root mean square",
      make: () => x.slice(),
    },
  ];
}

/** pre [T, D], weight [D] → [T, D] */
export async function scaleVariants(operation: Operation): Promise<Variant[]> {
  const { inputs: [x], weights: [weight], target, output, config } = operation;
  const of = (cause: Variant["cause"], what: string, make: Variant["make"]): Variant => ({
    cause,
    what,
    where: weight.name,
    make,
  });
  const damaged = target && damagedScales(operation, target);
  return [
    ...CAUSES["norm-offset"].undo.map((by) =>
      of(
        "norm-offset",
        `the weight is one ${by > 0 ? "smaller" : "larger"} here than there`,
        () => withWeight(operation, weight.data.map((value) => value + by)),
      )
    ),
    of("left-out", "it is not applied there", () => x.slice()),
    of(
      "left-out",
      "it is applied twice there",
      () => withWeight(operation, weight.data.map((value) => value * value)),
    ),
    of(
      "left-out",
      "the whole norm is applied twice there",
      () => rerun(operation, { inputs: [rootMean(output, weight.columns, config.normEpsilon)] }),
    ),
    ...await normWeightVariants(operation),
    ...normsOfOthers(operation),
    ...damaged ? [damaged] : [],
  ];
}

/** A few numbers of the weight that differ: each column is off by one factor at all positions. */
function damagedScales(operation: Operation, target: Float32Array): Variant | undefined {
  const { inputs: [x], weights: [{ columns, name, data }], output } = operation;
  const wrong = wrongColumns(output, target, columns, MOST_DAMAGED);
  if (!wrong) return undefined;
  const there = weightBetween(x, target, columns);
  const mended = data.slice();
  for (const column of wrong) mended[column] = there[column];
  const isRun = fitsBlock(wrong[0], wrong.at(-1)!, columns);
  return {
    cause: isRun ? "dequant-block" : "unknown",
    what: isRun
      ? `${wrong.length} numbers from ${wrong[0]} to ${wrong.at(-1)}`
      : `only ${runsText(wrong, "numbers")} are other ones`,
    where: name,
    fitted: true,
    make: () => withWeight(operation, mended),
  };
}

function isClose(a: number, b: number): boolean {
  return Math.abs(a - b) <= 1e-3 * b;
}

/** LayerNorm without a weight. */
function centred(x: Float32Array, columns: number, epsilon: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += columns) {
    let [mean, square] = [0, 0];
    for (let i = 0; i < columns; i++) mean += x[row + i] / columns;
    for (let i = 0; i < columns; i++) square += (x[row + i] - mean) ** 2 / columns;
    const scale = 1 / Math.sqrt(square + epsilon);
    for (let i = 0; i < columns; i++) out[row + i] = (x[row + i] - mean) * scale;
  }
  return out;
}

/** The epsilon that the smallest rows show: there it weighs most. */
function fitEpsilon(x: Float32Array, columns: number, rms: Float32Array): number {
  const rows = Array.from(rms, (root, row) => {
    const square = squareSum(x, row, columns) / columns;
    return { square, epsilon: root ** 2 - square };
  }).sort((a, b) => a.square - b.square);
  const few = rows.slice(0, 5).map(({ epsilon }) => epsilon).sort((a, b) => a - b);
  return Math.max(0, few[few.length >> 1] ?? 0);
}
