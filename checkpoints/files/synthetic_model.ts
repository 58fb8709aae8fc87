/** Model files of any shape with random weights: for measuring what a model of that shape costs where the real one is not at hand. */
import { type Config, expectedTensors } from "../../engine/model/config.ts";
import type { MetadataType, MetadataValue } from "../../engine/gguf/header.ts";
import { GGML_TYPES, type GgmlType } from "../../engine/gguf/types.ts";
import type { NewGguf, NewTensor } from "../../engine/gguf/writer.ts";
import { uniform } from "../../kernels/sampling/random.ts";

/** What shapes a model; see {@linkcode Config}. */
export type Shape = Pick<
  Config,
  | "layers"
  | "width"
  | "ffnWidth"
  | "heads"
  | "kvHeads"
  | "headWidth"
  | "vocabSize"
  | "contextLength"
  | "ropeBase"
  | "normEpsilon"
  | "tiedOutput"
>;

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

/** Types that matrices can have. */
export const SYNTHETIC_TYPES = ["F32", "F16", "Q8_0", "Q4_0"] as const;
/** One of them. */
export type SyntheticType = typeof SYNTHETIC_TYPES[number];

/** What tokens there are: none (`no_vocab`: ids only), or as in Llama 2: bytes and made-up pieces. */
export const VOCABULARIES = ["none", "llama"] as const;
/** One of them. */
export type Vocabulary = typeof VOCABULARIES[number];

/** What a synthetic model is to be. */
export interface SyntheticOptions {
  /** `general.name`. */
  readonly name: string;
  readonly shape: Shape;
  /** Of all matrices; vectors are F32. */
  readonly type: SyntheticType;
  readonly vocabulary?: Vocabulary;
  /** The same seed gives the same file. */
  readonly seed?: number;
}

/** A shape that no model can have. */
export class ShapeError extends RangeError {
  override readonly name = "ShapeError";
}

/**
 * A model of a shape. Weights are normal or, quantized, uniform, with a standard deviation of 1/√columns, so that values neither
 * vanish nor grow from layer to layer; norms' weights are 1. One piece of a tensor is in memory at a time.
 *
 * @throws {ShapeError} for a shape that cannot be, in words
 */
export function syntheticModel(options: SyntheticOptions): NewGguf {
  const { name, shape, type: typeName, vocabulary = "none", seed = 0 } = options;
  const type = typeOf(typeName);
  checkShape(shape, type, vocabulary);
  const config = configOf(name, shape);
  let drawn = 0;
  const random = () => uniform(seed, drawn++);
  const pools = new Map<number, Pool>();
  const pool = (columns: number) => {
    if (!pools.has(columns)) pools.set(columns, new Pool(type, columns, random));
    return pools.get(columns)!;
  };
  const tensors = expectedTensors(config).map(({ name, shape }): NewTensor => {
    if (shape.length === 1) {
      const ones = new Float32Array(shape[0]).fill(1);
      const bytes = () => pieces([new Uint8Array(ones.buffer)]);
      return { name, shape, type: typeOf("F32"), bytes };
    }
    return { name, shape, type, bytes: () => pieces(pool(shape[0]).take(shape[1])) };
  });
  const entries = metadataOf(config, typeName, vocabulary);
  return {
    metadata: new Map(entries.map(([key, , value]) => [key, value])),
    metadataTypes: new Map(entries.map(([key, type]) => [key, type])),
    tensors,
  };
}

function checkShape(shape: Shape, type: GgmlType, vocabulary: Vocabulary): void {
  const { width, ffnWidth, heads, kvHeads, headWidth, vocabSize } = shape;
  if (heads % kvHeads !== 0) {
    throw new ShapeError(`${kvHeads} key/value heads do not divide ${heads} heads`);
  }
  if (headWidth % 2 !== 0) throw new ShapeError(`heads of ${headWidth}: RoPE needs an even width`);
  for (const columns of [width, ffnWidth, heads * headWidth]) {
    if (columns % type.blockSize === 0) continue;
    throw new ShapeError(
      `rows of ${columns} numbers are no whole blocks of ${type.blockSize}, as ${type.name} has`,
    );
  }
  if (vocabulary === "llama" && vocabSize < SPECIAL + 256) {
    throw new ShapeError(`${vocabSize} tokens hold no 256 bytes and ${SPECIAL} special ones`);
  }
}

function configOf(name: string, shape: Shape): Config {
  const no = false;
  return {
    ...shape,
    ...{ architecture: "llama", name, attentionScale: 1 / Math.sqrt(shape.headWidth) },
    ...{ ropeWidth: shape.headWidth, ropeStyle: "adjacent", ropeScaling: { type: "none" } },
    ropeFactors: false,
    biases: {
      ...{ attn_q: no, attn_k: no, attn_v: no, attn_output: no },
      ...{ ffn_gate: no, ffn_up: no, ffn_down: no },
    },
  };
}

/** `llama_ftype` of files whose matrices are all of a type. */
const FILE_TYPES: Readonly<Record<SyntheticType, number>> = { F32: 0, F16: 1, Q8_0: 7, Q4_0: 2 };

type Entry = readonly [key: string, type: MetadataType, value: MetadataValue];

function metadataOf(config: Config, type: SyntheticType, vocabulary: Vocabulary): Entry[] {
  return [
    ["general.architecture", "string", "llama"],
    ["general.name", "string", config.name],
    ["general.description", "string", "random weights: for measuring, it says nothing"],
    ["general.file_type", "u32", FILE_TYPES[type]],
    ["general.quantization_version", "u32", 2],
    ["llama.context_length", "u32", config.contextLength],
    ["llama.embedding_length", "u32", config.width],
    ["llama.block_count", "u32", config.layers],
    ["llama.feed_forward_length", "u32", config.ffnWidth],
    ["llama.attention.head_count", "u32", config.heads],
    ["llama.attention.head_count_kv", "u32", config.kvHeads],
    ["llama.attention.key_length", "u32", config.headWidth],
    ["llama.attention.value_length", "u32", config.headWidth],
    ["llama.attention.layer_norm_rms_epsilon", "f32", config.normEpsilon],
    ["llama.rope.dimension_count", "u32", config.headWidth],
    ["llama.rope.freq_base", "f32", config.ropeBase],
    ["llama.vocab_size", "u32", config.vocabSize],
    ...(vocabulary === "llama" ? llamaVocabulary(config.vocabSize) : [
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

async function* pieces(all: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* all;
}

/** Numbers in a pool, about. */
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

  constructor(type: GgmlType, columns: number, random: Random) {
    const perRow = columns / type.blockSize;
    const rows = Math.max(1, Math.floor(POOL_NUMBERS / columns));
    this.#rowBytes = perRow * type.blockBytes;
    this.#bytes = BLOCKS[type.name as SyntheticType](
      rows * perRow + 1,
      1 / Math.sqrt(columns),
      random,
    );
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

/** A number from [0, 1). */
type Random = () => number;

/** So many blocks of random numbers of a standard deviation. */
type MakeBlocks = (count: number, deviation: number, random: Random) => Uint8Array;

/** Blocks of a scale (f16) and integers from −`most` on, evenly spread, in `bytes` bytes. */
function scaled(bytes: number, levels: number, signed: boolean): MakeBlocks {
  return (count, deviation, random) => {
    const blockBytes = 2 + bytes;
    const out = new Uint8Array(count * blockBytes);
    const view = new DataView(out.buffer);
    // A uniform distribution over `levels` whole numbers has a standard deviation of levels/√12.
    const scale = deviation * Math.sqrt(12) / levels;
    for (let at = 0; at < out.length; at += blockBytes) {
      // Blocks differ, as they do in real files.
      view.setFloat16(at, scale * (0.75 + 0.5 * random()), true);
      for (let i = 0; i < bytes; i++) {
        out[at + 2 + i] = signed ? Math.floor(random() * 255) - 127 : random() * 256;
      }
    }
    return out;
  };
}

const BLOCKS: Readonly<Record<SyntheticType, MakeBlocks>> = {
  F32: (count, deviation, random) =>
    new Uint8Array(Float32Array.from({ length: count }, () => deviation * normal(random)).buffer),
  F16: (count, deviation, random) =>
    new Uint8Array(Float16Array.from({ length: count }, () => deviation * normal(random)).buffer),
  Q8_0: scaled(32, 255, true),
  Q4_0: scaled(16, 16, false),
};

/** Box and Muller (1958). */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
