/** Faults of files, undone: each as an alteration that makes the file what it should be if that is what is wrong with it. */
import { inLayer, layerOf } from "../../../base/layer_names.ts";
import type { Config } from "../../../engine/model/config.ts";
import type { GgufFile, MetadataValue, TensorInfo } from "../../../engine/gguf/reader.ts";
import { createTokenizer } from "../../../text/mod.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { arePlausibleNorms } from "./plausibility.ts";
import {
  type Alteration,
  asF32,
  type NewTensorData,
  wholeTensor,
} from "../../files/altered_file.ts";
import { scaleOf } from "../activations/attention/rope_turns.ts";
import { type Cause, CAUSES } from "../causes.ts";
import { scaledEmbedding, scaledUndos } from "./scaled_undos.ts";
import type { Undo } from "./undo.ts";

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
/** Weights of a block that a loader confuses, where they have one shape. */
const CONFUSED: readonly (readonly [string, string])[] = [
  ["attn_k", "attn_v"],
  ["attn_norm", "ffn_norm"],
];

/** The faults of a whole model that can be undone in a file. */
export function undosOf(file: GgufFile, config: Config): Undo[] {
  const layers = [...Array(config.layers).keys()];
  return [
    ...blockUndos(file, config, layers),
    ...outerUndos(file),
    ...scaledUndos(file, config, layers),
    ...scaledEmbedding(file, config),
    ...movedBlocks(file, config),
    ...ropeUndos(file, config),
    ...epsilonUndos(config),
    ...tokenizerUndos(file),
  ];
}

/** The faults of one layer that can be undone. */
export function layerUndos(file: GgufFile, config: Config, layer: number): Undo[] {
  const undos = [
    ...blockUndos(file, config, [layer]),
    ...scaledUndos(file, config, [layer]),
  ].map((undo): Undo => ({
    ...undo,
    detail: `layer ${layer}: ${undo.detail}`,
    layer,
    control: silenced(file, layer, [...undo.alteration.tensors!.keys()]),
  }));
  const next = layer + 1;
  if (next === config.layers) return undos;
  const order = [...Array(config.layers).keys()].with(layer, next).with(next, layer);
  const exchanged: Undo = {
    cause: "other-tensor",
    detail: `layer ${layer}: exchanged with layer ${next}`,
    layer,
    alteration: blocksAt(file, order),
    control: silenced(file, layer, [`blk.${layer}.attn_q`, `blk.${layer}.ffn_up`]),
  };
  return [...undos, exchanged];
}

/**
 * A block without its attention, its FFN or both, whichever some of its weights serve. What is wrong in one layer may do more harm than
 * the layer does good: then everything that dampens it lowers the loss.
 */
function silenced(file: GgufFile, layer: number, names: readonly string[]): Alteration {
  const last = ["attn", "ffn"].filter((part) => names.some((name) => name.includes(`.${part}_`)))
    .map((part) => `blk.${layer}.${part === "attn" ? "attn_output" : "ffn_down"}.weight`);
  const tensors = last.flatMap((name) => file.tensors.get(name) ?? []);
  return {
    // Blocks of zero bits are zeros in every type.
    tensors: new Map(tensors.map((tensor) => [
      tensor.name,
      wholeTensor(file, tensor, ({ length }) => new Uint8Array(length)),
    ])),
  };
}

/** Undos of weights in some blocks. */
function blockUndos(file: GgufFile, config: Config, layers: readonly number[]): Undo[] {
  const undos: Undo[] = [];
  const { heads, kvHeads, headWidth } = config;
  type Change = (tensor: TensorInfo) => NewTensorData;
  /** Changes those tensors of each block that the file has. */
  const every = (
    cause: Cause,
    detail: string,
    changes: readonly (readonly [string, Change])[],
    more: Partial<Undo> = {},
  ) => {
    const tensors = new Map<string, NewTensorData>();
    for (const layer of layers) {
      for (const [name, change] of changes) {
        const tensor = file.tensors.get(`blk.${layer}.${name}`);
        if (tensor) tensors.set(tensor.name, change(tensor));
      }
    }
    if (tensors.size > 0) undos.push({ cause, detail, alteration: { tensors }, ...more });
  };
  const rows = (name: string, order: ArrayLike<number>) =>
    ["weight", "bias"].map((part): [string, Change] => [
      `${name}.${part}`,
      (tensor) => rowsInOrder(file, tensor, order),
    ]);

  for (const [to, order] of Object.entries(CAUSES["qk-permuted"].undo)) {
    const way = to === "half" ? "adjacent pairs to halves" : "halves to adjacent pairs";
    const [rope] = config.ropes;
    if (!rope) break;
    const widths = { headWidth: config.headWidth, ropeWidth: rope.width };
    const q = rows("attn_q", order(heads, widths));
    const k = rows("attn_k", order(kvHeads, widths));
    every("qk-permuted", `rows of attn_q and attn_k from ${way}`, [...q, ...k]);
    every("qk-permuted", `rows of attn_q from ${way}`, q);
    every("qk-permuted", `rows of attn_k from ${way}`, k);
  }

  const exchange: Change = ({ name }) =>
    wholeTensor(file, file.tensors.get(CAUSES["gate-up-swapped"].undo(name))!);
  if (config.gated && !config.fused.gateUp) {
    every("gate-up-swapped", "ffn_gate and ffn_up exchanged", [
      ["ffn_gate.weight", exchange],
      ["ffn_up.weight", exchange],
    ]);
  }

  for (const [one, other] of CONFUSED) {
    const names = [one, other].map((name) => `${name}.weight`);
    const [a, b] = names.map((name) => file.tensors.get(`blk.${layers[0]}.${name}`));
    if (!a || !b || `${a.shape}` !== `${b.shape}`) continue;
    const swap = (from: string, to: string): [string, Change] => [
      from,
      ({ name }) => wholeTensor(file, file.tensors.get(name.replace(from, to))!),
    ];
    every("other-tensor", `${one} and ${other} exchanged`, [
      swap(names[0], names[1]),
      swap(names[1], names[0]),
    ]);
  }

  for (const by of CAUSES["norm-offset"].undo) {
    const shift: Change = (tensor) => shifted(file, tensor, by);
    const names = ["attn_norm.weight", "ffn_norm.weight"];
    const norms = layers.flatMap((layer) =>
      names.flatMap((name) => file.tensors.get(`blk.${layer}.${name}`) ?? [])
    );
    every(
      "norm-offset",
      `${shiftText(by)} the norm weights of blocks`,
      names.map((name) => [name, shift]),
      { isPlausible: () => isOffset(file, norms, by) },
    );
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
  const tensors = (
    cause: Cause,
    detail: string,
    entries: [string, NewTensorData | undefined][],
    more: Partial<Undo> = {},
  ) => undos.push({ cause, detail, alteration: { tensors: new Map(entries) }, ...more });
  const norms = [...file.tensors.values()].filter(({ name }) => name.endsWith("_norm.weight"));
  for (const by of CAUSES["norm-offset"].undo) {
    tensors(
      "norm-offset",
      `${shiftText(by)} all norm weights`,
      norms.map((tensor) => [tensor.name, shifted(file, tensor, by)]),
      { isPlausible: () => isOffset(file, norms, by) },
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

/** Undos of blocks that stand in each other's places. */
function movedBlocks(file: GgufFile, { layers }: Config): Undo[] {
  const places = [...Array(layers).keys()];
  // "10" before "2": what sorting names makes of numbers.
  const sorted = places.toSorted((a, b) => `${a}` < `${b}` ? -1 : 1);
  const orders: readonly [detail: string, order: readonly number[]][] = [
    ["blocks from the order of their sorted names", places.map((layer) => sorted.indexOf(layer))],
    ["blocks one place up", places.map((layer) => (layer + layers - 1) % layers)],
    ["blocks one place down", places.map((layer) => (layer + 1) % layers)],
  ];
  return orders.filter(([, order]) => order.some((from, layer) => from !== layer)).map(
    ([detail, order]) => ({ cause: "other-tensor", detail, alteration: blocksAt(file, order) }),
  );
}

/** In place of each block the one at `order[layer]`. */
function blocksAt(file: GgufFile, order: readonly number[]): Alteration {
  const tensors = [...file.tensors.values()].flatMap(({ name }) => {
    const layer = layerOf(name);
    if (layer === undefined || order[layer] === layer) return [];
    const from = file.tensors.get(inLayer(name, order[layer]));
    return from ? [[name, wholeTensor(file, from)] as const] : [];
  });
  return { tensors: new Map(tensors) };
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

function ropeUndos(file: GgufFile, { architecture, ropes: [rope] }: Config): Undo[] {
  if (!rope) return [];
  const { base: ropeBase } = rope;
  const own = scaleOf(rope);
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
  if (tensor.type.blockSize === 1) return moved(file, tensor, tensor.type.blockBytes, from);
  return asF32(file, tensor, (data) => {
    // Several times as quick as `map`.
    const out = new Float32Array(data.length);
    for (let place = 0; place < out.length; place++) out[place] = data[from(place)];
    return out;
  });
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

/** Whether norm weights look as if they lacked `by`, or had it once too often. */
async function isOffset(
  file: GgufFile,
  norms: readonly TensorInfo[],
  by: number,
): Promise<boolean> {
  const stored: Float32Array[] = [];
  for (const tensor of norms) stored.push(dequantize(tensor.type, await file.readTensor(tensor)));
  const right = stored.map((weights) => weights.map((value) => value + by));
  return arePlausibleNorms(right) && (by < 0 || !arePlausibleNorms(stored));
}

function shiftText(by: number): string {
  return by > 0 ? "one added to" : "one taken from";
}
