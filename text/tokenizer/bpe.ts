import { TokenizerError } from "../error.ts";
import { encodeFileText } from "../../base/file_text.ts";
import { mergePairs } from "./merge.ts";
import { type Metadata, optionalStrings } from "../metadata.ts";
import type { TokenizerModel } from "./tokenizer_model.ts";
import { type PreTokenizer, wordSplitter } from "./pretokenizers.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Words whose ids are remembered; text repeats its words, so most are found here. */
const REMEMBERED_WORDS = 50_000;

/**
 * The characters that stand for the bytes in a byte-level vocabulary: printable Latin-1 characters
 * for themselves, the others from U+0100 on (GPT-2's encoder.py, `bytes_to_unicode`).
 */
const BYTE_CHARACTERS: readonly string[] = byteCharacters();
const CHARACTER_BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/**
 * Byte-level BPE: text is cut into words, each word's bytes are merged by rank.
 *
 * @throws {TokenizerError} when the file has no merges
 */
export function bpeModel(
  metadata: Metadata,
  vocabulary: Vocabulary,
  preTokenizer: PreTokenizer,
): TokenizerModel {
  const merges = readMerges(metadata);
  // Ids alone need none.
  let ranks: ReadonlyMap<string, number> | undefined;
  const split = wordSplitter(preTokenizer);
  const { ids } = vocabulary;
  let remembered = new Map<string, readonly number[]>();

  function encodeWord(word: string): number[] {
    const spelled = toCharacters(word);
    if (preTokenizer.ignoreMerges) {
      const id = ids.get(spelled);
      if (id !== undefined) return [id];
    }
    const rankOf = ranks ??= ranksOf(merges);
    const ends = Int32Array.from(spelled, (_, index) => index + 1);
    const merged = mergePairs(
      ends,
      (start, middle, end) =>
        rankOf.get(`${spelled.slice(start, middle)} ${spelled.slice(middle, end)}`),
    );
    return merged.flatMap((end, index) =>
      symbolIds(spelled.slice(index === 0 ? 0 : merged[index - 1], end), ids)
    );
  }

  return {
    addsSpace: false,
    encode(text) {
      const found: number[] = [];
      for (const word of split(text)) {
        let wordIds = remembered.get(word);
        if (wordIds === undefined) {
          wordIds = encodeWord(word);
          if (remembered.size >= REMEMBERED_WORDS) remembered = new Map();
          remembered.set(word, wordIds);
        }
        for (const id of wordIds) found.push(id);
      }
      return found;
    },
    bytes: fromCharacters,
    spelling: toCharacters,
  };
}

/** The merges as the file writes them, `left right`, by rank. */
function readMerges(metadata: Metadata): readonly string[] {
  const key = "tokenizer.ggml.merges";
  const merges = optionalStrings(metadata, key);
  if (merges !== undefined) return merges;
  throw new TokenizerError(
    `the file has no merges: ${key} is missing, which a BPE vocabulary needs; ` +
      "convert the model again",
    { key },
  );
}

/** Ranks by merge; of equal merges the first counts. */
function ranksOf(merges: readonly string[]): ReadonlyMap<string, number> {
  const ranks = new Map<string, number>();
  for (let rank = merges.length - 1; rank >= 0; rank--) ranks.set(merges[rank], rank);
  return ranks;
}

/**
 * A symbol's id. Merges may make symbols that are not in the vocabulary, and a byte may be missing:
 * what is left of them is what llama.cpp leaves, their ASCII characters.
 */
function symbolIds(symbol: string, ids: ReadonlyMap<string, number>): number[] {
  const id = ids.get(symbol);
  if (id !== undefined) return [id];
  return [...symbol].filter((character) => character < "\u0080")
    .map((character) => ids.get(character))
    .filter((each) => each !== undefined);
}

function toCharacters(text: string): string {
  let characters = "";
  for (const byte of new TextEncoder().encode(text)) characters += BYTE_CHARACTERS[byte];
  return characters;
}

/** A character that stands for no byte stands for itself. */
function fromCharacters(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = CHARACTER_BYTES.get(character);
    if (byte !== undefined) bytes.push(byte);
    else bytes.push(...encodeFileText(character));
  }
  return Uint8Array.from(bytes);
}

function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
}
