/** Sampling, the choice of the next id: its options, and the choice on the CPU. */
import {
  chosen,
  draw,
  FARTHEST,
  largest,
  penalized,
  randomShare,
  type SamplingNumbers,
} from "../kernels/sampling/sampling.ts";

/** How the next id is chosen. Everything that is left out is off: then sampling is greedy. */
export interface SamplingOptions {
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

/** An option of sampling outside its range. */
export class SamplingOptionError extends RangeError {
  /** The class's name. */
  override readonly name = "SamplingOptionError";
  /** The option at fault. */
  readonly option: keyof SamplingOptions;
  /** What it was set to. */
  readonly value: number;

  /**
   * Thrown when generation begins.
   *
   * @param range what it must be, as the message says it
   */
  constructor(option: keyof SamplingOptions, value: number, range: string) {
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

/** What applies where an option is left out: greedy, no filter. */
export const SAMPLING_DEFAULTS: Required<SamplingOptions> = Object.freeze({
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
 * @throws {SamplingOptionError} for the first option outside its range
 */
export function samplingOptions(options: SamplingOptions = {}): Required<SamplingOptions> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const all: Required<SamplingOptions> = { ...SAMPLING_DEFAULTS, ...Object.fromEntries(given) };
  function check(option: keyof SamplingOptions, valid: boolean, range: string): void {
    if (!valid) throw new SamplingOptionError(option, all[option], range);
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

/** The largest scale at the draw: the coldest temperature that is told from 0. */
const LARGEST_SCALE = 2 ** 60;

/**
 * The options as kernels take them.
 *
 * @throws {SamplingOptionError} for an option outside its range
 */
export function numbersOf(options: SamplingOptions): SamplingNumbers {
  const { temperature, topK, topP, minP, repeatPenalty, repeatWindow, seed } = samplingOptions(
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
export function choiceOf(options: SamplingOptions): "argmax" | "sample" {
  const { greedy, penalty } = numbersOf(options);
  return greedy && penalty === 1 ? "argmax" : "sample";
}

/**
 * The id that follows `history`. The chain is llama.cpp's default one: repeat penalty, top-k, top-p, min-p, temperature, draw. So
 * top-p and min-p see the probabilities at temperature 1. A pass's own `sample` gives the same ids.
 *
 * The draw depends on the seed and the length of the history, not on earlier calls, so that a session that is rewound repeats itself.
 *
 * @param logits [V], left as they are
 * @param history all ids so far, the prompt's too
 * @throws {SamplingOptionError} for an option outside its range
 * @throws {LogitsError} when a logit is NaN or +Infinity, or none is finite
 */
export function nextId(
  logits: Float32Array,
  history: ArrayLike<number>,
  options: SamplingOptions = {},
): number {
  const numbers = numbersOf(options);
  const random = randomShare(numbers.seed, history.length);
  const id = chosen(penalized(logits, history, numbers), numbers, random);
  if (id >= 0) return id;
  const wrong = logits.findIndex((logit) => !(logit < Infinity));
  throw wrong >= 0
    ? new LogitsError(`logit ${wrong} is ${logits[wrong]}`, wrong)
    : new LogitsError(`none of ${logits.length} logits is finite`);
}

/** What an id is drawn from. */
export interface Candidates {
  /** The likeliest first. */
  readonly ids: readonly number[];
  /** Of each in the draw; they sum to 1. */
  readonly probabilities: readonly number[];
}

/**
 * What {@linkcode nextId} draws from where no id is penalized: none where a logit is NaN or +Infinity.
 *
 * @param logits [V], left as they are
 * @throws {SamplingOptionError} for an option outside its range
 */
export function candidates(logits: Float32Array, options: SamplingOptions): Candidates {
  const best = largest(logits);
  if (best < 0) return { ids: [], probabilities: [] };
  const { ranking, count, weight, total } = draw(logits, best, numbersOf(options));
  const ids = Array.from({ length: count }, (_, rank) => ranking.at(rank));
  return { ids, probabilities: ids.map((id) => weight(id) / total) };
}
