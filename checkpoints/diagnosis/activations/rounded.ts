/** Suspected roundings: of an outcome, of a weight, or of what an operation reads. */
import { fewBits } from "../../files/few_bits.ts";
import { rounded, roundedBlocks, UNIT } from "../../parity/rounding.ts";
import { type Operation, rerun, type Variant, withWeight } from "./operation.ts";

/** 16-bit types. */
const HALVES = ["bf16", "f16"] as const;
/** Of half a unit in the last place, what a number may be moved by rounding to the nearest. */
const HALFWAY = 1.001;
/** Numbers that ggml rounds together. */
const BLOCKS = [32, 256] as const;

/** An outcome that few bits hold there and not here: the nearest of their numbers in its place. */
export function roundedOutcomes({ output, target, shape }: Operation): Variant[] {
  if (!target) return [];
  const columns = shape.at(-1)!;
  const bits = fewBits(target, columns)?.what;
  if (bits === undefined || fewBits(output, columns) !== undefined) return [];
  // A number halfway between two may go to either.
  const half = HALVES.find((type) => type === bits);
  const steps = Float64Array.from(new Set(target)).sort();
  const isNear = (value: number, next: number) =>
    half
      ? Math.abs(value - next) <= HALFWAY * UNIT[half] * Math.abs(next)
      : isNext(steps, value, next);
  return [{
    cause: "rounded",
    what: `every number is ${bits} there`,
    make: () => output.map((value, i) => isNear(value, target[i]) ? target[i] : value),
  }];
}

/** Whether no other of some ascending numbers lies between a value and one of them. */
function isNext(steps: Float64Array, value: number, next: number): boolean {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < value) low = middle + 1;
    else high = middle;
  }
  return steps[low] === next || steps[low - 1] === next;
}

/** A product with its weight in fewer bits, or of an x in fewer bits. */
export function roundedProducts(operation: Operation): Variant[] {
  const { inputs: [x], weights: [{ name: where, data, columns }] } = operation;
  return [
    ...HALVES.map((type): Variant => ({
      cause: "rounded",
      what: `rounded to ${type} there`,
      where,
      make: () => withWeight(operation, rounded(data, type)),
    })),
    {
      cause: "rounded",
      what: "each row rounded to 8 bits there",
      where,
      make: () => withWeight(operation, roundedBlocks(data, columns)),
    },
    ...HALVES.map((type): Variant => ({
      cause: "rounded",
      what: `what it reads is rounded to ${type} there`,
      make: () => rerun(operation, { inputs: [rounded(x, type)] }),
    })),
    ...BLOCKS.map((block): Variant => ({
      cause: "rounded",
      what: `what it reads is rounded to 8 bits there, in blocks of ${block}`,
      make: () => rerun(operation, { inputs: [roundedBlocks(x, block)] }),
    })),
  ];
}
