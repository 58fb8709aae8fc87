/**
 * What is plausible in absolute terms: a model that foretells as healthy ones do, norm weights as training leaves them. An undo that
 * only makes something less wrong is no cause.
 */
import { mean, type TextLosses } from "./text_losses.ts";

/**
 * Said a third time, a list of words is foretold by every language model, whatever its language and size: its loss is below this share
 * of that of guessing, ln V. Measured: `tiny` 0.04, from F32 to Q2_K at most 0.06; SmolLM2 135M, which copies badly, 0.06, from Q8_0 to
 * Q4_0 at most 0.13. With one wrong weight in every layer, and that half undone, `tiny` has 0.9 to 1.7.
 */
const COPIED = 0.25;
/**
 * Words that nothing foretells cost about what guessing does; one who is surer of wrong words than that has logits of another size.
 * Measured: `tiny` 1.2 to 1.3, SmolLM2 0.9; with the output matrix 8 times as large 8.8.
 */
const SURPRISED = 1.6;
/** A model foretells texts when their loss is below this share of that of guessing. */
const FORETELLS = 0.75;
/** Times that the words are said. */
const TIMES = 3;

/** How a model foretells, as shares of the loss of guessing, ln V. */
export interface Plausibility {
  /** Words that were not said yet. */
  readonly first: number;
  /** Words that are said for the last time. */
  readonly copied: number;
  readonly isPlausible: boolean;
}

/**
 * Whether losses are those of a healthy model.
 *
 * @param words of one piece, a list of words that is said three times
 */
export function plausibility({ plain: [losses] }: TextLosses, vocabSize: number): Plausibility {
  const count = Math.ceil(losses.length / TIMES);
  const guessing = Math.log(vocabSize);
  const first = mean(losses.subarray(0, losses.length - (TIMES - 1) * count)) / guessing;
  const copied = mean(losses.subarray(losses.length - count)) / guessing;
  return { first, copied, isPlausible: first < SURPRISED && copied < COPIED };
}

/** Whether texts are more to a model than noise, at the best temperature. */
export function foretells(losses: readonly TextLosses[], vocabSize: number): boolean {
  const tokens = losses.flatMap(({ tempered }) => tempered.flatMap((piece) => [...piece]));
  return mean(tokens) < FORETELLS * Math.log(vocabSize);
}

/**
 * Norm weights begin at 1 and hardly ever change their sign: at most this share of a model's is negative. Measured: none of `tiny`'s,
 * 0.02 of SmolLM2's, of which nearly all are in its first norm.
 */
const NEGATIVE = 0.1;

/** Whether norm weights are what training leaves. */
export function arePlausibleNorms(weights: readonly Float32Array[]): boolean {
  let [negative, count] = [0, 0];
  for (const each of weights) {
    for (const value of each) if (value < 0) negative++;
    count += each.length;
  }
  return negative <= NEGATIVE * count;
}
