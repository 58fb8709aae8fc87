/** Faults of files, undone: each as an alteration that makes the file what it should be if that is what is wrong with it. */
import type { Config } from "../../engine/model/config.ts";
import type { GgufFile, MetadataValue, TensorInfo } from "../../engine/gguf/reader.ts";
import { createTokenizer } from "../../text/mod.ts";
import { type Alteration, asF32, type NewTensorData, wholeTensor } from "../files/altered_file.ts";
import { scaleOf } from "./activations/rope.ts";
import { type Cause, CAUSES } from "./causes.ts";

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

/** Each value that is tried takes a run: those that are met in many models, which stand first. */
const [BASES, EPSILONS, FACTORS] = [
  CAUSES["rope-base"].undo.slice(0, 4),
  CAUSES.epsilon.undo.slice(0, 2),
  CAUSES["rope-scaling"].undo.slice(0, 3),
];
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
  const rows = (name: string, order: ArrayLike<number>) =>
    ["weight", "bias"].map((part): [string, Change] => [
      `${name}.${part}`,
      (tensor) => rowsInOrder(file, tensor, order),
    ]);

  for (const [to, order] of Object.entries(CAUSES["qk-permuted"].undo)) {
    const way = to === "half" ? "adjacent pairs to halves" : "halves to adjacent pairs";
    const q = rows("attn_q", order(heads, config));
    const k = rows("attn_k", order(kvHeads, config));
    every("qk-permuted", `rows of attn_q and attn_k from ${way}`, [...q, ...k]);
    every("qk-permuted", `rows of attn_q from ${way}`, q);
    every("qk-permuted", `rows of attn_k from ${way}`, k);
  }

  const exchange: Change = ({ name }) =>
    wholeTensor(file, file.tensors.get(CAUSES["gate-up-swapped"].undo(name))!);
  every("gate-up-swapped", "ffn_gate and ffn_up exchanged", [
    ["ffn_gate.weight", exchange],
    ["ffn_up.weight", exchange],
  ]);

  for (const by of CAUSES["norm-offset"].undo) {
    const shift: Change = (tensor) => shifted(file, tensor, by);
    every("norm-offset", `${shiftText(by)} the norm weights of blocks`, [
      ["attn_norm.weight", shift],
      ["ffn_norm.weight", shift],
    ]);
  }

  const transpose: Change = (tensor) => transposed(file, tensor);
  const matrices = MATRICES.map((name): [string, Change] => [`${name}.weight`, transpose]);
  for (const [i, name] of MATRICES.entries()) {
    every("transposed", `${name} transposed`, [matrices[i]]);
  }
  every("transposed", "all matrices of blocks transposed", matrices);

  if (kvHeads > 1 && kvHeads < heads) {
    // Query heads that were laid out for h mod Hkv, put where h / (H / Hkv) looks for them.
    const order = CAUSES["head-grouping"].undo(config)["by key/value head"]
      .flatMap((head) => Array.from({ length: headWidth }, (_, i) => head * headWidth + i));
    every("head-grouping", "query heads from h mod Hkv to h / (H / Hkv)", [
      ...rows("attn_q", order),
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
  for (const by of CAUSES["norm-offset"].undo) {
    tensors(
      "norm-offset",
      `${shiftText(by)} all norm weights`,
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

/** Keys with other values, those of the architecture below its name; `undefined` takes one away. */
function inMetadata(
  cause: Cause,
  detail: string,
  below: string,
  values: Readonly<Record<string, MetadataValue | undefined>>,
): Undo {
  const entries = Object.entries(values).map(([key, value]) => [`${below}.${key}`, value] as const);
  return { cause, detail, alteration: { metadata: new Map(entries) } };
}

function ropeUndos(file: GgufFile, config: Config): Undo[] {
  const { architecture, ropeBase } = config;
  const own = scaleOf(config);
  const undos = [
    ...BASES.filter((base) => base !== ropeBase).map((base) =>
      inMetadata("rope-base", `RoPE base ${base} instead of ${ropeBase}`, architecture, {
        "rope.freq_base": base,
      })
    ),
    ...(own === 1 ? FACTORS : [1]).map((factor) =>
      inMetadata("rope-scaling", `positions divided by ${factor} instead of ${own}`, architecture, {
        "rope.scaling.type": factor === 1 ? "none" : "linear",
        "rope.scaling.factor": factor === 1 ? undefined : factor,
        "rope.scale_linear": undefined,
      })
    ),
  ];
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
  const own = Number(normEpsilon.toPrecision(3));
  return EPSILONS.filter((epsilon) => Math.abs(epsilon / normEpsilon - 1) > 1e-3).map((epsilon) =>
    inMetadata("epsilon", `epsilon ${epsilon} instead of ${own}`, architecture, {
      "attention.layer_norm_rms_epsilon": epsilon,
    })
  );
}

function tokenizerUndos(file: GgufFile): Undo[] {
  const undos: Undo[] = [];
  const below = "tokenizer.ggml";
  const of = (key: string) => file.metadata.get(`${below}.${key}`);
  if (of("bos_token_id") !== undefined) {
    const added = of("add_bos_token") ?? of("model") === "llama";
    const what = added ? "no BOS in front" : "BOS in front";
    const undo = inMetadata("bos-missing", what, below, { add_bos_token: !added });
    // Any token in front serves attention as a place to rest, and lowers the loss: only what BOS does better shows that it lacks.
    const newline = added
      ? undefined
      : createTokenizer(file.metadata).encode("\n", { bos: false, eos: false }).at(-1);
    const other = { add_bos_token: true, bos_token_id: newline };
    const control = newline === undefined
      ? undefined
      : inMetadata("bos-missing", what, below, other).alteration;
    undos.push({ ...undo, control });
  }
  if (of("model") === "llama") {
    const space = of("add_space_prefix") ?? true;
    const what = space ? "no space in front" : "a space in front";
    undos.push(inMetadata("space-prefix", what, below, { add_space_prefix: !space }));
  }
  return undos;
}

/** Row `order[r]` in place r; blocks stay as they are. A bias is a column of rows. */
function rowsInOrder(file: GgufFile, tensor: TensorInfo, order: ArrayLike<number>): NewTensorData {
  return moved(file, tensor, tensor.bytes / order.length, (row) => order[row]);
}

function columnsInOrder(
  file: GgufFile,
  tensor: TensorInfo,
  order: ArrayLike<number>,
): NewTensorData {
  const columns = order.length;
  return rearranged(file, tensor, (i) => i - i % columns + order[i % columns]);
}

/** The matrix whose numbers were written column by column. */
function transposed(file: GgufFile, tensor: TensorInfo): NewTensorData {
  const [columns, rows] = tensor.shape;
  return rearranged(file, tensor, CAUSES.transposed.undo(rows, columns));
}

/** At each place the number that stands at another one; in blocks they cannot move, and become F32. */
function rearranged(
  file: GgufFile,
  tensor: TensorInfo,
  from: (place: number) => number,
): NewTensorData {
  return tensor.type.blockSize > 1
    ? asF32(file, tensor, (data) => data.map((_, place) => data[from(place)]))
    : moved(file, tensor, tensor.type.blockBytes, from);
}

/** At each place the `width` bytes that stand at another one. */
function moved(
  file: GgufFile,
  tensor: TensorInfo,
  width: number,
  from: (place: number) => number,
): NewTensorData {
  return wholeTensor(file, tensor, (bytes) => {
    const out = new Uint8Array(bytes.length);
    for (let at = 0; at < bytes.length; at += width) {
      const source = from(at / width) * width;
      for (let i = 0; i < width; i++) out[at + i] = bytes[source + i];
    }
    return out;
  });
}

function shifted(file: GgufFile, tensor: TensorInfo, by: number): NewTensorData {
  return asF32(file, tensor, (data) => data.map((value) => value + by));
}

function shiftText(by: number): string {
  return by > 0 ? "one added to" : "one taken from";
}
