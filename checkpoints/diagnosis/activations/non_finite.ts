/** Infinities and NaN: where they come from. */
import { maskOfNoNumbers } from "./attention/attention.ts";
import type { Chain } from "./chain.ts";
import { squareSum } from "./root_mean.ts";
import type { Weight } from "../../parity/steps_behind.ts";
import { HIDDEN, LARGEST_F16, type Operation } from "./operation.ts";

/** What makes numbers that are none. */
export interface NonFinite {
  readonly cause: "nan" | "f16-overflow" | "mask";
  readonly detail: string;
}

/** Infinities and NaN: a number that left the range of f16, or one that is none. */
export function nonFinite(
  { operations }: Chain,
  ours: Float32Array,
  target: Float32Array,
): NonFinite | undefined {
  const isWrong = (value: number) => !Number.isFinite(value);
  const theirs = target.findIndex(isWrong);
  const own = operations.find(({ output }) => output.some(isWrong));
  if (own && theirs < 0) {
    const weight = own.weights.find(({ data }) => data.some(isWrong));
    return {
      cause: "nan",
      detail: weight ? whereIn(weight) : `${own.name} makes it of finite inputs`,
    };
  }
  const clamped = (value: number, i: number) =>
    Math.abs(value) === LARGEST_F16 && Math.abs(ours[i]) > LARGEST_F16;
  if (theirs < 0 && !target.some(clamped)) return undefined;
  const last = operations.at(-1)!;
  const isFloor = (value: number) => !isWrong(value) || value === -Infinity;
  // A mask's −∞ are scores like any other.
  if (last.step.operation === "scores" && theirs >= 0 && target.every(isFloor)) return undefined;
  const mask = maskOfNoNumbers(last, target);
  if (mask) return { cause: "mask", detail: mask };
  // Squares are summed on the way to a norm, which then is 0 rather than infinite: they are suspected last.
  for (const reach of [outcomeReach, squareReach]) {
    const operation = operations.find((each) => reach(each) > LARGEST_F16);
    if (operation) {
      return {
        cause: "f16-overflow",
        detail: `${operation.name} reaches ${reach(operation).toPrecision(4)}`,
      };
    }
  }
  if (isOfEmptyRows(operations, target)) return undefined;
  return {
    cause: "nan",
    detail: `${last.name} at element ${theirs}, from finite inputs`,
  };
}

/** Whether attention is behind it, and whole rows from the first one on are no numbers: what a mask leaves that hides all keys of them. */
function isOfEmptyRows(operations: Chain["operations"], target: Float32Array): boolean {
  const { shape, step } = operations.at(-1)!;
  if (shape.length < 2 || !operations.some(({ step: { operation } }) => operation === "mix")) {
    return false;
  }
  const width = target.length / shape[0];
  const count = target.filter((value) => Number.isNaN(value)).length;
  return step.operation !== "store" && count > 0 && count < target.length && count % width === 0 &&
    target.subarray(0, count).every((value) => Number.isNaN(value));
}

/** The largest number of an operation's outcome; of scores before they are scaled. */
function outcomeReach({ step: { operation, constants }, output }: Operation): number {
  let largest = 0;
  for (const value of output) if (value > HIDDEN) largest = Math.max(largest, Math.abs(value));
  return operation === "scores" ? largest / constants.scale : largest;
}

/** The largest sum of a row's squares that a norm needs. */
function squareReach({ step: { operation, constants }, inputs: [x], output }: Operation): number {
  if (operation !== "rms") return 0;
  return Math.max(...Array.from(output, (_, row) => squareSum(x, row, constants.columns)));
}

function whereIn({ name, columns, data }: Weight): string {
  const at = data.findIndex((value) => !Number.isFinite(value));
  return `${name}, row ${Math.floor(at / columns)}, column ${at % columns}`;
}
