/** The prompts that a comparison runs. */
import type { ParityCase } from "./comparison.ts";

/** The prompt of record. */
export const DEFAULT_PROMPT = "Hello";

/** Long enough that every checkpoint can fail: some 60 tokens with most vocabularies. */
export const LONG_PROMPT =
  "In the old harbour a boy called Tom found a small brass key. He asked the fisherman, the baker " +
  "and the teacher whose key it was, but nobody knew. So he tried it on every door of the town, " +
  "until the last one, behind the lighthouse, opened with a sigh, and inside there was a boat.";

/** Longest prompt that the 64-bit oracle runs too: it takes seconds per token on larger models. */
const MOST_ORACLE = 80;
/** Tokens that are generated after each prompt. */
const GENERATE = 64;

/**
 * The cases of a run: the prompt that was asked for, and a longer one where that has fewer positions than some checkpoints need.
 *
 * @param tokenize gives ids; undefined for a file without a vocabulary, which runs on made-up ids
 * @param most tokens to generate after each, where the context has room
 */
export function parityCases(
  prompt: string | readonly number[],
  tokenize: ((text: string) => readonly number[]) | undefined,
  { contextLength, vocabSize }: { readonly contextLength: number; readonly vocabSize: number },
  most = GENERATE,
): ParityCase[] {
  const asked = typeof prompt === "string"
    ? tokenize ? { text: prompt, ids: tokenize(prompt) } : { ids: madeUp(2, vocabSize) }
    : { ids: prompt };
  const cases = [{ name: "prompt", ...asked }];
  if (asked.ids.length < 48) {
    const ids = tokenize?.(LONG_PROMPT) ?? madeUp(60, vocabSize);
    cases.push({ name: "long prompt", text: tokenize ? LONG_PROMPT : undefined, ids });
  }
  return cases.map((each) => ({
    ...each,
    generate: Math.max(0, Math.min(most, contextLength - each.ids.length - 1)),
    oracle: each.ids.length <= MOST_ORACLE,
  }));
}

/** Ids without a meaning, the same every time. */
function madeUp(count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, i) => (7919 * (i + 1)) % vocabSize);
}
