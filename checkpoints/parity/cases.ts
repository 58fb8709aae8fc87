/** What a comparison runs, and how it is judged. */
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Reference } from "../references/reference.ts";
import { DECODING_STEPS } from "./contract.ts";
import type { OtherWeights } from "./weights/other_weights.ts";

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

/** A prompt to compare with. */
export interface ParityCase {
  /** `prompt` or `long prompt`. */
  readonly name: string;
  /** Undefined where ids were given. */
  readonly text?: string;
  readonly ids: readonly number[];
  /** Our own ids of the text, where the reference's are run. */
  readonly ownIds?: readonly number[];
  /** Tokens to generate after it. */
  readonly generate: number;
  /** Ids that both sides run instead of the reference's choices. */
  readonly forced?: readonly number[];
  /** Passes that are compared: 0 the prompt, n the n-th generated token; by default those of {@linkcode DECODING_STEPS}. */
  readonly steps?: readonly number[];
  /** Whether the 64-bit oracle runs it too. */
  readonly oracle: boolean;
}

/** The passes of a case that are compared: 0 the prompt, n the n-th generated token. */
export function comparedSteps({ generate, steps = [0, ...DECODING_STEPS] }: ParityCase): number[] {
  return steps.filter((step) => step <= generate);
}

/** How a comparison is made. */
export interface ParityOptions {
  /** Layers to compare; all by default. */
  readonly layers?: readonly [first: number, last: number];
  /** The 64-bit oracle, on the same file and with the same builder of RoPE's angles. */
  readonly oracle?: Reference;
  /**
   * For a comparison with another file's weights. Where those have other numbers, what adds up over steps, and which ids come of it,
   * is reported and not judged.
   */
  readonly weights?: OtherWeights;
  /** Our weights: what rounding may make of a point follows from them. Needed with a reference whose activations are rounded. */
  readonly file?: GgufFile;
  /**
   * For an engine of whose rounding nothing is known, and always for one that rounds to fewer than 32 bits: each step is judged from
   * its own inputs where it shows them, and what has added up is reported and not judged. Where it does not (decoding without its
   * caches) that may be four times what it was in the prompt.
   */
  readonly localOnly?: boolean;
  readonly signal?: AbortSignal;
  /** Windows of layers that are done, of all of all prompts; and what comes next. */
  readonly onProgress?: (done: number, total: number, what: string) => void;
}
