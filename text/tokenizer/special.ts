import { type Metadata, tokenId } from "../metadata.ts";

/** The values of `tokenizer.ggml.token_type` (GGUF specification, docs/gguf.md of ggml). */
export const TokenType = {
  undefined: 0,
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** A token that is looked for in the text itself, before anything else happens to the text. */
export interface SpecialToken {
  readonly id: number;
  readonly text: string;
  /** Also where special tokens are not parsed: the model's authors declared it a word. */
  readonly always: boolean;
  /** White space after it belongs to it. */
  readonly stripRight: boolean;
}

/** Texts that end a turn or a text in the models that have them (llama.cpp v0.5.0's list). */
const ENDS = [
  "</s>",
  "<eos>",
  "[EOS]",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<｜end▁of▁sentence｜>",
  "<end_of_utterance>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|im_end|>",
  "<|end|>",
  "<end_of_turn>",
  "<turn|>",
  "<EOT>",
  "_<EOT>",
  "[EOT]",
  "[e~[",
  "<|return|>",
  "<|call|>",
  "<|calls|>",
  "<|flush|>",
  "<|tool_response>",
];

/** Roles that a file may give to a token by id and else has by its text. */
const ROLES: readonly {
  readonly keys: readonly string[];
  readonly names: readonly string[];
  readonly ends: boolean;
}[] = [
  { keys: ["eot"], names: [], ends: true },
  { keys: ["eom"], names: [], ends: true },
  {
    keys: ["fim_pre", "prefix"],
    names: [
      "<|fim_prefix|>",
      "<fim-prefix>",
      "<fim_prefix>",
      "<｜fim▁begin｜>",
      "<PRE>",
      "▁<PRE>",
      "<|code_prefix|>",
      "<|prefix|>",
    ],
    ends: false,
  },
  {
    keys: ["fim_suf", "suffix"],
    names: [
      "<|fim_suffix|>",
      "<fim-suffix>",
      "<fim_suffix>",
      "<｜fim▁hole｜>",
      "<SUF>",
      "▁<SUF>",
      "<|code_suffix|>",
      "<|suffix|>",
    ],
    ends: false,
  },
  {
    keys: ["fim_mid", "middle"],
    names: [
      "<|fim_middle|>",
      "<fim-middle>",
      "<fim_middle>",
      "<｜fim▁end｜>",
      "<MID>",
      "▁<MID>",
      "<|code_middle|>",
      "<|middle|>",
    ],
    ends: false,
  },
  {
    keys: ["fim_pad"],
    names: ["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    ends: true,
  },
  {
    keys: ["fim_rep"],
    names: ["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ends: true,
  },
  { keys: ["fim_sep"], names: ["<|file_sep|>"], ends: true },
];

/** Parts of gpt-oss's answers that people are to see, whatever their type. */
const SHOWN = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/**
 * The ids that end generation: those that the file names, and those known by their text, as
 * llama.cpp v0.5.0 finds them. Files often have the type of such tokens wrong; it is corrected in
 * `types`.
 */
export function endOfGeneration(
  metadata: Metadata,
  ids: ReadonlyMap<string, number>,
  types: Uint8Array,
  eos: number | undefined,
): Set<number> {
  const ends = new Set<number>();
  for (const { keys, names, ends: isEnd } of ROLES) {
    // Where both of a role's keys are there the second counts, as in llama.cpp.
    let id = keys.map((key) => tokenId(metadata, key, types.length))
      .findLast((each) => each !== undefined);
    if (id === undefined) {
      id = firstKnown(names, ids);
      if (id !== undefined) types[id] = TokenType.control;
    }
    if (isEnd && id !== undefined) ends.add(id);
  }
  for (const name of ENDS) {
    const id = ids.get(name);
    if (id === undefined) continue;
    ends.add(id);
    types[id] = TokenType.control;
  }
  for (const name of SHOWN) {
    const id = ids.get(name);
    if (id !== undefined) types[id] = TokenType.userDefined;
  }
  if (eos !== undefined) ends.add(eos);
  removeFalseEnds(ids, types, ends);
  return ends;
}

function firstKnown(
  names: readonly string[],
  ids: ReadonlyMap<string, number>,
): number | undefined {
  const name = names.find((each) => ids.has(each));
  return name === undefined ? undefined : ids.get(name);
}

/** In gpt-oss and Solar a message's end is not the answer's; Gemma 4's `</s>` is ordinary text. */
function removeFalseEnds(
  ids: ReadonlyMap<string, number>,
  types: Uint8Array,
  ends: Set<number>,
): void {
  const isEnd = (name: string) => ends.has(ids.get(name) ?? -1);
  const calls = isEnd("<|call|>") || isEnd("<|calls|>");
  if (isEnd("<|end|>") && calls && (isEnd("<|return|>") || isEnd("<|flush|>"))) {
    const id = ids.get("<|end|>")!;
    ends.delete(id);
    types[id] = TokenType.userDefined;
  }
  if (isEnd("<|tool_response>") && isEnd("</s>")) {
    const id = ids.get("</s>")!;
    ends.delete(id);
    types[id] = TokenType.normal;
  }
}

/**
 * Cuts the special tokens out of a text. Returns the pieces in order: ids, and the text between
 * them (never empty).
 *
 * @param parse whether control tokens count, too; words that the vocabulary declares always do
 */
export function splitSpecial(
  text: string,
  special: readonly SpecialToken[],
  parse: boolean,
): (number | string)[] {
  let parts: (number | string)[] = text === "" ? [] : [text];
  for (const token of special) {
    // A longer token wins over a shorter one before it, so each takes its turn with the whole text.
    if ((!parse && !token.always) || !text.includes(token.text)) continue;
    parts = parts.flatMap((part) => typeof part === "string" ? cut(part, token) : [part]);
  }
  return parts;
}

function cut(text: string, token: SpecialToken): (number | string)[] {
  const parts: (number | string)[] = [];
  let start = 0;
  for (
    let found = text.indexOf(token.text);
    found !== -1;
    found = text.indexOf(token.text, start)
  ) {
    if (found > start) parts.push(text.slice(start, found));
    parts.push(token.id);
    start = found + token.text.length;
    if (token.stripRight) start += leadingSpace(text, start);
  }
  if (start < text.length) parts.push(text.slice(start));
  return parts;
}

/** How many characters of ASCII white space (C's isspace) there are from `start` on. */
function leadingSpace(text: string, start: number): number {
  let end = start;
  while (/[ \t\n\v\f\r]/.test(text.charAt(end))) end++;
  return end - start;
}
