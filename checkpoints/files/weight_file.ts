/** Files of weights, GGUF or safetensors, behind one face: names, types, metadata as GGUF has them; numbers a piece at a time. */
import { sizeOf } from "../../base/shape.ts";
import { dirname, extname, join } from "node:path";
import { dequantize, isDequantizable } from "../../engine/gguf/dequantize.ts";
import {
  GgufError,
  type GgufFile,
  type MetadataValue,
  type TensorInfo,
} from "../../engine/gguf/reader.ts";
import { isObject, readForeignJson } from "../../models/foreign_json.ts";
import { converted } from "./converted.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { misreadingsOf } from "../diagnosis/block_layouts.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import type { Family } from "../../engine/model/family.ts";
import { architectureOf, ggufName, partNames } from "./tensor_names.ts";

/** What stands beside safetensors and says what model they are of. */
export const CONFIG_FILE = "config.json";

/** A weight. */
export interface Weight {
  /** GGUF's name where it is known: `blk.0.attn_q.weight`. */
  readonly name: string;
  /** What the file calls it. */
  readonly stored: string;
  /** `Q4_K`, `BF16` */
  readonly type: string;
  /** Row-major, slowest axis first: [rows, columns]. */
  readonly shape: readonly number[];
  /** Numbers that are stored together: 1 for plain floats. */
  readonly blockSize: number;
  /** Gives numbers of the flat tensor; undefined for types that are not read. */
  readonly read?: (first: number, count: number) => Promise<Float32Array>;
  /** The same with its blocks read in other layouts, which are said in words. */
  readonly misread?: readonly (readonly [what: string, read: NonNullable<Weight["read"]>])[];
}

/** An open file. */
export interface WeightFile {
  readonly name: string;
  readonly format: "GGUF" | "safetensors";
  /** GGUF's keys; for safetensors what `config.json` and `tokenizer_config.json` beside it say, empty without them. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** By GGUF's name, in the file's order. */
  readonly weights: ReadonlyMap<string, Weight>;
  /** Order of the rows of Q and K: converters to GGUF permute those of Llamas. */
  readonly rope: "adjacent" | "half";
  /** Of what family it is; undefined where that is not known. */
  readonly family?: Family;
  close(): void;
}

/** A GGUF file as weights. It closes the file. */
export function ggufWeights(file: GgufFile): WeightFile {
  const family = familyOf(file.metadata);
  const weights = [...file.tensors.values()].map((tensor) => ggufWeight(file, tensor, family));
  return {
    name: file.name,
    format: "GGUF",
    metadata: file.metadata,
    weights: byName(file.name, weights),
    rope: family?.ropeStyle ?? "half",
    family,
    close: () => file.close(),
  };
}

/** Whether a path names safetensors: a file, an index, or a folder with one of them. */
export async function isSafetensors(path: string): Promise<boolean> {
  return /\.(safetensors|json)$/.test(path) ||
    await Deno.stat(path).then(({ isDirectory }) => isDirectory, () => false);
}

/**
 * Opens safetensors as weights.
 *
 * @param path of a `.safetensors` file, an index, or a folder with `model.safetensors` or its index
 * @throws {SafetensorsError | GgufError | ModelError} one line that names the file
 */
export async function openSafetensorsWeights(path: string): Promise<WeightFile> {
  const isFile = extname(path) === ".safetensors" || extname(path) === ".json";
  const dir = isFile ? dirname(path) : path;
  const file = await openSafetensors(isFile ? path : await mainFile(dir));
  try {
    const metadata = isAdapter(file)
      ? new Map([["general.type", "adapter"]])
      : await configMetadata(dir);
    const family = familyOf(metadata);
    return {
      name: path,
      format: "safetensors",
      metadata,
      weights: byName(path, weightsOf(file, metadata, family)),
      rope: family?.huggingFace?.ropeStyle ?? "half",
      family,
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Of low-rank matrices instead of whole ones. */
function isAdapter({ tensors }: SafetensorsFile): boolean {
  return tensors.keys().some((name) => /\.lora_[AB]\b/.test(name));
}

async function mainFile(dir: string): Promise<string> {
  const names = ["model.safetensors.index.json", "model.safetensors", "adapter_model.safetensors"];
  for (const name of names) {
    if (await Deno.stat(join(dir, name)).then(() => true, () => false)) return join(dir, name);
  }
  throw new GgufError("no model.safetensors and no model.safetensors.index.json in this folder", {
    file: dir,
  });
}

/** The family that metadata name; undefined where they name none that is known. */
function familyOf(metadata: ReadonlyMap<string, MetadataValue>): Family | undefined {
  const architecture = String(metadata.get("general.architecture"));
  return Object.hasOwn(FAMILIES, architecture) ? FAMILIES[architecture] : undefined;
}

function ggufWeight(file: GgufFile, tensor: TensorInfo, family?: Family): Weight {
  const { name: stored, type: { name: type, blockSize, blockBytes }, shape } = tensor;
  const blocks = tensor.bytes / blockBytes;
  /** @param around neighbours that blocks are read with, on each side */
  const reader =
    (numbersOf: (bytes: Uint8Array) => Float32Array, around: number) =>
    async (first: number, count: number) => {
      // Whole blocks, of which the numbers at the ends may not be wanted.
      const start = Math.max(0, Math.floor(first / blockSize) - around);
      const end = Math.min(blocks, Math.ceil((first + count) / blockSize) + around);
      const bytes = await file.readTensor(tensor, start * blockBytes, (end - start) * blockBytes);
      const skip = first - start * blockSize;
      return numbersOf(bytes).subarray(skip, skip + count);
    };
  return {
    name: ggufName(stored, family) ?? stored,
    stored,
    type,
    shape: shape.toReversed(),
    blockSize,
    read: isDequantizable(tensor.type)
      ? reader((bytes) => dequantize(tensor.type, bytes), 0)
      : undefined,
    misread: misreadingsOf(type).map(({ what, read }) => [what, reader(read, 1)]),
  };
}

/** @returns as converters write them */
function weightsOf(
  file: SafetensorsFile,
  metadata: ReadonlyMap<string, MetadataValue>,
  family?: Family,
): Weight[] {
  const [heads, width] = ["attention.head_count", "embedding_length"].map((key) => {
    const value = metadata.get(`${metadata.get("general.architecture")}.${key}`);
    return typeof value === "number" ? value : undefined;
  });
  return [...file.tensors.values()]
    // Angles that old files carry along; they follow from the config.
    .filter(({ name }) => !name.endsWith(".rotary_emb.inv_freq"))
    .map((tensor) => {
      const { name: stored, dtype: type } = tensor;
      const name = ggufName(stored, family) ?? stored;
      const own = converted(name, tensor, family?.huggingFace, heads, width);
      return { name, stored, type, blockSize: 1, ...own };
    });
}

function byName(file: string, weights: readonly Weight[]): Map<string, Weight> {
  const found = new Map<string, Weight>();
  for (const weight of weights) {
    const twin = found.get(weight.name);
    if (twin) {
      throw new GgufError(`${twin.stored} and ${weight.stored} are the same tensor`, { file });
    }
    found.set(weight.name, weight);
  }
  return found;
}

/**
 * The weights of a file as another one has them: what holds several of its weights, as `qkv_proj` does, is taken apart. Their rows say
 * where.
 */
export function apartAs({ weights }: WeightFile, other: WeightFile): Weight[] {
  return [...weights.values()].flatMap((fused) => {
    const parts = partNames(fused.name).map((name) => other.weights.get(name)).filter((each) =>
      each !== undefined
    );
    const rows = parts.reduce((sum, { shape }) => sum + shape[0], 0);
    if (parts.length === 0 || rows !== fused.shape[0]) return [fused];
    const width = countOf(fused) / rows;
    let first = 0;
    return parts.map(({ name, shape: [count] }): Weight => {
      const start = first * width;
      first += count;
      const { shape: [, ...columns], read, misread } = fused;
      const part =
        (whole: NonNullable<Weight["read"]>): NonNullable<Weight["read"]> => (at, numbers) =>
          whole(start + at, numbers);
      return {
        ...fused,
        name,
        shape: [count, ...columns],
        read: read && part(read),
        misread: misread?.map(([what, whole]) => [what, part(whole)] as const),
      };
    });
  });
}

/** Numbers in a weight. */
export function countOf({ shape }: Weight): number {
  return sizeOf(shape);
}

/** Hugging Face's keys for what GGUF calls `<architecture>.<key>`. */
const CONFIG_KEYS: Readonly<Record<string, string>> = {
  num_hidden_layers: "block_count",
  hidden_size: "embedding_length",
  intermediate_size: "feed_forward_length",
  num_attention_heads: "attention.head_count",
  n_layer: "block_count",
  n_embd: "embedding_length",
  n_head: "attention.head_count",
  layer_norm_epsilon: "attention.layer_norm_epsilon",
  layer_norm_eps: "attention.layer_norm_epsilon",
  num_key_value_heads: "attention.head_count_kv",
  head_dim: "attention.key_length",
  rms_norm_eps: "attention.layer_norm_rms_epsilon",
  rope_theta: "rope.freq_base",
  max_position_embeddings: "context_length",
};

/** What the keys of `config.json` mean to transformers where they are left out, as in a `text_config`. */
const LLAMA_DEFAULTS = {
  num_hidden_layers: 32,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_attention_heads: 32,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 2048,
};
const CONFIG_DEFAULTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  llama: LLAMA_DEFAULTS,
  mistral: {
    ...LLAMA_DEFAULTS,
    intermediate_size: 14336,
    num_key_value_heads: 8,
    max_position_embeddings: 131072,
  },
};

/** Where models that see or hear keep the config of their language model. */
const TEXT_CONFIGS = ["text_config", "llm_config", "language_config"];

/** What stands in `config.json` and `tokenizer_config.json`, under GGUF's keys; empty without a config. */
async function configMetadata(dir: string): Promise<Map<string, MetadataValue>> {
  const metadata = new Map<string, MetadataValue>();
  const whole = await readForeignJson(join(dir, CONFIG_FILE)) ?? {};
  if (Object.keys(whole).length === 0) return metadata;
  const nested = TEXT_CONFIGS.map((key) => whole[key]).find(isObject);
  const family = String((nested ?? whole).model_type ?? "llama").replace(/_text$/, "");
  const config = { ...CONFIG_DEFAULTS[family], ...whole, ...nested };
  const take = (key: string, value: unknown) => {
    if (["number", "boolean", "string"].includes(typeof value)) {
      metadata.set(key, value as MetadataValue);
    }
  };
  const types = [whole.model_type, nested?.model_type];
  const architecture = types.map(architectureOf).find((name) => name !== undefined) ?? family;
  metadata.set("general.architecture", architecture);
  // Transformers 5 has all of RoPE in one object.
  const rope = (config.rope_parameters ?? config.rope_scaling ?? {}) as Record<string, unknown>;
  for (const [theirs, own] of Object.entries(CONFIG_KEYS)) {
    take(
      `${architecture}.${own}`,
      config[theirs] ?? (theirs === "rope_theta" ? rope.rope_theta : undefined),
    );
  }
  const scaling = rope.rope_type ?? rope.type;
  if (scaling === "linear") {
    take(`${architecture}.rope.scaling.type`, "linear");
    take(`${architecture}.rope.scaling.factor`, rope.factor);
  }
  const tokenizer = await readForeignJson(join(dir, "tokenizer_config.json"));
  take("tokenizer.ggml.bos_token_id", config.bos_token_id);
  take("tokenizer.ggml.eos_token_id", config.eos_token_id);
  take("tokenizer.ggml.add_bos_token", tokenizer?.add_bos_token);
  return metadata;
}
