/** Faults of files, undone: each as an alteration that makes the file what it should be if that is what is wrong with it. */
import type { Config } from "../../engine/model/config.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile, MetadataValue, TensorInfo } from "../../engine/gguf/reader.ts";
import { GGML_TYPES } from "../../engine/gguf/types.ts";
import { createTokenizer } from "../../text/mod.ts";
import type { Alteration, NewTensorData } from "../files/altered_file.ts";
import type { Cause } from "./causes.ts";

/** A fault that a file may have, undone. */
export interface Undo {
  readonly cause: Cause;
  /** One line: what is done. */
  readonly detail: string;
  readonly alteration: Alteration;
  /** Whether the fault is there beyond doubt, whatever the loss says. */
  readonly certain?: boolean;
  /** What mends nothing but has the undo's side effects: the undo must do better. */
  readonly control?: Alteration;
}

const F32 = GGML_TYPES.find(({ name }) => name === "F32")!;
/** Base frequencies that models have. */
const BASES = [1e4, 1e5, 5e5, 1e6];
/** Epsilons that models have. */
const EPSILONS = [1e-5, 1e-6];
/** Factors of linear RoPE scaling. */
const FACTORS = [2, 4, 8];
/** The matrices of a block. */
const MATRICES = [
  "attn_q",
  "attn_k",
  "attn_v",
  "attn_output",
  "ffn_gate",
  "ffn_up",
  "ffn_down",
];

/** The faults of a whole model that can be undone in a file. */
export function undosOf(file: GgufFile, config: Config): Undo[] {
  const layers = [...Array(config.layers).keys()];
  return [
    ...blockUndos(file, config, layers),
    ...outerUndos(file),
    ...ropeUndos(file, config),
    ...epsilonUndos(config),
    ...tokenizerUndos(file),
  ];
}

/** The faults of one layer that can be undone. */
export function layerUndos(file: GgufFile, config: Config, layer: number): Undo[] {
  return blockUndos(file, config, [layer]).map((undo) => ({
    ...undo,
    detail: `layer ${layer}: ${undo.detail}`,
  }));
}

/** Undos of weights in some blocks. */
function blockUndos(file: GgufFile, config: Config, layers: readonly number[]): Undo[] {
  const undos: Undo[] = [];
  const { heads, kvHeads, headWidth } = config;
  type Change = (tensor: TensorInfo) => NewTensorData;
  /** Changes those tensors of each block that the file has. */
  const every = (cause: Cause, detail: string, changes: readonly (readonly [string, Change])[]) => {
    const tensors = new Map<string, NewTensorData>();
    for (const layer of layers) {
      for (const [name, change] of changes) {
        const tensor = file.tensors.get(`blk.${layer}.${name}`);
        if (tensor) tensors.set(tensor.name, change(tensor));
      }
    }
    if (tensors.size > 0) undos.push({ cause, detail, alteration: { tensors } });
  };

  for (const to of ["adjacent", "half"] as const) {
    const way = to === "half" ? "adjacent pairs to halves" : "halves to adjacent pairs";
    const reorder = (name: "attn_q" | "attn_k") =>
      ["weight", "bias"].map((part) => {
        const order = ropeOrder(config, name === "attn_q" ? heads : kvHeads, to);
        return [
          `${name}.${part}`,
          (tensor: TensorInfo) => rowsInOrder(file, tensor, order),
        ] as const;
      });
    const [q, k] = [reorder("attn_q"), reorder("attn_k")];
    every("qk-permuted", `rows of attn_q and attn_k from ${way}`, [...q, ...k]);
    every("qk-permuted", `rows of attn_q from ${way}`, q);
    every("qk-permuted", `rows of attn_k from ${way}`, k);
  }

  const takes = (other: string): Change => ({ name }) =>
    wholeTensor(file, file.tensors.get(name.replace(/[^.]+(?=\.weight$)/, other))!);
  every("gate-up-swapped", "ffn_gate and ffn_up exchanged", [
    ["ffn_gate.weight", takes("ffn_up")],
    ["ffn_up.weight", takes("ffn_gate")],
  ]);

  for (const by of [1, -1]) {
    const detail = by > 0 ? "one added to" : "one taken from";
    const shift: Change = (tensor) => shifted(file, tensor, by);
    every("norm-offset", `${detail} the norm weights of blocks`, [
      ["attn_norm.weight", shift],
      ["ffn_norm.weight", shift],
    ]);
  }

  const transpose: Change = (tensor) => transposed(file, tensor);
  for (const name of MATRICES) {
    every("transposed", `${name} transposed`, [[`${name}.weight`, transpose]]);
  }
  every(
    "transposed",
    "all matrices of blocks transposed",
    MATRICES.map((name) => [`${name}.weight`, transpose]),
  );

  if (kvHeads > 1 && kvHeads < heads) {
    // Query heads that were laid out for h mod Hkv, put where h / (H / Hkv) looks for them.
    const group = heads / kvHeads;
    const order = Array.from(
      { length: heads },
      (_, h) => (h % group) * kvHeads + Math.floor(h / group),
    ).flatMap((head) => Array.from({ length: headWidth }, (_, i) => head * headWidth + i));
    every("head-grouping", "query heads from h mod Hkv to h / (H / Hkv)", [
      ["attn_q.weight", (tensor) => rowsInOrder(file, tensor, order)],
      ["attn_q.bias", (tensor) => rowsInOrder(file, tensor, order)],
      ["attn_output.weight", (tensor) => columnsInOrder(file, tensor, order)],
    ]);
  }
  return undos;
}

/** Undos of weights outside of blocks, and of norms everywhere. */
function outerUndos(file: GgufFile): Undo[] {
  const undos: Undo[] = [];
  const tensors = (cause: Cause, detail: string, entries: [string, NewTensorData | undefined][]) =>
    undos.push({ cause, detail, alteration: { tensors: new Map(entries) } });
  const norms = [...file.tensors.values()].filter(({ name }) => name.endsWith("_norm.weight"));
  for (const by of [1, -1]) {
    tensors(
      "norm-offset",
      by > 0 ? "one added to all norm weights" : "one taken from all norm weights",
      norms.map((tensor) => [tensor.name, shifted(file, tensor, by)]),
    );
  }
  const embedding = file.tensors.get("token_embd.weight");
  const output = file.tensors.get("output.weight");
  if (output && embedding) {
    tensors("output-tied", "token_embd.weight as output matrix", [[output.name, undefined]]);
    tensors("output-tied", "token_embd.weight and output.weight exchanged", [
      [output.name, wholeTensor(file, embedding)],
      [embedding.name, wholeTensor(file, output)],
    ]);
    tensors("transposed", "output.weight transposed", [[output.name, transposed(file, output)]]);
  }
  return undos;
}

/** Undos of what the metadata says of RoPE. */
function ropeUndos(file: GgufFile, { architecture, ropeBase, ropeScaling }: Config): Undo[] {
  const undos: Undo[] = [];
  for (const base of BASES) {
    if (base === ropeBase) continue;
    undos.push({
      cause: "rope-base",
      detail: `RoPE base ${base} instead of ${ropeBase}`,
      alteration: { metadata: new Map([[`${architecture}.rope.freq_base`, base]]) },
    });
  }
  const own = ropeScaling.type === "linear" ? ropeScaling.factor : 1;
  for (const factor of own === 1 ? FACTORS : [1]) {
    undos.push({
      cause: "rope-scaling",
      detail: `positions divided by ${factor} instead of ${own}`,
      alteration: {
        metadata: new Map<string, MetadataValue | undefined>([
          [`${architecture}.rope.scaling.type`, factor === 1 ? "none" : "linear"],
          [`${architecture}.rope.scaling.factor`, factor === 1 ? undefined : factor],
          [`${architecture}.rope.scale_linear`, undefined],
        ]),
      },
    });
  }
  if (file.tensors.has("rope_freqs.weight")) {
    undos.push({
      cause: "rope-scaling",
      detail: "without rope_freqs.weight",
      alteration: { tensors: new Map([["rope_freqs.weight", undefined]]) },
    });
  }
  return undos;
}

function epsilonUndos({ architecture, normEpsilon }: Config): Undo[] {
  return EPSILONS.filter((epsilon) => Math.abs(epsilon / normEpsilon - 1) > 1e-3)
    .map((epsilon) => ({
      cause: "epsilon",
      detail: `epsilon ${epsilon} instead of ${Number(normEpsilon.toPrecision(3))}`,
      alteration: {
        metadata: new Map([[`${architecture}.attention.layer_norm_rms_epsilon`, epsilon]]),
      },
    }));
}

/** Undos of the tokenizer's flags. */
function tokenizerUndos(file: GgufFile): Undo[] {
  const undos: Undo[] = [];
  const of = (key: string) => file.metadata.get(`tokenizer.ggml.${key}`);
  const alteration = (...entries: [string, MetadataValue][]): Alteration => ({
    metadata: new Map(entries.map(([key, value]) => [`tokenizer.ggml.${key}`, value])),
  });
  const bos = of("bos_token_id");
  if (bos !== undefined) {
    const added = of("add_bos_token") ?? of("model") === "llama";
    // Any token in front serves attention as a place to rest, and lowers the loss: only what BOS does better shows that it lacks.
    const newline = added
      ? undefined
      : createTokenizer(file.metadata).encode("\n", { bos: false, eos: false }).at(-1);
    undos.push({
      cause: "bos-missing",
      detail: added ? "no BOS in front" : "BOS in front",
      alteration: alteration(["add_bos_token", !added]),
      control: newline === undefined
        ? undefined
        : alteration(["add_bos_token", true], ["bos_token_id", newline]),
    });
  }
  if (of("model") === "llama") {
    const space = of("add_space_prefix") ?? true;
    undos.push({
      cause: "space-prefix",
      detail: space ? "no space in front" : "a space in front",
      alteration: alteration(["add_space_prefix", !space]),
    });
  }
  return undos;
}

/** Rows of heads in the other RoPE order: at place `to` stands row `order[to]`. */
function ropeOrder(
  { headWidth, ropeWidth }: Config,
  heads: number,
  to: "adjacent" | "half",
): number[] {
  const pairs = ropeWidth / 2;
  return Array.from({ length: heads * headWidth }, (_, row) => {
    const i = row % headWidth;
    if (i >= ropeWidth) return row;
    const from = to === "adjacent"
      ? (i % 2 === 0 ? i / 2 : (i - 1) / 2 + pairs)
      : i < pairs
      ? 2 * i
      : 2 * (i - pairs) + 1;
    return row - i + from;
  });
}

/** A tensor of a file as it is. */
export function wholeTensor(file: GgufFile, tensor: TensorInfo): NewTensorData {
  const { type, shape } = tensor;
  return { type, shape, bytes: () => file.readTensor(tensor) };
}

/** Row `order[r]` in place r; blocks stay as they are. A bias is a column of rows. */
function rowsInOrder(file: GgufFile, tensor: TensorInfo, order: readonly number[]): NewTensorData {
  const { type, shape } = tensor;
  return {
    type,
    shape,
    async bytes() {
      const bytes = await file.readTensor(tensor);
      const rowBytes = bytes.length / order.length;
      const out = new Uint8Array(bytes.length);
      order.forEach((from, to) => {
        out.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes);
      });
      return out;
    },
  };
}

/** Column `order[c]` in place c. */
function columnsInOrder(
  file: GgufFile,
  tensor: TensorInfo,
  order: readonly number[],
): NewTensorData {
  const columns = order.length;
  return rearranged(file, tensor, (i) => i - i % columns + order[i % columns]);
}

/** The matrix whose numbers were written column by column. */
function transposed(file: GgufFile, tensor: TensorInfo): NewTensorData {
  const [columns, rows] = tensor.shape;
  return rearranged(file, tensor, (i) => (i % columns) * rows + Math.floor(i / columns));
}

/** At each place the number that stands at another one; in blocks they cannot move, and become F32. */
function rearranged(
  file: GgufFile,
  tensor: TensorInfo,
  from: (place: number) => number,
): NewTensorData {
  const { type, shape } = tensor;
  if (type.blockSize > 1) {
    return asF32(file, tensor, (data) => data.map((_, place) => data[from(place)]));
  }
  return {
    type,
    shape,
    async bytes() {
      const bytes = await file.readTensor(tensor);
      const width = type.blockBytes;
      const out = new Uint8Array(bytes.length);
      for (let at = 0; at < bytes.length; at += width) {
        const source = from(at / width) * width;
        for (let i = 0; i < width; i++) out[at + i] = bytes[source + i];
      }
      return out;
    },
  };
}

function shifted(file: GgufFile, tensor: TensorInfo, by: number): NewTensorData {
  return asF32(file, tensor, (data) => data.map((value) => value + by));
}

/** A tensor's numbers changed, as F32. */
export function asF32(
  file: GgufFile,
  tensor: TensorInfo,
  change: (data: Float32Array) => Float32Array,
): NewTensorData {
  return {
    type: F32,
    shape: tensor.shape,
    async bytes() {
      const changed = change(dequantize(tensor.type, await file.readTensor(tensor)));
      return new Uint8Array(Float32Array.from(changed).buffer);
    },
  };
}
