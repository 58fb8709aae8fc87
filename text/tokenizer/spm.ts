import { TokenizerError } from "../error.ts";
import { encodeFileText } from "../../base/file_text.ts";
import { mergePairs } from "./merge.ts";
import { type Metadata, optionalBoolean, optionalNumbers } from "../metadata.ts";
import type { TokenizerModel } from "./tokenizer_model.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** SentencePiece's mark for a space, U+2581. */
const SPACE = "▁";

/**
 * SentencePiece's BPE as Llama 2 has it: neighbouring pieces are merged into the token of the
 * highest score, over the whole text; characters that no token has become bytes, `<0xE4>`.
 *
 * @throws {TokenizerError} when the file has no scores
 */
export function spmModel(metadata: Metadata, vocabulary: Vocabulary): TokenizerModel {
  const { ids } = vocabulary;
  const scores = readScores(metadata, vocabulary.tokens.length);
  const addsSpace = optionalBoolean(metadata, "tokenizer.ggml.add_space_prefix") ?? true;
  const longest = vocabulary.tokens.reduce((most, token) => Math.max(most, token.length), 0);

  function byteId(byte: number): number {
    const token = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const id = ids.get(token) ?? vocabulary.unknown;
    if (id !== undefined) return id;
    throw new TokenizerError(
      `the vocabulary has neither ${token} nor a token for the unknown; convert the model again`,
      { key: "tokenizer.ggml.unknown_token_id" },
    );
  }

  return {
    addsSpace,
    encode(text) {
      const spelled = spell((addsSpace ? " " : "") + text);
      const ends: number[] = [];
      let end = 0;
      for (const character of spelled) ends.push(end += character.length);
      const merged = mergePairs(ends, (start, _, end) => {
        if (end - start > longest) return undefined;
        const id = ids.get(spelled.slice(start, end));
        return id === undefined ? undefined : -scores[id];
      });
      const found: number[] = [];
      let start = 0;
      for (const end of merged) {
        const piece = spelled.slice(start, end);
        const id = ids.get(piece);
        if (id !== undefined) found.push(id);
        else for (const byte of new TextEncoder().encode(piece)) found.push(byteId(byte));
        start = end;
      }
      return found;
    },
    bytes: (token) => encodeFileText(token.replaceAll(SPACE, " ")),
    spelling: spell,
  };
}

function spell(text: string): string {
  return text.replaceAll(" ", SPACE);
}

function readScores(metadata: Metadata, size: number): ArrayLike<number> {
  const key = "tokenizer.ggml.scores";
  const scores = optionalNumbers(metadata, key, size);
  if (scores !== undefined) {
    const id = Array.prototype.findIndex.call(scores, Number.isNaN);
    if (id < 0) return scores;
    throw new TokenizerError(
      `${key} has NaN as the score of token ${id}; convert the model again`,
      {
        key,
        id,
      },
    );
  }
  throw new TokenizerError(
    `the file has a vocabulary without scores: ${key} is missing, which a SentencePiece ` +
      "vocabulary needs; convert the model again",
    { key },
  );
}
