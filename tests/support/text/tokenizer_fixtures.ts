import { gunzipSync } from "node:zlib";

/** What fixtures/tokenizer_ids.json.gz holds: llama.cpp's ids of nasty strings. */
export interface TokenizerIds {
  readonly provenance: string;
  readonly strings: readonly string[];
  /** By name, for the first of the strings (small vocabularies for all of them). */
  readonly vocabularies: Readonly<Record<string, VocabularyIds>>;
}

export interface VocabularyIds {
  /** Special tokens parsed, BOS and EOS as the file says. */
  readonly parsed: readonly (readonly number[])[];
  /** No special tokens parsed and none added. */
  readonly plain: readonly (readonly number[])[];
  /** All ids that end generation. */
  readonly ends: readonly number[];
  /** Whether the file wants BOS and EOS tokens added. */
  readonly addBos: boolean;
  readonly addEos: boolean;
}

/** What fixtures/pretokenizer_ids.json.gz holds: llama.cpp's ids with each pre-tokenizer. */
export interface PreTokenizerIds {
  readonly provenance: string;
  readonly strings: readonly string[];
  /** Pre-tokenizers that gave the same ids for all strings. */
  readonly groups: readonly (readonly string[])[];
  /** By string, then by group: the ids with the pair vocabulary. */
  readonly ids: readonly (readonly (readonly number[])[])[];
}

export function readTokenizerIds(): TokenizerIds {
  return read("tokenizer_ids.json.gz");
}

export function readPreTokenizerIds(): PreTokenizerIds {
  return read("pretokenizer_ids.json.gz");
}

function read<T>(name: string): T {
  const packed = Deno.readFileSync(new URL(`../../fixtures/${name}`, import.meta.url));
  return JSON.parse(new TextDecoder().decode(gunzipSync(packed)));
}
