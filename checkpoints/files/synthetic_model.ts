/** Model files of any shape with random weights: for measuring what a model of that shape costs where the real one is not at hand. */
import { sizeOf } from "../../base/shape.ts";
import type { Config } from "../../engine/model/config.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import { fullKey } from "../../engine/model/keys.ts";
import { readHyperparameters } from "../../engine/model/hyperparameters.ts";
import { expectedTensors } from "../../engine/plan/tensors.ts";
import type { MetadataType, MetadataValue, TensorInfo } from "../../engine/gguf/header.ts";
import { GGML_TYPES, type GgmlType } from "../../engine/gguf/types.ts";
import type { NewGguf, NewTensor } from "../../engine/gguf/writer.ts";
import { Random, randomBlocks, type RandomType } from "./random.ts";

/** What shapes a model; see {@linkcode Config}. */
export type Shape = Readonly<UsualShape & Partial<UnusualShape>>;

type UsualShape =
  & Pick<
    Config,
    | "layers"
    | "width"
    | "ffnWidth"
    | "heads"
    | "kvHeads"
    | "headWidth"
    | "vocabSize"
    | "contextLength"
    | "normEpsilon"
    | "tiedOutput"
  >
  & { /** Of {@linkcode Rope}. */ readonly ropeBase: number };

/** RoPE of the whole head, a Llama without biases; where nothing else is said. */
interface UnusualShape {
  /** `general.architecture`. */
  readonly architecture: string;
  /** Of {@linkcode Rope}. */
  readonly ropeWidth: number;
  /** Further metadata, below the architecture's name: `attention.sliding_window`. Takes the place of the usual where both have a key. */
  readonly keys: Readonly<Record<string, readonly [type: MetadataType, value: MetadataValue]>>;
  /** Optional tensors that the file has: `attn_q.bias` in every layer, `rope_freqs.weight` once. */
  readonly optional: readonly string[];
}

/** Shapes that have a name: those of published models. */
export const SHAPES: Readonly<Record<string, Shape>> = Object.fromEntries(
  // layers, width, FFN, heads, key/value heads, a head, vocabulary, context, base of RoPE, whether the output is tied
  ([
    ["smollm2-135m", 30, 576, 1536, 9, 3, 64, 49152, 8192, 100000, true],
    ["tinyllama-1.1b", 22, 2048, 5632, 32, 4, 64, 32000, 2048, 10000, false],
    ["llama-2-7b", 32, 4096, 11008, 32, 32, 128, 32000, 4096, 10000, false],
    ["llama-2-13b", 40, 5120, 13824, 40, 40, 128, 32000, 4096, 10000, false],
    ["llama-3-8b", 32, 4096, 14336, 32, 8, 128, 128256, 8192, 500000, false],
  ] as const).map((
    [name, layers, width, ffnWidth, heads, kvHeads, headWidth, vocabSize, contextLength, ...rest],
  ) => {
    const [ropeBase, tiedOutput] = rest;
    const sizes = { layers, width, ffnWidth, heads, kvHeads, headWidth, vocabSize, contextLength };
    return [name, { ...sizes, ropeBase, normEpsilon: 1e-5, tiedOutput }];
  }),
);

/** What tokens there are: none (`no_vocab`: ids only), or as in Llama 2: bytes and made-up pieces. */
export const VOCABULARIES = ["none", "llama"] as const;
/** One of them. */
export type Vocabulary = typeof VOCABULARIES[number];

/** What a synthetic model is to be. */
export interface SyntheticOptions {
  /** `general.name`. */
  readonly name: string;
  readonly shape: Shape;
  /** Of all matrices, or of each by its name; vectors are F32. */
  readonly type: RandomType | ((tensor: string) => RandomType);
  readonly vocabulary?: Vocabulary;
  /** The same seed (unsigned, 32 bits) gives the same file. */
  readonly seed?: number;
}

/** A shape that no model can have. */
export class ShapeError extends RangeError {
  override readonly name = "ShapeError";
}

/** A tensor with random numbers. */
export interface SyntheticTensor extends NewTensor {
  /** Its bytes. Tensors share a generator: who asks for each once, in order, gets what the seed promises. */
  readonly pieces: () => Iterable<Uint8Array>;
}

/** A model to write. */
export interface SyntheticModel extends NewGguf {
  readonly tensors: readonly SyntheticTensor[];
}

/**
 * A model of a shape. Weights are normal or, quantized, random bits under random scales, with a standard deviation of about
 * 1/√columns, so that values neither vanish nor grow from layer to layer, and every bit of a block matters. One piece of a tensor is
 * in memory at a time.
 *
 * @throws {ShapeError} for a shape that cannot be, in words
 */
export function syntheticModel(options: SyntheticOptions): SyntheticModel {
  const { name, shape, type, vocabulary = "none", seed = 0 } = options;
  checkShape(shape, vocabulary);
  const entries = metadataOf(name, shape, type, vocabulary);
  const metadata = new Map(entries.map(([key, , value]) => [key, value]));
  const config = readHyperparameters({ name, metadata, tensors: optionalTensors(shape) });
  const random = new Random(seed);
  const pools = new Map<string, Pool>();
  function matrix(type: RandomType, columns: number, rows: number): Iterable<Uint8Array> {
    const count = columns * rows;
    if (count <= POOL_NUMBERS) return [randomBlocks(type, count, 1 / Math.sqrt(columns), random)];
    const key = `${type} ${columns}`;
    const pool = pools.get(key) ?? new Pool(type, columns, random);
    pools.set(key, pool);
    return pool.take(rows);
  }
  const { headWidth, qkNorm } = config;
  // llama.cpp wants rows where each head has weights of its own.
  const written = (shape: readonly number[], name: string) =>
    qkNorm?.over === "own_heads" && /attn_[qk]_norm/.test(name)
      ? [headWidth, shape[0] / headWidth]
      : shape;
  const tensors = expectedTensors(config).map(({ name, shape }): SyntheticTensor => {
    const [columns] = shape;
    // Experts are one below the other.
    const isMatrix = shape.length > 1 && !name.endsWith(".bias");
    const rows = isMatrix ? sizeOf(shape.slice(1)) : undefined;
    const own = rows === undefined ? "F32" : typeof type === "string" ? type : type(name);
    checkRows(columns, typeOf(own));
    const pieces = rows === undefined
      ? () => [vector(name, sizeOf(shape), random)]
      : () => matrix(own, columns, rows);
    return {
      name,
      shape: written(shape, name),
      type: typeOf(own),
      pieces,
      bytes: () => later(pieces()),
    };
  });
  return {
    metadata,
    metadataTypes: new Map(entries.map(([key, type]) => [key, type])),
    tensors,
  };
}

function checkShape(shape: Shape, vocabulary: Vocabulary): void {
  const { heads, kvHeads, headWidth, vocabSize } = shape;
  if (heads % kvHeads !== 0) {
    throw new ShapeError(`${kvHeads} key/value heads do not divide ${heads} heads`);
  }
  if (headWidth % 2 !== 0) throw new ShapeError(`heads of ${headWidth}: RoPE needs an even width`);
  if (vocabulary === "llama" && vocabSize < SPECIAL + 256) {
    throw new ShapeError(`${vocabSize} tokens hold no 256 bytes and ${SPECIAL} special ones`);
  }
}

function checkRows(columns: number, type: GgmlType): void {
  if (columns % type.blockSize === 0) return;
  throw new ShapeError(
    `rows of ${columns} numbers are no whole blocks of ${type.blockSize}, as ${type.name} has`,
  );
}

/** The tensors that a config depends on: those that a model may have or not. */
function optionalTensors({ layers, optional = [], tiedOutput }: Shape): Map<string, TensorInfo> {
  const names = Array.from(
    { length: layers },
    (_, layer) => ["attn_norm.weight", ...optional].map((name) => `blk.${layer}.${name}`),
  ).flat();
  const all = [...names, ...optional, "output_norm.weight", ...tiedOutput ? [] : ["output.weight"]];
  const nothing = { type: typeOf("F32"), shape: [], bytes: 0, offset: 0, source: 0 };
  return new Map(all.map((name) => [name, { ...nothing, name }]));
}

/** `llama_ftype` of files whose matrices are of a type, all or most. */
const FILE_TYPES: Readonly<Record<RandomType, number>> = {
  ...{ F32: 0, F16: 1, BF16: 32, Q8_0: 7, Q4_0: 2, Q4_1: 3, Q5_0: 8, Q5_1: 9 },
  ...{ Q2_K: 10, Q3_K: 11, Q4_K: 14, Q5_K: 16, Q6_K: 18 },
};

/** Which key has the norms' epsilon. */
const EPSILON = { rms: "layer_norm_rms_epsilon", layer: "layer_norm_epsilon" } as const;

type Entry = readonly [key: string, type: MetadataType, value: MetadataValue];

function metadataOf(
  name: string,
  shape: Shape,
  type: SyntheticOptions["type"],
  vocabulary: Vocabulary,
): Entry[] {
  const { architecture = "llama", headWidth, ropeWidth = headWidth, keys = {} } = shape;
  const { normKind = "rms" } = FAMILIES[architecture];
  const usual: Record<string, readonly [type: MetadataType, value: MetadataValue]> = {
    "context_length": ["u32", shape.contextLength],
    "embedding_length": ["u32", shape.width],
    "block_count": ["u32", shape.layers],
    "feed_forward_length": ["u32", shape.ffnWidth],
    "attention.head_count": ["u32", shape.heads],
    "attention.head_count_kv": ["u32", shape.kvHeads],
    "attention.key_length": ["u32", headWidth],
    "attention.value_length": ["u32", headWidth],
    [`attention.${EPSILON[normKind]}`]: ["f32", shape.normEpsilon],
    "rope.dimension_count": ["u32", ropeWidth],
    "rope.freq_base": ["f32", shape.ropeBase],
  };
  const own = { ...usual, ...keys, vocab_size: ["u32", shape.vocabSize] as const };
  return [
    ["general.architecture", "string", architecture],
    ["general.name", "string", name],
    ["general.description", "string", "random weights: for measuring, it says nothing"],
    ...(typeof type === "string" ? [["general.file_type", "u32", FILE_TYPES[type]] as const] : []),
    ["general.quantization_version", "u32", 2],
    ...Object.entries(own).map(([key, [type, value]]): Entry => [
      fullKey(architecture, key),
      type,
      value,
    ]),
    ...(vocabulary === "llama" ? llamaVocabulary(shape.vocabSize) : [
      ["tokenizer.ggml.model", "string", "no_vocab"] as const,
    ]),
  ];
}

/** `<unk>`, `<s>`, `</s>`. */
const SPECIAL = 3;

/** A vocabulary of SentencePiece's kind: special tokens, bytes, and words that nobody says. */
function llamaVocabulary(size: number): Entry[] {
  const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, "0");
  const token = (id: number) => id < SPECIAL + 256 ? `<0x${hex(id - SPECIAL)}>` : `▁w${id}`;
  const special = ["<unk>", "<s>", "</s>"];
  const ids = Array.from({ length: size }, (_, id) => id);
  // Kinds of SentencePiece: 1 normal, 2 unknown, 3 control, 6 byte.
  const kind = (id: number) => id === 0 ? 2 : id < SPECIAL ? 3 : id < SPECIAL + 256 ? 6 : 1;
  return [
    ["tokenizer.ggml.model", "string", "llama"],
    ["tokenizer.ggml.tokens", "string[]", ids.map((id) => special[id] ?? token(id))],
    ["tokenizer.ggml.scores", "f32[]", Float32Array.from(ids, (id) => id < SPECIAL ? 0 : -id)],
    ["tokenizer.ggml.token_type", "i32[]", Int32Array.from(ids, kind)],
    ["tokenizer.ggml.unknown_token_id", "u32", 0],
    ["tokenizer.ggml.bos_token_id", "u32", 1],
    ["tokenizer.ggml.eos_token_id", "u32", 2],
  ];
}

function typeOf(name: string): GgmlType {
  return GGML_TYPES.find((type) => type.name === name)!;
}

async function* later(pieces: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

/** Norms' weights are near 1, divisors of frequencies near 4, biases near 0. */
function vector(name: string, size: number, random: Random): Uint8Array {
  const [mean, deviation] = /^rope_(freqs|factors_\w+)\.weight$/.test(name)
    ? [4, 0.5]
    : name.endsWith(".bias")
    ? [0, 0.3]
    : [1, 0.2];
  return new Uint8Array(
    Float32Array.from({ length: size }, () => mean + random.normal(deviation)).buffer,
  );
}

/** Numbers in a pool, about; a smaller matrix has numbers of its own. */
const POOL_NUMBERS = 2 ** 20;

/**
 * Random rows without end, out of a pool that is gone through again and again: making each number of a large model anew would take
 * minutes. The pool is no whole number of rows, so that rows are shifted against each other and none is like another before
 * the pool has been gone through as many times as a row has blocks.
 */
class Pool {
  readonly #bytes: Uint8Array;
  readonly #rowBytes: number;
  #at = 0;

  constructor(name: RandomType, columns: number, random: Random) {
    const { blockSize, blockBytes } = typeOf(name);
    const rows = Math.max(1, Math.floor(POOL_NUMBERS / columns));
    this.#rowBytes = columns / blockSize * blockBytes;
    this.#bytes = randomBlocks(name, rows * columns + blockSize, 1 / Math.sqrt(columns), random);
  }

  /** The bytes of the next `rows` rows. */
  *take(rows: number): Generator<Uint8Array> {
    for (let left = rows * this.#rowBytes; left > 0;) {
      const piece = this.#bytes.subarray(this.#at, this.#at + left);
      yield piece;
      left -= piece.length;
      this.#at = (this.#at + piece.length) % this.#bytes.length;
    }
  }
}
