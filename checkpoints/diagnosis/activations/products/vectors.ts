/** Suspected faults of vectors: weights of norms, and biases. What the other side has instead is read off the outcome. */
import { factorBetween, factorText, namedFactor } from "../../../files/patterns/factors.ts";
import { orderText } from "../../../files/patterns/order_text.ts";
import { runsText } from "../../../files/patterns/runs.ts";
import { wholeOrders } from "../../../files/patterns/whole_orders.ts";
import { vectorWith } from "./other_tensor.ts";
import { type Operation, type Variant, withWeight } from "../operation.ts";

/** How near numbers are that are the same, as a share of the largest. */
const NEAR = 1e-3;

/** x [T, D], weight [D] → x · weight */
export async function normWeightVariants(operation: Operation): Promise<Variant[]> {
  const { inputs: [x], weights: [{ columns }], target } = operation;
  if (!target) return [];
  return await vectorVariants(operation, weightBetween(x, target, columns));
}

/** The weight [D] that brings x · weight nearest to y, both [T, D], by least squares. */
export function weightBetween(x: Float32Array, y: Float32Array, columns: number): Float32Array {
  const [above, below] = [new Float64Array(columns), new Float64Array(columns)];
  x.forEach((value, i) => {
    above[i % columns] += value * y[i];
    below[i % columns] += value * value;
  });
  return Float32Array.from(above, (sum, i) => sum / below[i]);
}

/** product [T, rows], bias [rows] → product + bias */
export async function biasVectorVariants(operation: Operation): Promise<Variant[]> {
  const { inputs: [product], weights: [{ columns, name, data }], target } = operation;
  const twice: Variant = {
    cause: "left-out",
    what: "it is added twice there",
    where: name,
    make: () => withWeight(operation, data.map((value) => 2 * value)),
  };
  if (!target) return [twice];
  const T = product.length / columns;
  const theirs = new Float64Array(columns);
  product.forEach((value, i) => theirs[i % columns] += (target[i] - value) / T);
  return [twice, ...await vectorVariants(operation, Float32Array.from(theirs))];
}

/** What other numbers a vector has: another one's, its own in another order or times a factor, zeros. */
async function vectorVariants(operation: Operation, theirs: Float32Array): Promise<Variant[]> {
  const { weights: [{ name, data }], reader: { file }, config } = operation;
  const of = (cause: Variant["cause"], what: string, numbers: Float32Array): Variant => ({
    cause,
    what,
    where: name,
    make: () => withWeight(operation, numbers),
  });
  const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const isNear = (a: number, b: number) => Math.abs(a - b) <= NEAR * largest;
  const variants: Variant[] = [];
  const other = await vectorWith(file, theirs, name, NEAR);
  if (other) variants.push(of("other-tensor", `it holds the numbers of ${other.name}`, other.data));
  const order = [...wholeOrders(data.length, config.headWidth)]
    .find((each) => data.every((_, i) => isNear(data[each[i]], theirs[i])));
  const words = order && orderText(order, "columns", [config.headWidth]);
  if (words) variants.push(of("reordered", words, data.map((_, i) => data[order[i]])));
  const { factor, left } = factorBetween(data, theirs);
  const named = namedFactor(factor, config, NEAR);
  if (named && left < NEAR) {
    const times = `times ${factorText(factor, config, NEAR)}`;
    variants.push(of("scaled", times, data.map((value) => value * named.value)));
  }
  const isZero = (value: number) => Math.abs(value) <= 1e-6 * largest;
  const zero = [...data.keys()].filter((i) => data[i] !== 0 && isZero(theirs[i]));
  if (zero.length > 0) {
    const what = zero.length === data.length
      ? "all of it is zero"
      : `${runsText(zero, "numbers")} are zero`;
    const numbers = data.slice();
    for (const i of zero) numbers[i] = 0;
    variants.push({ ...of("zeros", what, numbers), late: zero.length === data.length });
  }
  return variants;
}
