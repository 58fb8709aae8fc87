/**
 * How the next id is chosen from logits, in whole numbers wherever a rounding could decide: on every device, and in whatever order
 * it adds up, the same logits and the same numbers give the same id.
 *
 * What is left in floats is one product for the repeat penalty, one difference and one product, each rounded once. A candidate's
 * share of the draw is `weightOf`, a whole number; sums of whole numbers have no order.
 */
import { bindings, kernel } from "../kernel.ts";
import { uniform } from "./random.ts";
import sampleWgsl from "./sample.wgsl" with { type: "text" };

/** The options of sampling as the device reads them. */
export interface SamplingNumbers {
  /** What logits of recent ids are multiplied with: negative ones by `penalty`, the others by `relief`. 32-bit floats; 1: off. */
  readonly penalty: number;
  readonly relief: number;
  /** How many of the latest ids are recent. */
  readonly window: number;
  /** Candidates that are kept; 0: all. */
  readonly topK: number;
  /** Share of the sum of weights at temperature 1 that is kept, in units of 2⁻³²; 0: all. */
  readonly topP: number;
  /** The largest exponent at temperature 1 that is kept (as {@linkcode exponentOf} gives it); 2³² − 1: all. */
  readonly farthest: number;
  /** Exponents per logit at the draw: log₂e divided by the temperature, a 32-bit float. */
  readonly scale: number;
  /** Whether the best one is taken, and nothing is drawn. */
  readonly greedy: boolean;
  /** Up to 2⁵³ − 1. */
  readonly seed: number;
}

/** Words of {@linkcode samplingWords}. */
export const SAMPLING_WORDS = 16;

/** Exponents per logit at temperature 1. */
export const LOG2E = Math.fround(Math.LOG2E);

/** An exponent so large that nothing is left of the weight. */
export const FARTHEST = 2 ** 32 - 1;

/** The numbers as sample.wgsl lays them out. */
export function samplingWords(numbers: SamplingNumbers): Uint32Array<ArrayBuffer> {
  const { window, topK, topP, farthest, greedy, seed } = numbers;
  const words = new Uint32Array(SAMPLING_WORDS);
  words.set([0, 0, window, topK, topP, farthest, 0, greedy ? 1 : 0]);
  words.set([seed >>> 0, Math.floor(seed / 2 ** 32)], 8);
  const floats = new Float32Array(words.buffer);
  floats[0] = numbers.penalty;
  floats[1] = numbers.relief;
  floats[6] = numbers.scale;
  return words;
}

/** The numbers that the words stand for. */
export function samplingNumbers(words: Uint32Array): SamplingNumbers {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const [, , window, topK, topP, farthest, , greedy, low, high] = words;
  return {
    penalty: floats[0],
    relief: floats[1],
    window,
    topK,
    topP,
    farthest,
    scale: floats[6],
    greedy: greedy === 1,
    seed: high * 2 ** 32 + low,
  };
}

/**
 * How far a logit is below the best one, in halvings of the probability, in units of 2⁻²⁷; {@linkcode FARTHEST} from 32 halvings on.
 *
 * @param scale halvings per logit, a 32-bit float
 */
export function exponentOf(logit: number, best: number, scale: number): number {
  const halvings = Math.fround(Math.fround(best - logit) * scale);
  return halvings < 32 ? Math.floor(halvings * 2 ** 27) : FARTHEST;
}

/** Coefficients of 2^−t for t in [0, 1], without the first, in units of 2⁻³¹: off by 8.4e-8 at most. Signs take turns. */
const COEFFICIENTS = [2029165, 19769301, 118750173, 515782929, 1488514807];
/** The weight of the best logit. */
export const ONE = 2 ** 31;
/** ln 2 in units of 2⁻¹⁶. */
const LN2 = 45426;

/** The probability of an exponent in units of the best one's, times 2³¹, rounded down. */
export function weightOf(exponent: number): number {
  if (exponent === FARTHEST) return 0;
  const t = exponent >>> 11 & 0xffff; // the upper 16 bits of the fraction, by the polynomial
  const rest = (exponent & 0x7ff) * LN2 >>> 16; // the lower 11, by 2^−r ≈ 1 − r·ln 2
  let sum = COEFFICIENTS[0];
  for (let i = 1; i < COEFFICIENTS.length; i++) {
    sum = COEFFICIENTS[i] - Math.floor(sum * t / 65536);
  }
  sum = ONE - Math.floor(sum * t / 65536);
  sum -= (sum >>> 11) * rest >>> 16;
  return sum >>> (exponent >>> 27);
}

/** floor(sum · share / 2³²), exactly. */
function shareOf(sum: number, share: number): number {
  return Number(BigInt(sum) * BigInt(share) >> 32n);
}

/**
 * Makes recent ids less likely: logits above 0 are divided by the penalty (multiplied by its reciprocal, as a 32-bit float), the
 * others multiplied, once for each id. Source: Keskar et al., "CTRL" (arXiv:1909.05858, section 4.1), with llama.cpp's rule for
 * negative logits.
 *
 * @param logits [V], left as they are
 * @returns [V], the same array when nothing changes
 */
export function penalized(
  logits: Float32Array,
  history: ArrayLike<number>,
  { penalty, relief, window }: SamplingNumbers,
): Float32Array {
  if (penalty === 1) return logits;
  const changed = logits.slice();
  for (let i = Math.max(0, history.length - window); i < history.length; i++) {
    const id = history[i];
    // From the logits that came in, not from the changed ones: an id that occurs twice pays once.
    if (id < logits.length) changed[id] = logits[id] * (logits[id] > 0 ? relief : penalty);
  }
  return changed;
}

/** The id of the largest logit, of equal ones the lowest; −1 where a logit is NaN or +Infinity, or none is finite. */
export function largest(logits: Float32Array): number {
  let best = -Infinity;
  let id = -1;
  for (let i = 0; i < logits.length; i++) {
    if (!(logits[i] < Infinity)) return -1;
    if (logits[i] > best) {
      best = logits[i];
      id = i;
    }
  }
  return id;
}

/** What is drawn from: ids likeliest first, with their weights in the draw. */
export interface Draw {
  readonly ranking: Ranking;
  /** How many of the likeliest ids passed the filters. */
  readonly count: number;
  weight(id: number): number;
  /** Sum of the weights. */
  readonly total: number;
}

/**
 * Filters: top-k, of what it keeps top-p, of that min-p.
 *
 * @param logits [V], penalized
 * @param best the largest logit's id
 */
export function draw(logits: Float32Array, best: number, numbers: SamplingNumbers): Draw {
  const { topK, topP, farthest, scale } = numbers;
  const ranking = new Ranking(logits);
  const exponent = (id: number, scale: number) => exponentOf(logits[id], logits[best], scale);
  let count = topK > 0 ? Math.min(topK, logits.length) : logits.length;
  if (topP > 0) {
    const weight = (id: number) => weightOf(exponent(id, LOG2E));
    const enough = Math.max(1, shareOf(sumOf(ranking, count, weight), topP));
    count = reaching(ranking, count, weight, enough) + 1;
  }
  if (farthest < FARTHEST) {
    let kept = 1;
    while (kept < count && exponent(ranking.at(kept), LOG2E) <= farthest) kept++;
    count = kept;
  }
  const weight = (id: number) => weightOf(exponent(id, scale));
  return { ranking, count, weight, total: sumOf(ranking, count, weight) };
}

/**
 * The id, counted from the likeliest, at which the sum of weights first exceeds that share of it. Greedy where the numbers say so.
 *
 * @param logits [V], penalized
 * @param random share in units of 2⁻³²
 * @returns −1 where a logit is NaN or +Infinity, or none is finite
 */
export function chosen(logits: Float32Array, numbers: SamplingNumbers, random: number): number {
  const best = largest(logits);
  if (best < 0 || numbers.greedy) return best;
  const { ranking, count, weight, total } = draw(logits, best, numbers);
  // Near temperature 0 nothing but the best one has a weight, or not even that.
  if (total === 0) return best;
  return ranking.at(reaching(ranking, count, weight, shareOf(total, random) + 1));
}

/** The random share, in units of 2⁻³², that chooses what follows so many ids. */
export function randomShare(seed: number, length: number): number {
  return uniform(seed, length) * 2 ** 32;
}

/** The rank at which the sum of weights reaches `enough`. */
function reaching(
  ranking: Ranking,
  count: number,
  weight: (id: number) => number,
  enough: number,
): number {
  let rank = 0;
  for (let sum = weight(ranking.at(0)); sum < enough && rank < count - 1;) {
    sum += weight(ranking.at(++rank));
  }
  return rank;
}

/** Sum of the weights of the first `count` ids of the ranking: below 2⁵³ for up to 2²² of them, so exact. */
function sumOf(ranking: Ranking, count: number, weight: (id: number) => number): number {
  let sum = 0;
  if (count === ranking.logits.length) {
    for (let id = 0; id < count; id++) sum += weight(id);
  } else {
    for (let rank = 0; rank < count; rank++) sum += weight(ranking.at(rank));
  }
  return sum;
}

/**
 * Ids by falling logit, of equal ones the lower id first, sorted only as far as somebody looks:
 * a binary heap from which the ranks asked for were taken. Sorting a vocabulary of 128,000 whole
 * takes longer than a small model's step.
 */
export class Ranking {
  readonly logits: Float32Array;
  readonly #heap: Uint32Array;
  #size: number;

  constructor(logits: Float32Array) {
    this.logits = logits;
    this.#size = logits.length;
    this.#heap = new Uint32Array(this.#size);
    for (let id = 0; id < this.#size; id++) this.#heap[id] = id;
    for (let i = (this.#size >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  /** The id at this rank, 0 for the largest logit. */
  at(rank: number): number {
    const heap = this.#heap;
    // As in heapsort, what was taken fills the array from its end.
    while (heap.length - this.#size <= rank) {
      const last = --this.#size;
      [heap[0], heap[last]] = [heap[last], heap[0]];
      this.#sink(0);
    }
    return heap[heap.length - 1 - rank];
  }

  #sink(start: number): void {
    const heap = this.#heap;
    const id = heap[start];
    let hole = start;
    for (let child = 2 * hole + 1; child < this.#size; child = 2 * hole + 1) {
      if (child + 1 < this.#size && this.#before(heap[child + 1], heap[child])) child++;
      if (!this.#before(heap[child], id)) break;
      heap[hole] = heap[child];
      hole = child;
    }
    heap[hole] = id;
  }

  #before(a: number, b: number): boolean {
    const { logits } = this;
    return logits[a] > logits[b] || (logits[a] === logits[b] && a < b);
  }
}

/**
 * x [R, columns], sampling [16] (bits of 32-bit words, as `samplingWords` lays them out), history [S] (ids; u32 on the device) → the
 * id [1] that follows the last row, −1 where a number is NaN or +Infinity, or none is finite.
 */
export const sample = kernel({
  operation: "sample",
  wgsl: sampleWgsl,
  constants: { columns: "u32" },
  bindings: bindings(
    "input x",
    "input sampling bits",
    "input history u32",
    "output index i32",
    "scratch list",
  ),
  lanes: (knobs) => 4 * knobs.lanes,
  grid: () => [1, 1, 1],
  scratch: ({ columns }) => 4 * columns,
  twin({ pass, constants: { columns }, inputs: [x, sampling, history], outputs: [index] }) {
    const numbers = samplingNumbers(
      new Uint32Array(sampling.buffer, sampling.byteOffset, sampling.length),
    );
    const row = x.subarray((pass.rows - 1) * columns, pass.rows * columns);
    const ids = history.subarray(0, pass.start + pass.tokens);
    const random = randomShare(numbers.seed, ids.length);
    index![0] = chosen(penalized(row, ids, numbers), numbers, random);
  },
});
