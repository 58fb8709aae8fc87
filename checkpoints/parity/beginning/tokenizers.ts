/** Two files' tokenizers against each other: which texts they cut otherwise, and which entry of the files is to blame. */
import {
  createTokenizer,
  type Metadata,
  type Tokenizer,
  TokenizerError,
} from "../../../text/mod.ts";
import { tokenizerOf } from "../../../inspect/run/vocabulary.ts";
import type { Cause } from "../../diagnosis/causes.ts";
import { AWKWARD_TEXTS } from "./awkward_texts.ts";
import { idsPart } from "./ids.ts";
import { derivedTexts } from "./derived_texts.ts";
import { entryText, firstEntry, isSame } from "./entries.ts";

/** A file that has a tokenizer. */
type Named = Parameters<typeof tokenizerOf>[0];

/** What two tokenizers part in. */
export interface TokenizerDifference {
  readonly cause: Extract<Cause, "tokenizer" | "bos-missing" | "space-prefix">;
  /** One line: the key and its entry, and a text that shows it. */
  readonly what: string;
}

/** Texts that show a difference and are looked at for the key to blame. */
const MOST_EXAMPLES = 24;

/** Keys that change ids, those that do least first: what one of them explains need not be laid to the next. */
const KEYS = [
  "add_bos_token",
  "add_space_prefix",
  "bos_token_id",
  "add_eos_token",
  "eos_token_id",
  "unknown_token_id",
  "pre",
  "token_type",
  "scores",
  "merges",
  "tokens",
  "model",
].map((key) => `tokenizer.ggml.${key}`);

/** What the texts show, with the ids of both sides. */
interface Example {
  readonly text: string;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
}

/**
 * How two files' tokenizers differ; undefined where neither the awkward texts, nor texts that are made of the entries that differ, nor
 * what ids become again as text shows a difference.
 *
 * @param texts more of them: prompts
 * @throws {TokenizerError} for a vocabulary that cannot be used
 */
export function compareTokenizers(
  here: Named,
  there: Named,
  texts: readonly string[] = [],
): TokenizerDifference | undefined {
  const [a, b] = [here, there].map(tokenizerOf);
  const [ours, theirs] = [here.metadata, there.metadata];
  const differing = keysOf(ours, theirs).filter((key) => !isSame(ours.get(key), theirs.get(key)));
  let examples = parting(a, b, [...texts, ...AWKWARD_TEXTS]);
  if (examples.length === 0) examples = parting(a, b, derivedTexts(a, ours, theirs, differing));
  if (examples.length === 0) return otherMeaning(a, b, ours, theirs);
  return explained(a, b, { ours, theirs, differing }, examples);
}

/** The names of a tokenizer's entries in either file. */
function keysOf(ours: Metadata, theirs: Metadata): string[] {
  const own = [...ours.keys(), ...theirs.keys()].filter((key) => key.startsWith("tokenizer.ggml."));
  const rank = (key: string) => KEYS.includes(key) ? KEYS.indexOf(key) : KEYS.length;
  // Phi-3's tokens swallow white space by the name of the model.
  return [...new Set([...own, "general.name"])].sort((x, y) => rank(x) - rank(y));
}

function parting(a: Tokenizer, b: Tokenizer, texts: Iterable<string>): Example[] {
  const examples: Example[] = [];
  for (const text of texts) {
    const [ours, theirs] = [a.encode(text), b.encode(text)];
    if (`${ours}` !== `${theirs}`) examples.push({ text, ours, theirs });
    if (examples.length === MOST_EXAMPLES) break;
  }
  return examples;
}

/** The files, and what they say differently. */
interface Files {
  readonly ours: Metadata;
  readonly theirs: Metadata;
  readonly differing: readonly string[];
}

function explained(
  a: Tokenizer,
  b: Tokenizer,
  { ours, theirs, differing }: Files,
  examples: readonly Example[],
): TokenizerDifference {
  const lacks = (long: readonly number[], short: readonly number[]) =>
    `${long.slice(1)}` === `${short}`;
  const [first] = examples;
  if (examples.every(({ ours, theirs }) => lacks(ours, theirs))) {
    return bosMissing(a, first.ours[0], "here", "there");
  }
  if (examples.every(({ ours, theirs }) => lacks(theirs, ours))) {
    return bosMissing(b, first.theirs[0], "there", "here");
  }
  const guilty = differing.filter((key) => KEYS.includes(key) || key === "general.name");
  // Alone where one is enough, else with all those that are likelier.
  const undone = guilty.find((key) => isMended([key], ours, theirs, examples));
  const keys = undone === undefined ? guilty : [undone];
  if (undone === "tokenizer.ggml.add_space_prefix") {
    const here = ours.get(undone) ?? true;
    return {
      cause: "space-prefix",
      what: here
        ? "here a space is put in front, there none"
        : "there a space is put in front, here none",
    };
  }
  const entries = keys.map((key) => entryText(key, ours.get(key), theirs.get(key)));
  const parts = idsPart(first, (id) => piece(a, id), (id) => piece(b, id));
  return {
    cause: "tokenizer",
    what: [...entries, `${quoted(first.text)}: ${parts}`].join("; "),
  };
}

function bosMissing(
  tokenizer: Tokenizer,
  id: number,
  where: string,
  other: string,
): TokenizerDifference {
  return {
    cause: "bos-missing",
    what: `${where} ${id} ${quoted(piece(tokenizer, id))} stands in front, ${other} it does not`,
  };
}

/** Whether our tokenizer with their entries gives their ids. */
function isMended(
  keys: readonly string[],
  ours: Metadata,
  theirs: Metadata,
  examples: readonly Example[],
): boolean {
  const mixed = new Map(ours);
  for (const key of keys) {
    if (theirs.has(key)) mixed.set(key, theirs.get(key));
    else mixed.delete(key);
  }
  try {
    const tokenizer = createTokenizer(mixed);
    return examples.every(({ text, theirs }) => `${tokenizer.encode(text)}` === `${theirs}`);
  } catch (error) {
    if (error instanceof TokenizerError) return false;
    throw error;
  }
}

/** Tokens that become another text, and those that end a generation on one side alone. */
function otherMeaning(
  a: Tokenizer,
  b: Tokenizer,
  ours: Metadata,
  theirs: Metadata,
): TokenizerDifference | undefined {
  for (const key of ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"]) {
    const [own, other] = [ours.get(key), theirs.get(key)];
    for (let id = firstEntry(own, other); id >= 0; id = firstEntry(own, other, id + 1)) {
      if (id >= a.size || id >= b.size) {
        return { cause: "tokenizer", what: entryText(key, own, other) };
      }
      // Twice, since the first one may lose its space.
      const [text, theirText] = [a, b].map((each) => each.decode([id, id]));
      if (text === theirText) continue;
      const shown = (text: string) => text === "" ? "shows nothing" : `shows ${quoted(text)}`;
      return {
        cause: "tokenizer",
        what: `${entryText(key, own, other)}; generated twice, ${id} ${quoted(piece(a, id))} ${
          shown(text)
        } here, ${shown(theirText)} there`,
      };
    }
  }
  const ends = a.endOfGeneration.symmetricDifference(b.endOfGeneration);
  for (const id of ends) {
    const [where, other] = a.endOfGeneration.has(id) ? ["here", "there"] : ["there", "here"];
    const key = "tokenizer.ggml.eos_token_id";
    const entry = isSame(ours.get(key), theirs.get(key))
      ? []
      : [entryText(key, ours.get(key), theirs.get(key))];
    const what = `${id} ${quoted(piece(a, id))} ends a text ${where}, ${other} it does not`;
    return { cause: "tokenizer", what: [...entry, what].join("; ") };
  }
  return undefined;
}

/** A token as people read it; what the vocabulary does not have is a question mark. */
function piece(tokenizer: Tokenizer, id: number): string {
  return id < tokenizer.size ? tokenizer.piece(id) : "?";
}

function quoted(text: string): string {
  const whole = JSON.stringify(text);
  return whole.length > 60 ? `${whole.slice(0, 57)}..."` : whole;
}
