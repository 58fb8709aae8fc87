import { quoted, TokenizerError } from "../error.ts";
import { encodeFileText } from "../../base/file_text.ts";
import type { SpecialDefaults } from "../kind.ts";
import {
  type Metadata,
  optionalBoolean,
  optionalNumbers,
  optionalString,
  optionalStrings,
  tokenId,
} from "../metadata.ts";
import { endOfGeneration, type SpecialToken, TokenType } from "./special.ts";

/** The tokens that go before and after a text. */
export interface EdgeTokens {
  readonly bos?: number;
  readonly eos?: number;
  readonly addBos: boolean;
  readonly addEos: boolean;
}

/** A file's tokens and what the file says about them. */
export interface Vocabulary extends EdgeTokens {
  /** The texts as the file writes them, by id: `▁the`, `Ġthe`, `<s>`; base/file_text.ts has their bytes. */
  readonly tokens: readonly string[];
  /** A {@linkcode TokenType} for each id. */
  readonly types: Uint8Array;
  /** The ids by text. */
  readonly ids: ReadonlyMap<string, number>;
  readonly unknown?: number;
  /** The ids after which a model has said what it had to say. */
  readonly endOfGeneration: ReadonlySet<number>;
  /** The longest first, so that none hides in another. */
  readonly special: readonly SpecialToken[];
}

/**
 * Reads the vocabulary out of a GGUF file's metadata.
 *
 * @throws {TokenizerError} for tokens that are missing, of another type or there twice, and for a
 * beginning or an end that is to be added but not named
 */
export function readVocabulary(metadata: Metadata, defaults: SpecialDefaults): Vocabulary {
  const tokens = readTokens(metadata);
  const ids = idsOf(tokens);
  const types = readTypes(metadata, tokens.length);
  const edges = readEdges(metadata, defaults, tokens.length);
  const ends = endOfGeneration(metadata, ids, types, edges.eos);
  return {
    tokens,
    types,
    ids,
    ...edges,
    unknown: tokenId(metadata, "unknown", tokens.length) ?? defaults.unknown,
    endOfGeneration: ends,
    special: specialTokens(metadata, tokens, types),
  };
}

/** The ids by text. Most of the time goes into the map, so a token that is there twice is looked for only where it has become too small. */
function idsOf(tokens: readonly string[]): ReadonlyMap<string, number> {
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) ids.set(tokens[id], id);
  if (ids.size === tokens.length) return ids;
  // Of equal texts the last one is in the map.
  const before = tokens.findIndex((token, id) => ids.get(token) !== id);
  const token = tokens[before];
  const id = tokens.indexOf(token, before + 1);
  throw new TokenizerError(
    `tokenizer.ggml.tokens has ${quoted(token)} twice, as ${before} and ${id}; ` +
      "convert the model again",
    { key: "tokenizer.ggml.tokens", id },
  );
}

/**
 * Reads which tokens go before and after a text, of a vocabulary of `size` tokens.
 *
 * @throws {TokenizerError} for one that is to be added but not named
 */
export function readEdges(
  metadata: Metadata,
  defaults: SpecialDefaults,
  size: number,
): EdgeTokens {
  const bos = tokenId(metadata, "bos", size) ?? defaults.bos;
  const eos = tokenId(metadata, "eos", size) ?? defaults.eos;
  const addBos = optionalBoolean(metadata, "tokenizer.ggml.add_bos_token") ?? defaults.addBos;
  const addEos = optionalBoolean(metadata, "tokenizer.ggml.add_eos_token") ?? false;
  if (addBos && bos === undefined) throw unnamed("bos");
  if (addEos && eos === undefined) throw unnamed("eos");
  return { bos, eos, addBos, addEos };
}

/**
 * Reads the tokens' texts, by id.
 *
 * @throws {TokenizerError} when there are none
 */
export function readTokens(metadata: Metadata): readonly string[] {
  const key = "tokenizer.ggml.tokens";
  const tokens = optionalStrings(metadata, key);
  if (tokens === undefined || tokens.length === 0) {
    throw new TokenizerError(
      `the file has no vocabulary: ${key} is missing or empty; convert the model again`,
      { key },
    );
  }
  // llama.cpp's name for a token without text, which keeps the ids of many such tokens apart.
  return tokens.map((token, id) => token === "" ? `[EMPTY_${id}]` : token);
}

function readTypes(metadata: Metadata, size: number): Uint8Array {
  const types = new Uint8Array(size).fill(TokenType.normal);
  const given = optionalNumbers(metadata, "tokenizer.ggml.token_type", size);
  if (given === undefined) return types;
  for (let id = 0; id < size; id++) {
    const known = given[id] >= TokenType.undefined && given[id] <= TokenType.byte;
    types[id] = known ? given[id] : TokenType.undefined;
  }
  return types;
}

function specialTokens(
  metadata: Metadata,
  tokens: readonly string[],
  types: Uint8Array,
): SpecialToken[] {
  // No file says which tokens swallow white space, so llama.cpp goes by the model's name.
  const isPhi3 = /phi-?3/i.test(optionalString(metadata, "general.name") ?? "");
  const found: { readonly bytes: number; readonly token: SpecialToken }[] = [];
  for (let id = 0; id < tokens.length; id++) {
    const always = types[id] === TokenType.userDefined;
    if (!always && types[id] !== TokenType.control && types[id] !== TokenType.unknown) continue;
    const text = tokens[id];
    const stripRight = isPhi3 && !["<unk>", "<s>", "<|endoftext|>"].includes(text);
    const bytes = encodeFileText(text).length;
    found.push({ bytes, token: { id, text, always, stripRight } });
  }
  return found.sort((a, b) => b.bytes - a.bytes).map(({ token }) => token);
}

function unnamed(role: "bos" | "eos"): TokenizerError {
  const key = `tokenizer.ggml.${role}_token_id`;
  return new TokenizerError(
    `the file wants a ${role.toUpperCase()} token added but ${key} names none; set it, ` +
      `or set tokenizer.ggml.add_${role}_token to false`,
    { key },
  );
}
