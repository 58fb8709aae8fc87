/** Faults of files, undone: each as an alteration that makes the file what it should be if that is what is wrong with it. */
import type { Config } from "../engine/config.ts";
import { dequantize } from "../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../engine/gguf/reader.ts";
import { GGML_TYPES } from "../engine/gguf/types.ts";
import type { Alteration, NewTensorData } from "./altered_file.ts";
import type { Cause } from "./causes.ts";

/** A fault that a file may have, undone. */
export interface Undo {
  readonly cause: Cause;
  /** One line: what is done. */
  readonly detail: string;
  readonly alteration: Alteration;
}

const F32 = GGML_TYPES.find(({ name }) => name === "F32")!;
/** Base frequencies that models have. */
const BASES = [1e4, 1e5, 5e5, 1e6];
/** Epsilons that models have. */
const EPSILONS = [1e-5, 1e-6];
/** Factors of linear RoPE scaling. */
const FACTORS = [2, 4, 8];

/**
 * The faults that can be undone in a file.
 *
 * @param layers only the weights of these layers are altered, and nothing outside of blocks; all without it
 */
export function undosOf(file: GgufFile, config: Config, layers?: readonly number[]): Undo[] {
  const inBlocks = blockUndos(file, config, layers ?? [...Array(config.layers).keys()]);
  return layers ? inBlocks : [...inBlocks, ...wholeUndos(file, config)];
}

/** Undos of weights in blocks. */
function blockUndos(file: GgufFile, config: Config, layers: readonly number[]): Undo[] {
  const undos: Undo[] = [];
  const every = (
    cause: Cause,
    detail: string,
    make: (block: string) => [string, NewTensorData | undefined][],
  ) => {
    const tensors = new Map(layers.flatMap((layer) => make(`blk.${layer}`)));
    if (tensors.size > 0) undos.push({ cause, detail, alteration: { tensors } });
  };
  const tensor = (name: string) => file.tensors.get(name)!;
  const { heads, kvHeads, headWidth } = config;

  for (const to of ["adjacent", "half"] as const) {
    every(
      "qk-permuted",
      `rows of attn_q and attn_k from ${
        to === "half" ? "adjacent pairs to halves" : "halves to adjacent pairs"
      }`,
      (block) =>
        ["attn_q", "attn_k"].flatMap((name) =>
          ["weight", "bias"].flatMap((part): [string, NewTensorData][] => {
            const found = file.tensors.get(`${block}.${name}.${part}`);
            if (!found) return [];
            const count = name === "attn_q" ? heads : kvHeads;
            return [[found.name, rowsInOrder(file, found, ropeOrder(config, count, to))]];
          })
        ),
    );
  }
  every("gate-up-swapped", "ffn_gate and ffn_up exchanged", (block) => [
    [`${block}.ffn_gate.weight`, whole(file, tensor(`${block}.ffn_up.weight`))],
    [`${block}.ffn_up.weight`, whole(file, tensor(`${block}.ffn_gate.weight`))],
  ]);
  for (const by of [1, -1]) {
    const detail = by > 0 ? "one added to all norm weights" : "one taken from all norm weights";
    every("norm-offset", detail, (block) =>
      ["attn_norm", "ffn_norm"].map((name) => [
        `${block}.${name}.weight`,
        shifted(file, tensor(`${block}.${name}.weight`), by),
      ]));
  }
  for (
    const name of ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
  ) {
    every("transposed", `${name} transposed`, (block) => [
      [`${block}.${name}.weight`, transposed(file, tensor(`${block}.${name}.weight`))],
    ]);
  }
  if (kvHeads > 1 && kvHeads < heads) {
    // Query heads that were laid out for h mod Hkv, put where h / (H / Hkv) looks for them.
    const group = heads / kvHeads;
    const order = Array.from(
      { length: heads },
      (_, h) => (h % group) * kvHeads + Math.floor(h / group),
    );
    every("head-grouping", "query heads from h mod Hkv to h / (H / Hkv)", (block) => [
      [
        `${block}.attn_q.weight`,
        rowsInOrder(file, tensor(`${block}.attn_q.weight`), spread(order, headWidth)),
      ],
      [
        `${block}.attn_output.weight`,
        columnsInOrder(file, tensor(`${block}.attn_output.weight`), spread(order, headWidth)),
      ],
    ]);
  }
  return undos;
}

/** Undos of the metadata, of the tokenizer's flags and of the weights outside of blocks. */
function wholeUndos(file: GgufFile, config: Config): Undo[] {
  const { architecture, ropeBase, normEpsilon, ropeScaling } = config;
  const undos: Undo[] = [];
  const metadata = (
    cause: Cause,
    detail: string,
    entries: [string, number | boolean | string | undefined][],
  ) => undos.push({ cause, detail, alteration: { metadata: new Map(entries) } });

  for (const base of BASES) {
    if (base === ropeBase) continue;
    metadata("rope-base", `RoPE base ${base} instead of ${ropeBase}`, [
      [`${architecture}.rope.freq_base`, base],
    ]);
  }
  const own = ropeScaling.type === "linear" ? ropeScaling.factor : 1;
  for (const factor of own === 1 ? FACTORS : [1]) {
    metadata("rope-scaling", `positions divided by ${factor} instead of ${own}`, [
      [`${architecture}.rope.scaling.type`, factor === 1 ? "none" : "linear"],
      [`${architecture}.rope.scaling.factor`, factor === 1 ? undefined : factor],
      [`${architecture}.rope.scale_linear`, undefined],
    ]);
  }
  if (file.tensors.has("rope_freqs.weight")) {
    undos.push({
      cause: "rope-scaling",
      detail: "without rope_freqs.weight",
      alteration: { tensors: new Map([["rope_freqs.weight", undefined]]) },
    });
  }
  for (const epsilon of EPSILONS) {
    if (Math.abs(epsilon / normEpsilon - 1) < 1e-3) continue;
    metadata("epsilon", `epsilon ${epsilon} instead of ${Number(normEpsilon.toPrecision(3))}`, [
      [`${architecture}.attention.layer_norm_rms_epsilon`, epsilon],
    ]);
  }
  if (file.tensors.has("output.weight")) {
    undos.push({
      cause: "output-tied",
      detail: "token_embd.weight as output matrix",
      alteration: { tensors: new Map([["output.weight", undefined]]) },
    });
  }
  const flag = (key: string) => file.metadata.get(`tokenizer.ggml.${key}`);
  if (file.metadata.has("tokenizer.ggml.bos_token_id")) {
    const bos = flag("add_bos_token") ?? flag("model") === "llama";
    metadata("bos-missing", bos ? "no BOS in front" : "BOS in front", [
      ["tokenizer.ggml.add_bos_token", !bos],
    ]);
  }
  if (flag("model") === "llama") {
    const space = flag("add_space_prefix") ?? true;
    metadata("space-prefix", space ? "no space in front" : "a space in front", [
      ["tokenizer.ggml.add_space_prefix", !space],
    ]);
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

/** An order of heads as one of their rows. */
function spread(order: readonly number[], width: number): number[] {
  return order.flatMap((head) => Array.from({ length: width }, (_, i) => head * width + i));
}

function whole(file: GgufFile, tensor: TensorInfo): NewTensorData {
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

/** Column `order[c]` in place c, as F32 since blocks run along columns. */
function columnsInOrder(
  file: GgufFile,
  tensor: TensorInfo,
  order: readonly number[],
): NewTensorData {
  return asF32(file, tensor, (data) => {
    const out = new Float32Array(data.length);
    const columns = order.length;
    for (let row = 0; row < data.length; row += columns) {
      for (let c = 0; c < columns; c++) out[row + c] = data[row + order[c]];
    }
    return out;
  });
}

function shifted(file: GgufFile, tensor: TensorInfo, by: number): NewTensorData {
  return asF32(file, tensor, (data) => data.map((value) => value + by));
}

/** The matrix whose numbers were written column by column. */
function transposed(file: GgufFile, tensor: TensorInfo): NewTensorData {
  const [columns, rows] = tensor.shape;
  return asF32(file, tensor, (data) => {
    const out = new Float32Array(data.length);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) out[r * columns + c] = data[c * rows + r];
    }
    return out;
  });
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
