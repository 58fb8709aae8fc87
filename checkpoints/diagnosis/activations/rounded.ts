/** Suspected roundings: of an outcome, of a weight, or of what an operation reads. */
import { fewBits } from "../../files/few_bits.ts";
import { rounded, roundedBlocks, toBits, UNIT } from "../../parity/rounded_engines/rounding.ts";
import { type Operation, rerun, type Variant, withWeight } from "./operation.ts";

/** 16-bit types. */
const HALVES = ["bf16", "f16"] as const;
/** Of half a unit in the last place, what a number may be moved by rounding to the nearest. */
const HALFWAY = 1.001;
/** Different numbers that an outcome must have: fewer are what they are for other reasons. */
const MANY = 8;
/** Numbers that ggml rounds together. */
const BLOCKS = [32, 256] as const;

/** Significant bits of numbers that few of them hold, if they do so: f16 has 11. */
const MOST_BITS = 12;

/** An outcome that few bits hold there and not here: the nearest of their numbers in its place. */
export function roundedOutcomes({ output, target, shape }: Operation): Variant[] {
  if (!target) return [];
  const columns = shape.at(-1)!;
  const words = fewBits(target, columns)?.what;
  const type = HALVES.find((each) => each === words);
  const isFree = (words === undefined || type) && significantBits(output) === undefined;
  const fewest = isFree ? significantBits(target) : undefined;
  // Of a type that has more there is nothing to be said.
  const isLess = fewest !== undefined && (!type || 2 ** -fewest > UNIT[type]);
  const significant = isLess ? fewest : undefined;
  const bits = significant ? `one of ${significant} significant bits` : words;
  if (bits === undefined || fewBits(output, columns) !== undefined) return [];
  const steps = Float64Array.from(new Set(target)).sort();
  if (steps.length < MANY) return [];
  // A number halfway between two may go to either.
  const unit = significant ? 2 ** -significant : type && UNIT[type];
  const isNear = (value: number, next: number) =>
    unit ? Math.abs(value - next) <= HALFWAY * unit * Math.abs(next) : isNext(steps, value, next);
  return [{
    cause: "rounded",
    what: `every number is ${bits} there`,
    make: () => output.map((value, i) => isNear(value, target[i]) ? target[i] : value),
  }];
}

/** The most significant bits that any number has; undefined where those are not few. */
function significantBits(numbers: Float32Array): number | undefined {
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  // Zeros and what is not finite say nothing.
  const isNumber = (i: number) => numbers[i] !== 0 && Number.isFinite(numbers[i]);
  const all = words.reduce((sum, word, i) => isNumber(i) ? sum | word : sum, 0) & 0x7fffff;
  const bits = all === 0 ? 1 : 24 - (31 - Math.clz32(all & -all));
  return bits <= MOST_BITS ? bits : undefined;
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

/** How the numbers of a matrix [rows, columns] are rounded, in words. */
type Rounding = readonly [words: string, round: (x: Float32Array, columns: number) => Float32Array];

const TO_HALVES = HALVES.map((
  type,
): Rounding => [`rounded to ${type} there`, (x) => rounded(x, type)]);
const TO_FLOATS = [3, 2].map((bits): Rounding => [
  `rounded to f8 (e${7 - bits}m${bits}) there`,
  (x) => x.map((value) => toBits(value, bits, bits === 3 ? -6 : -14)),
]);
const TO_ROWS = [8, 4].map((bits): Rounding => [
  `each row rounded to ${bits} bits there`,
  (x, columns) => roundedBlocks(x, columns, bits),
]);
const TO_BLOCKS = BLOCKS.map((block): Rounding => [
  `rounded to 8 bits there, in blocks of ${block}`,
  (x) => roundedBlocks(x, block),
]);

/** Of a weight, and of what it is multiplied with: what is usual, and what is tried where it can be measured. */
const OF_WEIGHT = { usual: [...TO_HALVES, TO_ROWS[0]], more: [TO_ROWS[1], ...TO_FLOATS] };
const OF_INPUT = { usual: [...TO_HALVES, ...TO_BLOCKS], more: [TO_ROWS[0], ...TO_FLOATS] };
/** Positions and rows whose outputs a rounding is tried on first, and what it must leave of their difference. */
const [SAMPLE, LEFT] = [8, 0.5];

/** A product with its weight in fewer bits, or of an x in fewer bits. */
export function roundedProducts(operation: Operation): Variant[] {
  const { inputs: [x], weights: [{ name: where, data, columns }], target } = operation;
  const none: Rounding[1] = (numbers) => numbers;
  const likely = ({ usual, more }: typeof OF_WEIGHT, fits: (round: Rounding[1]) => boolean) =>
    target ? [...usual, ...more].filter(([, round]) => fits(round)) : usual;
  return [
    ...likely(OF_WEIGHT, (round) => leavesLittle(operation, none, round)).map((
      [words, round],
    ): Variant => ({
      cause: "rounded",
      what: words,
      where,
      make: () => withWeight(operation, round(data, columns)),
    })),
    ...likely(OF_INPUT, (round) => leavesLittle(operation, round, none)).map((
      [words, round],
    ): Variant => ({
      cause: "rounded",
      what: `what it reads is ${words}`,
      make: () => rerun(operation, { inputs: [round(x, columns)] }),
    })),
  ];
}

/** Whether roundings of x and of the weight explain some of a sample of outputs. */
function leavesLittle(
  { inputs: [x], weights: [{ rows, columns, data }], output, target }: Operation,
  ofX: Rounding[1],
  ofW: Rounding[1],
): boolean {
  const spread = (count: number) =>
    Array.from({ length: SAMPLE }, (_, i) => Math.floor((i + 0.5) * count / SAMPLE));
  const row = (of: Float32Array, at: number) => of.subarray(at * columns, (at + 1) * columns);
  const positions = new Set(spread(output.length / rows));
  const weights = [...new Set(spread(rows))].map((at) =>
    [at, ofW(row(data, at), columns)] as const
  );
  let [left, usual] = [0, 0];
  for (const t of positions) {
    const read = ofX(row(x, t), columns);
    for (const [at, w] of weights) {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += w[c] * read[c];
      const place = t * rows + at;
      left += (sum - target![place]) ** 2;
      usual += (output[place] - target![place]) ** 2;
    }
  }
  return left <= LEFT ** 2 * usual;
}
