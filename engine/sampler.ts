import {
  chosen,
  draw,
  FARTHEST,
  largest,
  penalized,
  randomShare,
  type SamplingNumbers,
} from "../kernels/sampling.ts";

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
 * temperature, draw. So top-p and min-p see the probabilities at temperature 1. A session's own
 * `sample` gives the same ids.
 *
 * @throws {SamplerOptionError} for an option outside its range
 */
export function createSampler(options: SamplerOptions = {}): Sampler {
  const checked = samplerOptions(options);
  const numbers = numbersOf(checked);
  return {
    options: checked,
    next(logits, history, stream = 0) {
      const random = randomShare(checked.seed, history.length, stream);
      return choose(penalized(logits, history, numbers), numbers, random);
    },
  };
}

/** The largest scale at the draw: the coldest temperature that is told from 0. */
const LARGEST_SCALE = 2 ** 60;

/**
 * The options as kernels take them.
 *
 * @throws {SamplerOptionError} for an option outside its range
 */
export function numbersOf(options: SamplerOptions): SamplingNumbers {
  const { temperature, topK, topP, minP, repeatPenalty, repeatWindow, seed } = samplerOptions(
    options,
  );
  return {
    penalty: Math.fround(repeatPenalty),
    relief: Math.fround(1 / repeatPenalty),
    window: Math.min(repeatWindow, FARTHEST),
    topK: Math.min(topK, FARTHEST),
    topP: topP === 1 ? 0 : Math.max(1, Math.floor(topP * 2 ** 32)),
    farthest: minP === 0 ? FARTHEST : Math.min(FARTHEST, Math.floor(-Math.log2(minP) * 2 ** 27)),
    scale: Math.fround(Math.min(LARGEST_SCALE, Math.LOG2E / temperature)),
    // Of several best ones both take the lowest id.
    greedy: temperature === 0 || topK === 1,
    seed,
  };
}

/** The point at which a pass with these options chooses the next id: plain greedy choice is the cheaper one. */
export function choiceOf(options: SamplerOptions): "argmax" | "sample" {
  const { greedy, penalty } = numbersOf(options);
  return greedy && penalty === 1 ? "argmax" : "sample";
}

/**
 * Makes recent ids less likely: logits above 0 are divided by the penalty, the others multiplied,
 * once for each id. Source: Keskar et al., "CTRL" (arXiv:1909.05858, section 4.1), with
 * llama.cpp's rule for negative logits. Divided is multiplied by the reciprocal, as a 32-bit float.
 *
 * @param logits [V], left as they are
 * @returns [V], the same array when nothing changes
 */
export function penalize(
  logits: Float32Array,
  history: ArrayLike<number>,
  options: SamplerOptions,
): Float32Array {
  return penalized(logits, history, numbersOf(options));
}

/**
 * The id of the largest logit; of equal ones the lowest id.
 *
 * @param logits [V]
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function greedy(logits: Float32Array): number {
  const id = largest(logits);
  if (id < 0) throw logitsError(logits);
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
  return choose(logits, numbersOf(options), Math.floor(random * 2 ** 32));
}

function choose(logits: Float32Array, numbers: SamplingNumbers, random: number): number {
  const id = chosen(logits, numbers, random);
  if (id < 0) throw logitsError(logits);
  return id;
}

/** What is wrong with logits from which nothing can be chosen. */
function logitsError(logits: Float32Array): LogitsError {
  const wrong = logits.findIndex((logit) => !(logit < Infinity));
  return wrong >= 0
    ? new LogitsError(`logit ${wrong} is ${logits[wrong]}`, wrong)
    : new LogitsError(`none of ${logits.length} logits is finite`);
}

/**
 * What {@linkcode sample} draws from, likeliest first; at temperature 0 the one that it takes.
 *
 * @param logits [V], left as they are
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function candidates(logits: Float32Array, options: SamplerOptions): Candidate[] {
  const numbers = numbersOf(options);
  const best = greedy(logits);
  if (numbers.greedy) return [{ id: best, probability: 1 }];
  const { ranking, count, weight, total } = draw(logits, best, numbers);
  if (total === 0) return [{ id: best, probability: 1 }];
  return Array.from({ length: count }, (_, rank) => {
    const id = ranking.at(rank);
    return { id, probability: weight(id) / total };
  });
}
