/** tiny, changed and in other formats, for tests of what compares files. */
import assert from "node:assert/strict";
import {
  type DiffCause,
  diffModels,
  type ModelDiff,
  type TensorDiff,
} from "../../../checkpoints/files/diff/diff.ts";
import { ggufName } from "../../../checkpoints/files/tensor_names.ts";
import { ggufWeights, type WeightFile } from "../../../checkpoints/files/weight_file.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { toHalf } from "../../../inspect/points/points.ts";
import { findModel } from "../../../models/mod.ts";
import { writeGguf, type WriterValue } from "./gguf_writer.ts";
import { QUANTIZERS } from "./quantize.ts";
import type { SafetensorsInput } from "./safetensors_writer.ts";

/** A tensor of tiny in 32 bits. */
export interface Tensor {
  name: string;
  type: string;
  /** Slowest axis first. */
  shape: readonly number[];
  data: Float32Array;
}

export const tiny = (await findModel("tiny")).bytes!;
export const original = await openGguf(bytesSource("tiny", tiny));
export const HEAD = 32;

export async function tensorsOfTiny(): Promise<Tensor[]> {
  const tensors: Tensor[] = [];
  for (const tensor of original.tensors.values()) {
    const data = dequantize(tensor.type, await original.readTensor(tensor));
    tensors.push({
      name: tensor.name,
      type: tensor.type.name,
      shape: tensor.shape.toReversed(),
      data,
    });
  }
  return tensors;
}

export const TENSORS = await tensorsOfTiny();

/** What a test does to a copy. */
export interface Change {
  tensors?(tensors: Map<string, Tensor>): void;
  metadata?: Readonly<Record<string, WriterValue>>;
  /** Of the matrices. */
  type?: string;
  /** The bytes of a tensor, once they are written. */
  bytes?(name: string, bytes: Uint8Array): void;
}

/** A copy of tiny in GGUF. */
export function copy({ tensors, metadata, type, bytes }: Change = {}): Uint8Array<ArrayBuffer> {
  const all = new Map(
    TENSORS.map((tensor) => [tensor.name, { ...tensor, data: tensor.data.slice() }]),
  );
  tensors?.(all);
  return writeGguf({
    metadata: {
      ...Object.fromEntries(original.metadata) as Record<string, WriterValue>,
      ...metadata,
    },
    tensors: [...all.values()].map(({ name, type: own, shape, data }) => {
      const stored = type !== undefined && shape.length > 1 ? type : own;
      const written = QUANTIZERS[stored](data);
      bytes?.(name, written);
      return { name, type: stored, shape: shape.toReversed(), data: written };
    }),
  });
}

export async function opened(bytes: Uint8Array): Promise<WeightFile> {
  return ggufWeights(await openGguf(bytesSource("copy", bytes)));
}

export async function diffWithTiny(change: Change): Promise<ModelDiff> {
  return await diffModels(await opened(tiny), await opened(copy(change)));
}

export function findings({ tensors }: ModelDiff): TensorDiff[] {
  return tensors.filter(({ finding }) => finding);
}

/** The fault, and nothing else, must be found. */
export async function assertFound(
  change: Change,
  expected: Readonly<Record<string, DiffCause>>,
  detail: RegExp,
): Promise<TensorDiff> {
  const diff = await diffWithTiny(change);
  const found = findings(diff);
  assert.deepEqual(
    Object.fromEntries(found.map(({ name, finding }) => [name, finding!.cause])),
    expected,
  );
  assert.match(found[0].finding!.detail, detail);
  assert.equal(diff.passed, false);
  assert.deepEqual(diff.metadata, []);
  return found[0];
}

export function edit(name: string, change: (tensor: Tensor) => void): Change {
  return { tensors: (all) => change(all.get(name)!) };
}

export function swap(all: Map<string, Tensor>, a: string, b: string): void {
  const [x, y] = [all.get(a)!, all.get(b)!];
  [x.data, y.data] = [y.data, x.data];
}

/** Rows of each head in halves, as Hugging Face has them. */
export function rowsInHalves({ shape: [rows, columns], data }: Tensor): Float32Array {
  const order = toHalf(Int32Array.from({ length: rows }, (_, row) => row), HEAD);
  const moved = new Float32Array(data.length);
  order.forEach((from, to) =>
    moved.set(data.subarray(from * columns, (from + 1) * columns), to * columns)
  );
  return moved;
}

/** Hugging Face's names for tiny's tensors. */
export const HUGGING_FACE = new Map(
  [
    ...["model.embed_tokens", "model.norm", "lm_head"],
    ...Array.from({ length: 5 }, (_, layer) =>
      [
        ...[
          "input_layernorm",
          "post_attention_layernorm",
          "mlp.gate_proj",
          "mlp.up_proj",
          "mlp.down_proj",
        ],
        ...["q", "k", "v", "o"].map((name) => `self_attn.${name}_proj`),
      ].map((name) => `model.layers.${layer}.${name}`)).flat(),
  ].map((module) => [ggufName(`${module}.weight`)!, `${module}.weight`]),
);

/** Tiny as Hugging Face would have it; Q and K in halves. */
export function asHuggingFace(dtype: SafetensorsInput["dtype"], halves = true): SafetensorsInput[] {
  return TENSORS.map((tensor) => ({
    name: HUGGING_FACE.get(tensor.name)!,
    dtype,
    shape: tensor.shape,
    data: halves && /attn_[qk]/.test(tensor.name) ? rowsInHalves(tensor) : tensor.data,
  }));
}

export const CONFIG = {
  model_type: "llama",
  num_hidden_layers: 5,
  hidden_size: 256,
  intermediate_size: 512,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  max_position_embeddings: 1024,
  bos_token_id: 1,
  eos_token_id: 2,
  rope_scaling: null,
};
