import { quoted, TokenizerError } from "./error.ts";
import { type Metadata, optionalString } from "./metadata.ts";
import { type PreTokenizer, preTokenizer } from "./tokenizer/pretokenizers.ts";

/** What holds where a file is silent about its special tokens. */
export interface SpecialDefaults {
  readonly bos?: number;
  readonly eos?: number;
  readonly unknown?: number;
  readonly addBos: boolean;
}

/** Which of the two kinds of vocabularies a file has, and what goes with the kind. */
export type VocabularyKind =
  | { readonly name: "spm"; readonly defaults: SpecialDefaults }
  | {
    readonly name: "bpe";
    readonly defaults: SpecialDefaults;
    readonly preTokenizer: PreTokenizer;
  };

/** Llama's own, which old files do not name. */
const SPM_DEFAULTS: SpecialDefaults = { bos: 1, eos: 2, unknown: 0, addBos: true };

/**
 * Reads from a file's metadata which kind of vocabulary it has.
 *
 * @throws {TokenizerError} when there is none, or one of another kind
 */
export function readKind(metadata: Metadata): VocabularyKind {
  const key = "tokenizer.ggml.model";
  const name = optionalString(metadata, key);
  if (name === "llama") return { name: "spm", defaults: SPM_DEFAULTS };
  if (name === "gpt2") {
    // Files from before the key existed are cut as llama.cpp cuts them: by "default".
    const pre = preTokenizer(optionalString(metadata, "tokenizer.ggml.pre") || "default");
    return { name: "bpe", defaults: { addBos: pre.addBos ?? false }, preTokenizer: pre };
  }
  const problem = name === undefined
    ? `the file has no vocabulary: ${key} is missing`
    : `${key} is ${quoted(name)}, which is not known`;
  throw new TokenizerError(`${problem}; known are llama (SentencePiece) and gpt2 (BPE)`, { key });
}
