/** The words of a model's file, where it has some. */
import { createTokenizer, type Metadata, type Tokenizer } from "../../text/mod.ts";

/** A file, or a model. */
interface Named {
  readonly name: string;
  readonly metadata: Metadata;
}

/** By metadata: a large vocabulary takes a while to sort. */
const tokenizers = new WeakMap<Metadata, Tokenizer>();

/** A file without a vocabulary still runs on ids; its tokens then have no text. */
export function hasVocabulary({ metadata }: Pick<Named, "metadata">): boolean {
  return metadata.has("tokenizer.ggml.tokens");
}

/**
 * The tokenizer of a file, made on first use.
 *
 * @throws {TokenizerError} when the file has none that is known
 */
export function tokenizerOf({ metadata, name }: Named): Tokenizer {
  let tokenizer = tokenizers.get(metadata);
  if (!tokenizer) tokenizers.set(metadata, tokenizer = createTokenizer(metadata, name));
  return tokenizer;
}

/** Tokens as people read them; ids where the file has no vocabulary, and those of others that are beyond its own. */
export function pieceOf(file: Named): (id: number) => string {
  const isKnown = (id: number) => hasVocabulary(file) && id < tokenizerOf(file).size;
  return (id) => isKnown(id) ? tokenizerOf(file).piece(id) : `${id}`;
}
