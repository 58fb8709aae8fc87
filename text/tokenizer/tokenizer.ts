import { bpeModel } from "./bpe.ts";
import { inFile, TokenizerError } from "../error.ts";
import { encodeFileText } from "../../base/file_text.ts";
import { readKind } from "../kind.ts";
import type { Metadata } from "../metadata.ts";
import type { TokenizerModel } from "./tokenizer_model.ts";
import { splitSpecial, TokenType } from "./special.ts";
import { spmModel } from "./spm.ts";
import { readable, TextStream } from "./stream.ts";
import { readVocabulary, type Vocabulary } from "./vocabulary.ts";

/** How {@linkcode Tokenizer.encode} treats a text. */
export interface EncodeOptions {
  /** Whether special tokens written in the text become those tokens. Default: true. */
  readonly special?: boolean;
  /** Whether the BOS token goes before the text. Default: what the file says. */
  readonly bos?: boolean;
  /** Whether the EOS token goes after the text. Default: what the file says. */
  readonly eos?: boolean;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Whether special tokens show, as the vocabulary writes them. Default: false. */
  readonly special?: boolean;
}

/** Where a stream of ids starts. */
export interface StreamOptions extends DecodeOptions {
  /** The ids that come before the first one pushed: a prompt that the stream goes on from. */
  readonly after?: Iterable<number>;
}

/** Turns ids into text one by one. */
export interface TokenStream {
  /**
   * The text that an id completes: empty while a character's bytes are not all there.
   *
   * @throws {TokenizerError} for an id that is not in the vocabulary
   */
  push(id: number): string;
  /** What is left at the end: U+FFFD for a character whose bytes never came, else nothing. */
  end(): string;
}

/** Text to token ids and back, with a GGUF file's own vocabulary. */
export interface Tokenizer {
  /** SentencePiece (`tokenizer.ggml.model` = `llama`) or byte-level BPE (`gpt2`). */
  readonly kind: "spm" | "bpe";
  /** Number of tokens; ids go from 0 to `size - 1`. */
  readonly size: number;
  /** The id that begins a text, where the file names one. */
  readonly bos?: number;
  /** The id that ends a text, where the file names one. */
  readonly eos?: number;
  /** Whether the file wants a BOS token before each text. */
  readonly addBos: boolean;
  /** Whether the file wants an EOS token after each text. */
  readonly addEos: boolean;
  /** The ids at which generation stops: EOS, the end of a turn, and those known by their text. */
  readonly endOfGeneration: ReadonlySet<number>;
  /** The ids of a text, the same as llama.cpp's. Lone surrogates count as U+FFFD. */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * The text of ids, without the space that encoding put before it. Bytes that are no UTF-8 become
   * U+FFFD.
   *
   * @throws {TokenizerError} for an id that is not in the vocabulary
   */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /**
   * A token as people read it: ` the`, `<s>`, a newline for `<0x0A>`; bytes that are no whole
   * character are written `\xE4`.
   *
   * @throws {TokenizerError} for an id that is not in the vocabulary
   */
  piece(id: number): string;
  /**
   * The bytes that a token adds to a text, special tokens' own text included; none for tokens that
   * the file declares unused.
   *
   * @throws {TokenizerError} for an id that is not in the vocabulary
   */
  bytes(id: number): Uint8Array;
  /** The id of a token written as in the file (`▁the`, `Ġthe`) or as people read it (` the`). */
  id(piece: string): number | undefined;
  /**
   * Starts turning generated ids into text. Give the prompt's ids as `after`: without them the
   * first id counts as the beginning of the text, where SentencePiece drops a space.
   */
  stream(options?: StreamOptions): TokenStream;
}

/**
 * Makes the tokenizer that a GGUF file's metadata describes; a file with a vocabulary and nothing
 * else will do.
 *
 * @param file the file's name, for errors
 * @throws {TokenizerError} for a vocabulary that is missing, incomplete or of a kind not known
 */
export function createTokenizer(metadata: Metadata, file?: string): Tokenizer {
  return inFile(file, () => {
    const kind = readKind(metadata);
    const vocabulary = readVocabulary(metadata, kind.defaults);
    const model = kind.name === "spm"
      ? spmModel(metadata, vocabulary)
      : bpeModel(metadata, vocabulary, kind.preTokenizer);
    return new ModelTokenizer(kind.name, vocabulary, model, file);
  });
}

class ModelTokenizer implements Tokenizer {
  readonly kind: "spm" | "bpe";
  readonly #vocabulary: Vocabulary;
  readonly #model: TokenizerModel;
  readonly #file?: string;

  constructor(kind: "spm" | "bpe", vocabulary: Vocabulary, model: TokenizerModel, file?: string) {
    this.kind = kind;
    this.#vocabulary = vocabulary;
    this.#model = model;
    this.#file = file;
  }

  get size(): number {
    return this.#vocabulary.tokens.length;
  }

  get bos(): number | undefined {
    return this.#vocabulary.bos;
  }

  get eos(): number | undefined {
    return this.#vocabulary.eos;
  }

  get addBos(): boolean {
    return this.#vocabulary.addBos;
  }

  get addEos(): boolean {
    return this.#vocabulary.addEos;
  }

  get endOfGeneration(): ReadonlySet<number> {
    return this.#vocabulary.endOfGeneration;
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    return inFile(this.#file, () => this.#encode(text, options));
  }

  #encode(text: string, options: EncodeOptions): number[] {
    const { special = true, bos = this.addBos, eos = this.addEos } = options;
    const ids: number[] = [];
    if (bos) ids.push(this.#required("BOS", this.bos));
    for (const part of splitSpecial(text.toWellFormed(), this.#vocabulary.special, special)) {
      if (typeof part === "number") ids.push(part);
      else for (const id of this.#model.encode(part)) ids.push(id);
    }
    if (eos) ids.push(this.#required("EOS", this.eos));
    return ids;
  }

  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    let text = "";
    for (const id of ids) text += stream.push(id);
    return text + stream.end();
  }

  piece(id: number): string {
    const unused = this.#type(id) === TokenType.unused || this.#type(id) === TokenType.undefined;
    return readable(unused ? encodeFileText(this.#vocabulary.tokens[id]) : this.bytes(id));
  }

  bytes(id: number): Uint8Array {
    const type = this.#type(id);
    const token = this.#vocabulary.tokens[id];
    if (type === TokenType.unused || type === TokenType.undefined) return new Uint8Array();
    const byte = type === TokenType.byte ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token) : null;
    if (byte !== null) return Uint8Array.of(parseInt(byte[1], 16));
    return type === TokenType.normal ? this.#model.bytes(token) : encodeFileText(token);
  }

  id(piece: string): number | undefined {
    const { ids } = this.#vocabulary;
    return ids.get(piece) ?? ids.get(this.#model.spelling(piece));
  }

  stream(options: StreamOptions = {}): TokenStream {
    const { special = false, after = [] } = options;
    const stream = new TextStream({
      bytes: (id) => !special && this.#isHidden(id) ? new Uint8Array() : this.bytes(id),
      dropsSpace: this.#model.addsSpace,
    });
    for (const id of after) stream.push(id);
    return stream;
  }

  #isHidden(id: number): boolean {
    const type = this.#type(id);
    return type === TokenType.control || type === TokenType.unknown;
  }

  #type(id: number): number {
    if (!Number.isInteger(id) || id < 0 || id >= this.size) {
      throw new TokenizerError(
        `token id ${id} is not in the vocabulary, whose ids go from 0 to ${this.size - 1}`,
        { id },
      );
    }
    return this.#vocabulary.types[id];
  }

  #required(role: string, id: number | undefined): number {
    if (id !== undefined) return id;
    throw new TokenizerError(`a ${role} token was asked for but the file names none`, {
      key: `tokenizer.ggml.${role.toLowerCase()}_token_id`,
    });
  }
}
