/** What an operation's outcome is off by where its weights were rounded: the spread that is to be expected, and what it is exactly. */
import type { Step } from "../../../engine/plan/plan.ts";
import { type LocalValue, rowsOf } from "../local.ts";
import type { OtherWeights } from "./other_weights.ts";
import type { WeightRounding } from "./weight_rounding.ts";
import type { ReferencePass } from "../../references/reference.ts";

/** An element of an outcome: its position within the rows that are judged, and its place in the row. */
export type Element = readonly [position: number, index: number];

/** A rounded weight's share in an outcome. */
export interface RoundedProduct {
  readonly rounding: WeightRounding;
  /** Mean square of what each of the weight's columns is multiplied by in the whole pass; undefined where that is nothing of it. */
  readonly columnSquares?: Float64Array;
  /** Adds the variance of each element of a position's row. */
  addVariances(position: number, out: Float64Array): void;
  /** The same roughly, as a product of what depends on the position and what on the element. */
  roughVariance(position: number): number;
  /** Ours less the other side's, in 64-bit floats. */
  exactly(elements: readonly Element[]): Promise<number[]>;
}

/** The operations that are linear in their weights. */
const OPERATIONS: Readonly<
  Record<string, (rounding: WeightRounding, rows: Rows, weights: OtherWeights) => RoundedProduct>
> = {
  linear: matrixProduct,
  embed: (rounding, { ids }, weights) => ({
    rounding,
    addVariances(position, out) {
      const row = ids[position];
      for (let i = 0; i < out.length; i++) out[i] += varianceOf(rounding, row, i);
    },
    roughVariance: (position) => mean(rowOf(rounding, ids[position])),
    async exactly(elements) {
      const row = await rowDifferences(rounding, weights, elements.map(([at]) => ids[at]));
      return elements.map(([position, index]) => row.get(ids[position])![index]);
    },
  }),
  scale_columns: (rounding, { x, all }, weights) => ({
    ...vectorProduct(
      rounding,
      (position, index) => x![position * rounding.columns + index],
      weights,
    ),
    columnSquares: columnSquares(all!, rounding.columns),
  }),
  add_bias: (rounding, _, weights) => vectorProduct(rounding, () => 1, weights),
};

/** What an operation reads of a pass: token ids, or numbers [count, columns]. */
interface Rows {
  readonly ids: readonly number[];
  readonly x?: Float32Array | Float64Array;
  /** The same of the whole pass. */
  readonly all?: Float32Array | Float64Array;
  readonly count: number;
}

/**
 * The shares that rounded weights have in an outcome, of its own operation and of one whose outcome is not shown before it. Undefined
 * where what a weight is multiplied by is not shown.
 */
export async function roundedProducts(
  { step, hidden = [], start, ours }: LocalValue,
  pass: ReferencePass,
  weights: OtherWeights,
): Promise<RoundedProduct[] | undefined> {
  const found: RoundedProduct[] = [];
  const count = ours.shape[0];
  for (const each of [...hidden, step]) {
    for (const name of each.weights) {
      const pair = await weights.of(name);
      if (pair.kind !== "rounded") continue;
      const make = Object.hasOwn(OPERATIONS, each.operation) && OPERATIONS[each.operation];
      if (!make || !isLinearAfter(each, step, hidden)) return undefined;
      const rows = rowsFor(each, pass, start, count);
      if (!rows) return undefined;
      found.push(make(pair.rounding, rows, weights));
    }
  }
  return found;
}

/** Whether an operation's errors reach the outcome as they are: it is the last one, or only a bias is added after it. */
function isLinearAfter(each: Step, step: Step, hidden: readonly Step[]): boolean {
  if (each === step) return true;
  return step.operation === "add_bias" && hidden.at(-1) === each;
}

function rowsFor(
  { operation, inputs: [{ name }] }: Step,
  pass: ReferencePass,
  start: number,
  count: number,
): Rows | undefined {
  const at = start - pass.start;
  const ids = pass.ids.slice(at, at + count);
  if (operation === "embed" || operation === "add_bias") return { ids, count };
  const input = pass.tensors.get(name);
  return input &&
    { ids, count, x: rowsOf(name, input, pass.start, at, count).data, all: input.data };
}

/** x [T, columns] times [rows, columns]. */
function matrixProduct(
  rounding: WeightRounding,
  { x: input, all, count }: Rows,
  weights: OtherWeights,
): RoundedProduct {
  const { rows, columns, width, variances } = rounding;
  const x = input!;
  const runs = Math.ceil(columns / width);
  // Σx² of each run of columns.
  const squares = new Float64Array(count * runs);
  for (let position = 0, i = 0; position < count; position++) {
    for (let column = 0; column < columns; column++, i++) {
      squares[position * runs + Math.floor(column / width)] += x[i] * x[i];
    }
  }
  const perRun = runMeans(rounding);
  return {
    rounding,
    columnSquares: columnSquares(all!, columns),
    addVariances(position, out) {
      const own = squares.subarray(position * runs, (position + 1) * runs);
      for (let row = 0, i = 0; row < rows; row++) {
        let sum = 0;
        for (let run = 0; run < runs; run++, i++) sum += own[run] * variances[i];
        out[row] += sum;
      }
    },
    roughVariance(position) {
      let sum = 0;
      for (let run = 0; run < runs; run++) sum += squares[position * runs + run] * perRun[run];
      return sum;
    },
    async exactly(elements) {
      const differences = await rowDifferences(rounding, weights, elements.map(([, row]) => row));
      return elements.map(([position, row]) => {
        const difference = differences.get(row)!;
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += x[position * columns + i] * difference[i];
        return sum;
      });
    },
  };
}

/** A factor times a vector [1, columns], element by element. */
function vectorProduct(
  rounding: WeightRounding,
  factor: (position: number, index: number) => number,
  weights: OtherWeights,
): RoundedProduct {
  const { columns, name } = rounding;
  const variance = (position: number, index: number) =>
    factor(position, index) ** 2 * varianceOf(rounding, 0, index);
  return {
    rounding,
    addVariances(position, out) {
      for (let i = 0; i < out.length; i++) out[i] += variance(position, i);
    },
    roughVariance: (position) =>
      mean(Float64Array.from({ length: columns }, (_, i) => variance(position, i))),
    async exactly(elements) {
      const difference = await weights.rowDifference(name, 0);
      return elements.map(([position, index]) => factor(position, index) * difference[index]);
    },
  };
}

/** Mean square of each column of x [T, columns]. */
function columnSquares(x: Float32Array | Float64Array, columns: number): Float64Array {
  const squares = new Float64Array(columns);
  for (let i = 0; i < x.length; i++) squares[i % columns] += x[i] * x[i] * columns / x.length;
  return squares;
}

function varianceOf({ columns, width, variances }: WeightRounding, row: number, column: number) {
  return variances[row * Math.ceil(columns / width) + Math.floor(column / width)];
}

function rowOf({ columns, width, variances }: WeightRounding, row: number): Float32Array {
  const runs = Math.ceil(columns / width);
  return variances.subarray(row * runs, (row + 1) * runs);
}

/** Mean variance over the rows, by run of columns. */
function runMeans({ rows, columns, width, variances }: WeightRounding): Float64Array {
  const runs = Math.ceil(columns / width);
  const means = new Float64Array(runs);
  for (let i = 0; i < variances.length; i++) means[i % runs] += variances[i] / rows;
  return means;
}

function mean(values: Float32Array | Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** Ours less theirs of some rows, each read once. */
async function rowDifferences(
  { name }: WeightRounding,
  weights: OtherWeights,
  rows: readonly number[],
): Promise<Map<number, Float64Array>> {
  const found = new Map<number, Float64Array>();
  for (const row of new Set(rows)) found.set(row, await weights.rowDifference(name, row));
  return found;
}
