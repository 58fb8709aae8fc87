import { uniform } from "./random.ts";

/** How the next id is chosen. Everything that is left out is off: then sampling is greedy. */
export interface SamplerOptions {
  /** Divides the logits before the draw; 0 (default) takes the largest and draws nothing. */
  readonly temperature?: number;
  /** Keeps this many of the largest logits; 0 (default) keeps all. */
  readonly topK?: number;
  /** Keeps the fewest candidates whose probabilities sum to this, from (0, 1]; 1 (default): all. */
  readonly topP?: number;
  /** Keeps what has this share of the best one's probability, from [0, 1); 0 (default): all. */
  readonly minP?: number;
  /** Divides positive logits of recent ids and multiplies negative ones; 1 (default) is off. */
  readonly repeatPenalty?: number;
  /** How many of the latest ids count as recent; default 64. */
  readonly repeatWindow?: number;
  /** Integer from 0 (default) to 2^53 - 1. The same seed gives the same ids. */
  readonly seed?: number;
}

/** A sampler option outside its range. */
export class SamplerOptionError extends RangeError {
  /** The class's name. */
  override readonly name = "SamplerOptionError";
  /** The option at fault. */
  readonly option: keyof SamplerOptions;
  /** What it was set to. */
  readonly value: number;

  /**
   * Thrown when generation begins.
   *
   * @param range what it must be, as the message says it
   */
  constructor(option: keyof SamplerOptions, value: number, range: string) {
    super(`${option} must be ${range}; it is ${value}`);
    this.option = option;
    this.value = value;
  }
}

/** Logits that nothing can be chosen from. */
export class LogitsError extends Error {
  /** The class's name. */
  override readonly name = "LogitsError";
  /** The id at fault, if it is one. */
  readonly index?: number;

  /**
   * Thrown where the id is to be chosen; what was generated before stays.
   *
   * @param problem what the message ends with
   */
  constructor(problem: string, index?: number) {
    super(`cannot choose the next id: ${problem}`);
    this.index = index;
  }
}

/** An id that the filters kept, with its probability in the draw. */
export interface Candidate {
  readonly id: number;
  readonly probability: number;
}

/** Chooses ids by one set of options. */
export interface Sampler {
  readonly options: Required<SamplerOptions>;
  /**
   * The id that follows `history`. A pure function: the draw depends on the seed and the length of
   * the history, not on earlier calls, so that a session that is rewound repeats itself.
   *
   * @param logits [V], left as they are
   * @param history all ids so far, the prompt's too
   * @param stream keeps the draws of sequences in a batch apart
   * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
   */
  next(logits: Float32Array, history: ArrayLike<number>, stream?: number): number;
}

/** What applies where an option is left out: greedy, no filter. */
export const SAMPLER_DEFAULTS: Required<SamplerOptions> = Object.freeze({
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  repeatWindow: 64,
  seed: 0,
});

/**
 * Fills in the defaults and checks every option.
 *
 * @throws {SamplerOptionError} for the first option outside its range
 */
export function samplerOptions(options: SamplerOptions = {}): Required<SamplerOptions> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const all: Required<SamplerOptions> = { ...SAMPLER_DEFAULTS, ...Object.fromEntries(given) };
  function check(option: keyof SamplerOptions, valid: boolean, range: string): void {
    if (!valid) throw new SamplerOptionError(option, all[option], range);
  }
  const { temperature, topK, topP, minP, repeatPenalty, repeatWindow, seed } = all;
  check("temperature", temperature >= 0 && temperature < Infinity, "a number, 0 or more");
  check("topK", Number.isSafeInteger(topK) && topK >= 0, "an integer, 0 (off) or more");
  check("topP", topP > 0 && topP <= 1, "above 0 and at most 1 (off)");
  check("minP", minP >= 0 && minP < 1, "at least 0 (off) and below 1");
  check(
    "repeatPenalty",
    repeatPenalty > 0 && repeatPenalty < Infinity,
    "a number above 0; 1 is off",
  );
  check(
    "repeatWindow",
    Number.isSafeInteger(repeatWindow) && repeatWindow >= 0,
    "an integer, 0 (off) or more",
  );
  check("seed", Number.isSafeInteger(seed) && seed >= 0, "an integer from 0 to 2^53 - 1");
  return all;
}

/**
 * Makes a sampler. The chain is llama.cpp's default one: repeat penalty, top-k, top-p, min-p,
 * temperature, draw. So top-p and min-p see the probabilities at temperature 1.
 *
 * @throws {SamplerOptionError} for an option outside its range
 */
export function createSampler(options: SamplerOptions = {}): Sampler {
  const checked = samplerOptions(options);
  return {
    options: checked,
    next(logits, history, stream = 0) {
      const penalized = penalize(logits, history, checked);
      if (checked.temperature === 0) return greedy(penalized);
      return sample(penalized, checked, uniform(checked.seed, history.length, stream));
    },
  };
}

/**
 * Makes recent ids less likely: logits above 0 are divided by the penalty, the others multiplied,
 * once for each id. Source: Keskar et al., "CTRL" (arXiv:1909.05858, section 4.1), with
 * llama.cpp's rule for negative logits.
 *
 * @param logits [V], left as they are
 * @returns [V], the same array when nothing changes
 */
export function penalize(
  logits: Float32Array,
  history: ArrayLike<number>,
  options: SamplerOptions,
): Float32Array {
  const { repeatPenalty, repeatWindow } = samplerOptions(options);
  if (repeatPenalty === 1) return logits;
  const penalized = logits.slice();
  for (let i = Math.max(0, history.length - repeatWindow); i < history.length; i++) {
    const id = history[i];
    // From the logits that came in, not from the penalized ones: an id that occurs twice pays once.
    penalized[id] = logits[id] > 0 ? logits[id] / repeatPenalty : logits[id] * repeatPenalty;
  }
  return penalized;
}

/**
 * The id of the largest logit; of equal ones the lowest id.
 *
 * @param logits [V]
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function greedy(logits: Float32Array): number {
  let best = -Infinity;
  let id = -1;
  for (let i = 0; i < logits.length; i++) {
    if (!(logits[i] < Infinity)) throw new LogitsError(`logit ${i} is ${logits[i]}`, i);
    if (logits[i] > best) {
      best = logits[i];
      id = i;
    }
  }
  if (id < 0) throw new LogitsError(`none of ${logits.length} logits is finite`);
  return id;
}

/**
 * Filters and draws: the candidate, counted from the likeliest, at which the sum of probabilities
 * first exceeds `random`. Temperature 0 is greedy. Penalties are not applied here.
 *
 * @param logits [V], left as they are
 * @param random number from [0, 1)
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function sample(logits: Float32Array, options: SamplerOptions, random: number): number {
  const checked = samplerOptions(options);
  const best = greedy(logits);
  if (checked.temperature === 0) return best;
  const ranking = new Ranking(logits);
  const count = countKept(ranking, checked);
  const weight = weights(logits, best, checked.temperature);
  const threshold = random * mass(ranking, count, weight);
  let rank = 0;
  let sum = weight(ranking.at(rank));
  while (sum <= threshold && rank < count - 1) sum += weight(ranking.at(++rank));
  return ranking.at(rank);
}

/**
 * What {@linkcode sample} draws from, likeliest first; at temperature 0 the one that it takes.
 *
 * @param logits [V], left as they are
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function candidates(logits: Float32Array, options: SamplerOptions): Candidate[] {
  const checked = samplerOptions(options);
  const best = greedy(logits);
  if (checked.temperature === 0) return [{ id: best, probability: 1 }];
  const ranking = new Ranking(logits);
  const count = countKept(ranking, checked);
  const weight = weights(logits, best, checked.temperature);
  const total = mass(ranking, count, weight);
  return Array.from({ length: count }, (_, rank) => {
    const id = ranking.at(rank);
    return { id, probability: weight(id) / total };
  });
}

/** Every filter keeps a head of the ranking: how many are left after all of them. */
function countKept(ranking: Ranking, options: Required<SamplerOptions>): number {
  const { topK, topP, minP } = options;
  const weight = weights(ranking.logits, ranking.at(0), 1);
  let count = ranking.logits.length;
  if (topK > 0) count = Math.min(count, topK);
  if (topP < 1) {
    const threshold = topP * mass(ranking, count, weight);
    let kept = 1;
    for (let sum = weight(ranking.at(0)); sum < threshold && kept < count; kept++) {
      sum += weight(ranking.at(kept));
    }
    count = kept;
  }
  if (minP > 0) {
    let kept = 1;
    while (kept < count && weight(ranking.at(kept)) >= minP) kept++;
    count = kept;
  }
  return count;
}

/** The probability of an id at this temperature, in units of the best one's. */
function weights(logits: Float32Array, best: number, temperature: number): (id: number) => number {
  const highest = logits[best];
  return (id) => Math.exp((logits[id] - highest) / temperature);
}

/** Sum of the weights of the first `count` ids of the ranking. */
function mass(ranking: Ranking, count: number, weight: (id: number) => number): number {
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
class Ranking {
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
