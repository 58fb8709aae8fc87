/**
 * Suspected faults of columns of a weight, which stand for the features that it reads. They are looked for in one output: that of the
 * row that is farthest off; the whole product then shows whether they are right.
 */
import { inverseOrder } from "../../../files/patterns/order.ts";
import { orderText } from "../../../files/patterns/order_text.ts";
import { wholeOrders } from "../../../files/patterns/whole_orders.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";
import { inOrder } from "../attention/heads.ts";

/** Positions that a hypothesis is tried on; fewer tell too little. */
const [MOST_POSITIONS, LEAST_POSITIONS] = [8, 4];
/** How far off a hypothesis may be, as a share of the difference that it explains. */
const NEAR = 0.02;
/** Widest weight of which all pairs of columns are tried. */
const MOST_COLUMNS = 4096;
/** Sizes of blocks of columns that change places, besides a head's. */
const BLOCKS = [32, 64, 128, 256];
/** Hypotheses that are handed on. */
const MOST = 3;

/** x [T, columns] → y [T, rows] */
export function columnVariants(operation: Operation, target: Float32Array): Variant[] {
  const { output, inputs: [x], weights: [weight], config: { headWidth } } = operation;
  const { rows, columns, data, name } = weight;
  const T = Math.min(MOST_POSITIONS, output.length / rows);
  if (T < LEAST_POSITIONS || columns > MOST_COLUMNS) return [];
  const row = farthest(output, target, rows);
  const w = data.subarray(row * columns, (row + 1) * columns);
  const there = Float64Array.from({ length: T }, (_, t) => target[t * rows + row]);
  const missing = there.map((value, t) => value - output[t * rows + row]);
  const allowed = NEAR * Math.sqrt(missing.reduce((sum, d) => sum + d * d, 0) / T);
  if (!(allowed > 0)) return [];
  /** Whether a hypothesis foretells the row's output at every position. */
  const holds = (foretold: (t: number) => number, of: ArrayLike<number>) => {
    for (let t = 0; t < T; t++) if (!(Math.abs(foretold(t) - of[t]) <= allowed)) return false;
    return true;
  };
  const withOrder = (order: ArrayLike<number>) =>
    holds((t) => {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += w[order[c]] * x[t * columns + c];
      return sum;
    }, there);

  const orders: Int32Array[] = [];
  for (const order of wholeOrders(columns, headWidth)) {
    if (orders.length < MOST && withOrder(order)) orders.push(order);
  }
  for (const [a, b, size] of exchanges(columns, headWidth)) {
    if (orders.length >= MOST) break;
    const found = holds((t) => {
      let sum = 0;
      for (let i = 0; i < size; i++) {
        sum += (w[a + i] - w[b + i]) * (x[t * columns + b + i] - x[t * columns + a + i]);
      }
      return sum;
    }, missing);
    if (found) orders.push(exchanged(columns, a, b, size));
  }
  return [
    ...orders.map((order): Variant => ({
      cause: "reordered",
      what: `${orderText(order, "columns", [headWidth])}; or the features that they read are`,
      where: name,
      // A weight with its columns in an order makes what the weight itself makes of features in the reverse of it.
      make: () => rerun(operation, { inputs: [inOrder(x, inverseOrder(order), 1)] }),
    })),
    ...zeroRuns(),
  ];

  /** Columns that are zero there: a run whose part is what lacks. */
  function zeroRuns(): Variant[] {
    const sums = Array.from({ length: T }, (_, t) => {
      const sum = new Float64Array(columns + 1);
      for (let c = 0; c < columns; c++) sum[c + 1] = sum[c] + w[c] * x[t * columns + c];
      return sum;
    });
    let [first, end, least] = [0, 0, Infinity];
    for (let a = 0; a < columns; a++) {
      for (let b = a + 1; b <= columns; b++) {
        let off = 0;
        for (let t = 0; t < T && off <= allowed; t++) {
          off = Math.max(off, Math.abs(sums[t][a] - sums[t][b] - missing[t]));
        }
        if (off <= allowed && off < least) [first, end, least] = [a, b, off];
      }
    }
    if (end === 0) return [];
    const isZero = (c: number) => c >= first && c < end;
    return [{
      cause: "zeros",
      what: first === end - 1
        ? `column ${first} is zero, or the feature that it reads`
        : `columns ${first} to ${end - 1} are zero, or the features that they read`,
      where: name,
      make: () => rerun(operation, { inputs: [x.map((v, i) => isZero(i % columns) ? 0 : v)] }),
    }];
  }
}

/** The output that is farthest off. */
function farthest(ours: Float32Array, theirs: Float32Array, rows: number): number {
  const errors = new Float64Array(rows);
  ours.forEach((value, i) => errors[i % rows] += (value - theirs[i]) ** 2);
  return errors.reduce((best, error, row) => error > errors[best] ? row : best, 0);
}

/** Two columns, or two blocks of them, that may have changed places. */
function* exchanges(n: number, headWidth: number): Generator<[a: number, b: number, size: number]> {
  for (const size of new Set([1, headWidth, ...BLOCKS])) {
    for (let a = 0; a + size <= n; a += size) {
      for (let b = a + size; b + size <= n; b += size) yield [a, b, size];
    }
  }
}

function exchanged(n: number, a: number, b: number, size: number): Int32Array {
  return Int32Array.from(
    { length: n },
    (_, c) => c >= a && c < a + size ? c - a + b : c >= b && c < b + size ? c - b + a : c,
  );
}
