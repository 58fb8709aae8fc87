import { GGML_TYPES } from "../../engine/gguf/types.ts";
import {
  writeGguf,
  type WriterOptions,
  type WriterTensor,
  type WriterValue,
} from "./gguf_writer.ts";
import { Random } from "./random.ts";

export interface RandomLlamaOptions {
  readonly layers?: number;
  /** D, the width of the residual stream. */
  readonly width?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  /** d, the width of a head; width / heads without it. */
  readonly headWidth?: number;
  /** F */
  readonly ffnWidth?: number;
  /** V */
  readonly vocab?: number;
  readonly contextLength?: number;
  /** A ggml type for all matrices, or one for each by name; vectors are F32. */
  readonly type?: string | ((tensor: string) => string);
  /** Whether the embedding serves as output matrix; false. */
  readonly tied?: boolean;
  /** Whether q, k, v and attention output have biases; false. */
  readonly biases?: boolean;
  readonly ropeBase?: number;
  /** Numbers of a head that RoPE turns; headWidth without it. */
  readonly ropeWidth?: number;
  /** Linear RoPE scaling. */
  readonly ropeFactor?: number;
  /** Whether the file has `rope_freqs.weight`; false. */
  readonly ropeFactors?: boolean;
  readonly normEpsilon?: number;
  /** "none" (no_vocab, which llama.cpp loads too) or a small SentencePiece one (V ≥ 259). */
  readonly vocabulary?: "none" | "spm";
  readonly seed?: number;
  /** Tensors without data, for {@linkcode writeEmptyLlama}; false. */
  readonly empty?: boolean;
  /** Metadata to add, or to put in place of the usual. */
  readonly metadata?: Readonly<Record<string, WriterValue>>;
  /** A last say over the tensors: to leave one out, to change a shape. */
  readonly tensors?: (tensors: WriterTensor[]) => WriterTensor[];
  /** Version, byte order and alignment of the file. */
  readonly file?: Pick<WriterOptions, "version" | "littleEndian" | "alignment">;
}

/**
 * A Llama in GGUF with seeded random weights. Quantized blocks are random bits under scales for
 * which the weights' standard deviation is 1/√columns, so that activations stay near 1 and every
 * bit of a block matters.
 */
export function randomLlama(options: RandomLlamaOptions = {}): Uint8Array<ArrayBuffer> {
  const { layers = 2, width = 64, heads = 4, kvHeads = heads, ffnWidth = 2 * width } = options;
  const { headWidth = width / heads, vocab = 96, contextLength = 256, tied = false } = options;
  const { ropeWidth = headWidth, biases = false, type = "F32", seed = 1 } = options;
  const random = new Random(seed);
  const tensors: WriterTensor[] = [];
  const nothing = new Uint8Array();

  function vector(name: string, size: number, mean: number, deviation: number): void {
    if (options.empty) {
      tensors.push({ name, type: "F32", shape: [size], data: nothing });
      return;
    }
    const numbers = Float32Array.from({ length: size }, () => mean + random.normal(deviation));
    tensors.push({ name, type: "F32", shape: [size], data: new Uint8Array(numbers.buffer) });
  }
  function matrix(name: string, columns: number, rows: number): void {
    const chosen = typeof type === "string" ? type : type(name);
    const data = options.empty
      ? nothing
      : randomBlocks(chosen, columns * rows, 1 / Math.sqrt(columns), random);
    tensors.push({ name, type: chosen, shape: [columns, rows], data });
  }

  matrix("token_embd.weight", width, vocab);
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}`;
    vector(`${block}.attn_norm.weight`, width, 1, 0.2);
    matrix(`${block}.attn_q.weight`, width, heads * headWidth);
    matrix(`${block}.attn_k.weight`, width, kvHeads * headWidth);
    matrix(`${block}.attn_v.weight`, width, kvHeads * headWidth);
    matrix(`${block}.attn_output.weight`, heads * headWidth, width);
    if (biases) {
      vector(`${block}.attn_q.bias`, heads * headWidth, 0, 0.3);
      vector(`${block}.attn_k.bias`, kvHeads * headWidth, 0, 0.3);
      vector(`${block}.attn_v.bias`, kvHeads * headWidth, 0, 0.3);
      vector(`${block}.attn_output.bias`, width, 0, 0.3);
    }
    vector(`${block}.ffn_norm.weight`, width, 1, 0.2);
    matrix(`${block}.ffn_gate.weight`, width, ffnWidth);
    matrix(`${block}.ffn_up.weight`, width, ffnWidth);
    matrix(`${block}.ffn_down.weight`, ffnWidth, width);
  }
  vector("output_norm.weight", width, 1, 0.2);
  if (!tied) matrix("output.weight", width, vocab);
  if (options.ropeFactors) vector("rope_freqs.weight", ropeWidth / 2, 4, 0.5);

  return writeGguf({
    ...options.file,
    metadata: {
      "general.architecture": "llama",
      "general.name": `random llama, seed ${seed}`,
      "llama.context_length": contextLength,
      "llama.embedding_length": width,
      "llama.block_count": layers,
      "llama.feed_forward_length": ffnWidth,
      "llama.attention.head_count": heads,
      "llama.attention.head_count_kv": kvHeads,
      "llama.attention.key_length": headWidth,
      "llama.attention.value_length": headWidth,
      "llama.attention.layer_norm_rms_epsilon": {
        type: "f32",
        value: options.normEpsilon ?? 1e-5,
      },
      "llama.rope.dimension_count": ropeWidth,
      "llama.rope.freq_base": { type: "f32", value: options.ropeBase ?? 10000 },
      ...(options.ropeFactor === undefined ? {} : {
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": { type: "f32", value: options.ropeFactor },
      }),
      "llama.vocab_size": vocab,
      ...(options.vocabulary === "spm" ? spmVocabulary(vocab) : {
        "tokenizer.ggml.model": "no_vocab",
      }),
      ...options.metadata,
    },
    tensors: options.tensors?.(tensors) ?? tensors,
  });
}

/**
 * Writes a Llama all of whose numbers are zero: of any size, at once, and it takes no room on the disk. It computes as long as any
 * other.
 *
 * @returns the file's size in bytes
 */
export async function writeEmptyLlama(path: string, options: RandomLlamaOptions): Promise<number> {
  let bytes = 0;
  const header = randomLlama({
    ...options,
    empty: true,
    tensors: (tensors) =>
      tensors.map((tensor) => {
        const { blockSize, blockBytes } = GGML_TYPES.find(({ name }) => name === tensor.type)!;
        const count = tensor.shape.reduce<number>((product, dim) => product * Number(dim), 1);
        const offset = bytes;
        bytes += Math.ceil(count / blockSize * blockBytes / 32) * 32;
        return { ...tensor, offset };
      }),
  });
  const size = Math.ceil(header.length / 32) * 32 + bytes;
  await Deno.writeFile(path, header);
  await Deno.truncate(path, size);
  return size;
}

/**
 * Random numbers as ggml stores them, with the given standard deviation (about).
 *
 * @param count a multiple of the type's block size
 */
export function randomBlocks(
  name: string,
  count: number,
  deviation: number,
  random: Random,
): Uint8Array<ArrayBuffer> {
  const type = GGML_TYPES.find((each) => each.name === name);
  if (type === undefined || count % type.blockSize !== 0) {
    throw new TypeError(`Cannot make ${count} numbers of type ${name}`);
  }
  if (name === "F32") return floats(new Float32Array(count), deviation, random);
  if (name === "F16") return floats(new Float16Array(count), deviation, random);
  if (name === "BF16") {
    const bytes = floats(new Float32Array(count), deviation, random);
    return bytes.filter((_, i) => i % 4 >= 2);
  }
  const [fields, spread] = SCALES[name] ?? [undefined, 0];
  if (fields === undefined) throw new TypeError(`Cannot make random blocks of type ${name}`);
  const bytes = random.bytes(count / type.blockSize * type.blockBytes);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < bytes.length; block += type.blockBytes) {
    const scale = deviation / spread * random.uniform(0.5, 1.5);
    for (const [offset, factor] of fields) {
      // Q4_0 and its like have scales of either sign; where there is a minimum d is positive.
      const sign = fields.length === 1 && random.bits() % 2 === 0 ? -1 : 1;
      view.setFloat16(block + offset, sign * factor * scale, true);
    }
  }
  return bytes;
}

/**
 * The f16 fields of a block of random bits, as [offset, multiple of the scale], with which the
 * numbers have zero mean and the scale times the last figure as standard deviation.
 */
const SCALES: Readonly<Record<string, readonly [readonly (readonly [number, number])[], number]>> =
  {
    Q8_0: [[[0, 1]], 74],
    Q4_0: [[[0, 1]], 4.6],
    Q5_0: [[[0, 1]], 9.2],
    Q4_1: [[[0, 1], [2, -7.5]], 4.6],
    Q5_1: [[[0, 1], [2, -15.5]], 9.2],
    Q2_K: [[[80, 1], [82, 1.5]], 14],
    Q3_K: [[[108, 1]], 43],
    Q4_K: [[[0, 1], [2, 7.5]], 290],
    Q5_K: [[[0, 1], [2, 15.5]], 590],
    Q6_K: [[[208, 1]], 1360],
  };

function floats(
  numbers: Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>,
  deviation: number,
  random: Random,
): Uint8Array<ArrayBuffer> {
  for (let i = 0; i < numbers.length; i++) numbers[i] = random.normal(deviation);
  return new Uint8Array(numbers.buffer);
}

/** <unk>, <s>, </s>, the 256 bytes, and made-up pieces up to V. */
function spmVocabulary(vocab: number): Record<string, WriterValue> {
  if (vocab < 259) {
    throw new RangeError(`A SentencePiece vocabulary needs 259 tokens, not ${vocab}`);
  }
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const pieces = Array.from({ length: vocab - 259 }, (_, i) => `\u2581w${i}`);
  const tokens = ["<unk>", "<s>", "</s>", ...bytes, ...pieces];
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": Float32Array.from(tokens, (_, i) => i < 259 ? 0 : 258 - i),
    "tokenizer.ggml.token_type": Int32Array.from(
      tokens,
      (_, i) => i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1,
    ),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
  };
}
