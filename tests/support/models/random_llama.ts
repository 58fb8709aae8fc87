/** Llamas with seeded random weights as GGUF files in memory. */
import {
  type SyntheticModel,
  syntheticModel,
  type SyntheticOptions,
} from "../../../checkpoints/files/synthetic_model.ts";
import { type GgufFile, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import {
  writeGguf,
  type WriterOptions,
  type WriterTensor,
  type WriterValue,
} from "./gguf_writer.ts";

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
  /** No tokens (no_vocab, which llama.cpp loads too), or bytes and made-up pieces (V ≥ 259). */
  readonly vocabulary?: SyntheticOptions["vocabulary"];
  readonly seed?: number;
  /** Metadata to add, or to put in place of the usual. */
  readonly metadata?: Readonly<Record<string, WriterValue>>;
  /** A last say over the tensors: to leave one out, to change a shape. */
  readonly tensors?: (tensors: WriterTensor[]) => WriterTensor[];
  /** Version, byte order and alignment of the file. */
  readonly file?: Pick<WriterOptions, "version" | "littleEndian" | "alignment">;
}

function syntheticLlama(options: RandomLlamaOptions): SyntheticModel {
  const { layers = 2, width = 64, heads = 4, kvHeads = heads, ffnWidth = 2 * width } = options;
  const { headWidth = width / heads, ropeWidth = headWidth, ropeBase = 10000 } = options;
  const { vocab = 96, contextLength = 256, normEpsilon = 1e-5, tied = false } = options;
  const { ropeFactor, ropeFactors = false, biases: has = false, type = "F32", seed = 1 } = options;
  return syntheticModel({
    ...{ name: `random llama, seed ${seed}`, seed, vocabulary: options.vocabulary },
    type: type as SyntheticOptions["type"],
    shape: {
      ...{ layers, width, ffnWidth, heads, kvHeads, headWidth, contextLength, normEpsilon },
      ...{ vocabSize: vocab, tiedOutput: tied, ropeBase, ropeWidth },
      keys: ropeFactor === undefined ? {} : {
        "rope.scaling.type": ["string", "linear"],
        "rope.scaling.factor": ["f32", ropeFactor],
      },
      optional: [
        ...ropeFactors ? ["rope_freqs.weight"] : [],
        ...has ? ["q", "k", "v", "output"].map((name) => `attn_${name}.bias`) : [],
      ],
    },
  });
}

function metadataOf(
  { metadata, metadataTypes }: SyntheticModel,
  more: RandomLlamaOptions["metadata"],
): Record<string, WriterValue> {
  const typed = [...metadata].map(([key, value]) => {
    const type = metadataTypes.get(key)!;
    return [key, type.endsWith("[]") ? value : { type, value }];
  });
  return { ...Object.fromEntries(typed), ...more };
}

/** A synthetic model that is small, unless told otherwise, and as wrong as told. */
export function randomLlama(options: RandomLlamaOptions = {}): Uint8Array<ArrayBuffer> {
  const model = syntheticLlama(options);
  const tensors = model.tensors.map(({ name, type, shape, pieces }): WriterTensor => {
    const parts = [...pieces()];
    const data = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) data.set(part, (at += part.length) - part.length);
    return { name, type: type.name, shape, data };
  });
  const metadata = metadataOf(model, options.metadata);
  return writeGguf({ ...options.file, metadata, tensors: options.tensors?.(tensors) ?? tensors });
}

/** The file that {@linkcode randomLlama} makes, open. */
export function randomFile(options?: RandomLlamaOptions): Promise<GgufFile> {
  return openGguf(bytesSource("random", randomLlama(options)));
}

/**
 * Writes a Llama all of whose numbers are zero: of any size, at once, and it takes no room on the disk. It computes as long as any
 * other.
 *
 * @returns the file's size in bytes
 */
export async function writeEmptyLlama(path: string, options: RandomLlamaOptions): Promise<number> {
  const model = syntheticLlama(options);
  let offset = 0;
  const tensors = model.tensors.map(({ name, type, shape }) => {
    const tensor = { name, type: type.name, shape, data: new Uint8Array(), offset };
    const count = shape.reduce((product, size) => product * size, 1);
    offset += Math.ceil(count / type.blockSize * type.blockBytes / 32) * 32;
    return tensor;
  });
  const header = writeGguf({ metadata: metadataOf(model, options.metadata), tensors });
  const size = Math.ceil(header.length / 32) * 32 + offset;
  await Deno.writeFile(path, header);
  await Deno.truncate(path, size);
  return size;
}
