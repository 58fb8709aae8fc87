/**
 * Which tensors of llama.cpp's graph are which points, and how they are turned into the points' shapes. Names: `src/llama-graph.cpp`
 * and `src/models/`. What a node reads tells more than its name, which families give as they like: whatever reads a weight is the
 * point whose step reads it.
 */
import { kindOf, layerOf } from "../../../base/layer_names.ts";
import { sizeOf } from "../../../base/shape.ts";
import type { Activation } from "../../../engine/model/config.ts";

/** A node of the graph. Names repeat; what it was made by, and of what, tells them apart. */
export interface GraphNode {
  /** `Qcur-3`. */
  readonly name: string;
  /** ggml's name of the operation that makes it: `ROPE`. */
  readonly operation: string;
  /** Names of its inputs. */
  readonly inputs: readonly string[];
}

/** A tensor as ggml has it: the first axis is the innermost, any of them may be strided. */
export interface GraphTensor {
  readonly sizes: readonly number[];
  /** In numbers. */
  readonly strides: readonly number[];
  readonly data: Float32Array;
}

/** A node with its numbers. */
export interface GraphValue extends GraphNode, GraphTensor {
  /** Of a softmax: what it takes its scores times, ALiBi's largest bias, and what is added to the scores. */
  readonly softmax?: {
    readonly scale: number;
    readonly maxBias: number;
    readonly mask?: GraphTensor;
  };
}

/** What of a model the tensors' meaning depends on. */
export interface GraphModel {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  /** Whether scores are capped: llama.cpp does so in three nodes. */
  readonly capped: boolean;
  readonly activation: Activation;
  /** Of models with mixtures of experts. */
  readonly mixtures?: MixtureNodes;
  /** Kinds of points by ggml's operation and the kind of weight that it reads: `MUL_MAT attn_q.weight`. */
  readonly weights: Readonly<Record<string, WeightNode>>;
}

/** What the nodes of mixtures are. */
export interface MixtureNodes {
  /** Which layers have one. */
  readonly layers: readonly boolean[];
  /** K, the experts that a position goes to. */
  readonly used: number;
  /** Kinds of points of those layers by their nodes' names. */
  readonly kinds: Readonly<Record<string, string>>;
}

/** A node that reads a weight. */
export interface WeightNode {
  /** The points that it holds side by side, with their columns: of fused weights several. */
  readonly points: readonly (readonly [kind: string, columns: number])[];
  /** The point that the norm before it is, where it is a norm's weight. */
  readonly normalized?: string;
}

/** Points outside of the blocks whose nodes are known by their name. */
const OUTSIDE: Readonly<Record<string, string>> = {
  embd: "token_embd",
  inp_scaled: "embd_scaled",
  inpL: "embd_sum",
  result_norm: "output_norm",
  result_output: "logits",
};

/** Kinds of points in the blocks whose nodes are known by their name. */
const INSIDE: Readonly<Record<string, string>> = {
  attn_norm: "attn_norm",
  Qcur_clamped: "q",
  Kcur_clamped: "k",
  Vcur_clamped: "v",
  Qcur_normed: "q_norm",
  Kcur_normed: "k_norm",
  Qcur_attn_temp_scaled: "q_scaled",
  kq_soft_max: "attn_probs",
  kqv_out: "head_out",
  ffn_inp: "ffn_inp",
  sa_out: "ffn_inp",
  ffn_norm: "ffn_norm",
  l_out: "out",
};

/** Names of what an FFN's activation makes, with the gate's factor and without. */
const ACTIVATED: Readonly<Record<Activation, readonly string[]>> = {
  silu: ["ffn_swiglu", "ffn_silu"],
  gelu_tanh: ["ffn_geglu", "ffn_gelu"],
  gelu: ["ffn_geglu", "ffn_gelu"],
  relu: ["ffn_reglu", "ffn_relu"],
  relu2: ["ffn_sqr(relu)"],
  swiglu_clamped: ["ffn_swiglu_oai"],
  xielu: ["ffn_xielu"],
};

/** Queries, keys and values, by what llama.cpp calls all their forms. */
const PROJECTIONS: Readonly<Record<string, string>> = { Qcur: "q", Kcur: "k", Vcur: "v" };

/** A point's tensor, row-major. */
export interface PointTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A point and its tensor. */
export type NamedPoint = readonly [point: string, tensor: PointTensor];

/** Finds the points in the nodes of passes, which are shown in the order of computation. */
export class PointReader {
  readonly #model: GraphModel;
  /** Points that norms before their weights are. */
  readonly #normKinds: readonly string[];
  /** What was normalized last, and the scores of the last product: their points are known once it is seen who reads them. */
  #normalized?: GraphValue;
  #scores?: GraphValue;

  constructor(model: GraphModel) {
    this.#model = model;
    this.#normKinds = Object.values(model.weights).flatMap(({ normalized }) => normalized ?? []);
  }

  /** Whether a node's numbers are needed for a wanted point; layers are llama.cpp's. */
  wants(node: GraphNode, wanted: (point: string) => boolean): boolean {
    const { name, operation, inputs } = node;
    const layer = layerOfNode(name) ?? layerOfNode(inputs[0] ?? "");
    const isWanted = (kind: string) => wanted(kind) || wanted(`blk.${layer}.${kind}`);
    if (isNorm(operation) && this.#normKinds.some(isWanted)) return true;
    if (this.#isScores(node) || operation === "SOFT_MAX") {
      if (isWanted("attn_scores")) return true;
    }
    const { normalized } = weightNode(node, this.#model) ?? {};
    return normalized !== undefined && isWanted(normalized) ||
      pointsOf(node, this.#model).some(wanted);
  }

  /**
   * The points that a node shows.
   *
   * @param cached S, the positions so far: of attention and cache llama.cpp also has slots that nobody wrote yet
   */
  take(node: GraphValue, cached: number): NamedPoint[] {
    const { name, operation } = node;
    const found: NamedPoint[] = [];
    if (isNorm(operation)) this.#normalized = node;
    if (this.#isScores(node)) this.#scores = node;
    if (operation === "SOFT_MAX" && this.#scores?.name === node.inputs[0]) {
      const point = `blk.${layerOfNode(name)}.attn_scores`;
      found.push([point, scoresOf(this.#scores, node, cached)]);
      this.#scores = undefined;
    }
    const { normalized } = weightNode(node, this.#model) ?? {};
    if (normalized !== undefined && this.#normalized?.name === node.inputs[0]) {
      const point = ofWeight(node, normalized);
      found.push([point, asPoint(point, this.#normalized, cached, this.#model)]);
    }
    let column = 0;
    for (const point of pointsOf(node, this.#model)) {
      const own = this.#model.weights[weightKey(node) ?? ""]?.points ?? [];
      const [, columns] = own.length > 1 ? own.find(([kind]) => kind === kindOf(point))! : [];
      const part = columns === undefined ? node : partOf(node, column, columns);
      column += columns ?? 0;
      found.push([point, asPoint(point, part, cached, this.#model)]);
    }
    return found;
  }

  /** Whether a softmax reads it. */
  #isScores({ name }: GraphNode): boolean {
    return name.startsWith(this.#model.capped ? "kq_scaled_2-" : "kq-");
  }
}

function isNorm(operation: string): boolean {
  return operation === "NORM" || operation === "RMS_NORM";
}

function layerOfNode(name: string): number | undefined {
  const [, layer] = /-(\d+)$/.exec(name) ?? [];
  return layer === undefined ? undefined : Number(layer);
}

/** The name of the weight that a node reads. */
function weightOf({ inputs }: GraphNode): string | undefined {
  return inputs.find((input) => /^[\w.]+\.(weight|bias)$/.test(input));
}

function weightKey(node: GraphNode): string | undefined {
  const weight = weightOf(node);
  return weight && `${node.operation} ${kindOf(weight)}`;
}

function weightNode(node: GraphNode, { weights }: GraphModel): WeightNode | undefined {
  return weights[weightKey(node) ?? ""];
}

/** A kind of point in the layer of the weight that a node reads. */
function ofWeight(node: GraphNode, kind: string): string {
  const layer = layerOf(weightOf(node)!);
  return layer === undefined ? kind : `blk.${layer}.${kind}`;
}

/** The points that a node is, with llama.cpp's number of the layer; none for most. */
function pointsOf(node: GraphNode, model: GraphModel): string[] {
  const { name, operation, inputs } = node;
  const cache = /^cache_([kv])_l(\d+) \(view\) \(permuted\)$/.exec(name);
  if (cache) return [`blk.${cache[2]}.cache_${cache[1]}`];
  const weight = weightNode(node, model);
  if (weight) return weight.points.map(([kind]) => ofWeight(node, kind));
  const layer = layerOfNode(name) ?? layerOfNode(inputs[0] ?? "");
  const stem = name.replace(/-\d+$/, "");
  // Where the embedding is scaled at once, the product has its name.
  if (stem === "embd" && operation === "SCALE") return ["embd_scaled"];
  if (Object.hasOwn(OUTSIDE, stem)) return [OUTSIDE[stem]];
  const { mixtures } = model;
  const kind = layer === undefined
    ? undefined
    : mixtures?.layers[layer] && Object.hasOwn(mixtures.kinds, stem)
    ? mixtures.kinds[stem]
    : nodeKind(stem, node, model);
  return kind === undefined ? [] : [`blk.${layer}.${kind}`];
}

function nodeKind(
  stem: string,
  { operation, inputs }: GraphNode,
  { activation }: GraphModel,
): string | undefined {
  const [first = ""] = inputs;
  const projected = PROJECTIONS[stem.replace(/_.*/, "")] ??
    PROJECTIONS[first.replace(/[_-].*/, "")];
  if (operation === "ROPE") return projected && `${projected}_rope`;
  // Parts of a fused product.
  if (operation === "VIEW" && Object.hasOwn(PROJECTIONS, stem)) return PROJECTIONS[stem];
  // Of those that RoPE does not turn (Llama 4).
  if (operation === "MUL" && stem === "Qcur") return "q_scaled";
  if (operation === "SCALE") {
    const [, half] = /^(attn|ffn)_(?:out|post_norm)-\d+$/.exec(first) ?? [];
    if (half) return `${first.replace(/-\d+$/, "")}_scaled`;
  }
  return ACTIVATED[activation].includes(stem) ? "ffn_act" : INSIDE[stem];
}

/** Some of a tensor's columns. */
function partOf(
  { sizes, strides, data }: GraphTensor,
  first: number,
  columns: number,
): GraphTensor {
  return { sizes: sizes.with(0, columns), strides, data: data.subarray(first * strides[0]) };
}

/** The scores as the softmax takes them, −∞ at keys that a query does not see. */
function scoresOf(
  scores: GraphTensor,
  { softmax: { scale, maxBias, mask } = { scale: 1, maxBias: 0 } }: GraphValue,
  cached: number,
): PointTensor {
  const [, queries, heads] = scores.sizes;
  const { shape, data } = gather(scores, [2, 1, 0], [heads, queries, cached]); // [H, T, S]
  const visible = mask && gather(mask, [1, 0], [queries, cached]).data;
  for (let i = 0, head = 0; head < heads; head++) {
    const slope = maxBias === 0 ? 1 : slopeOf(head, heads, maxBias);
    for (let at = 0; at < queries * cached; at++, i++) {
      data[i] = data[i] * scale + slope * (visible?.[at] ?? 0);
    }
  }
  return { shape, data };
}

/** ggml's slope of ALiBi: `ggml_compute_forward_soft_max_f32`. */
function slopeOf(head: number, heads: number, maxBias: number): number {
  const floor = 2 ** Math.floor(Math.log2(heads));
  const [bias, power] = head < floor ? [maxBias, head + 1] : [maxBias / 2, 2 * (head - floor) + 1];
  return (2 ** (-bias / floor)) ** power;
}

/** Points with a row for each of a position's experts. */
const OF_EXPERTS = /^ffn_expert_(gate|up|act|out)(_product)?$/;

/** Turns a tensor of the graph into a point's. */
function asPoint(
  point: string,
  tensor: GraphTensor,
  cached: number,
  { heads, kvHeads, headWidth, mixtures }: GraphModel,
): PointTensor {
  const { sizes, strides } = tensor;
  const kind = kindOf(point);
  switch (kind) {
    case "attn_probs":
      return gather(tensor, [2, 1, 0], [heads, sizes[1], cached]); // [H, T, S]
    case "cache_k":
      return gather(tensor, [1, 2, 0], [cached, kvHeads, headWidth]); // [S, Hkv, d]
    case "cache_v": {
      // Without flash attention llama.cpp keeps the values transposed: slots are the innermost axis.
      const axes = strides[1] < strides[2] ? [0, 2, 1] : [1, 2, 0];
      return gather(tensor, axes, [cached, kvHeads, headWidth]); // [S, Hkv, d]
    }
  }
  const { data } = gather(tensor, [2, 1, 0], [sizes[2], sizes[1], sizes[0]]);
  if (kind === "ffn_expert_weights") {
    return { shape: [data.length / mixtures!.used, mixtures!.used], data }; // [T, K]
  }
  if (OF_EXPERTS.test(kind)) return { shape: [sizes[2], sizes[1], sizes[0]], data }; // [T, K, F]
  const rowHeads = /^(q|head_out)(_|$)/.test(kind) ? heads : /^[kv](_|$)/.test(kind) ? kvHeads : 0;
  if (rowHeads > 0) {
    const shape = [data.length / (rowHeads * headWidth), rowHeads, headWidth]; // [T, H, d]
    return { shape, data };
  }
  return { shape: [data.length / sizes[0], sizes[0]], data }; // [T, D]
}

/** Some axes of a tensor, outermost first, each from its start on. */
export function gather(
  { strides, data }: GraphTensor,
  axes: readonly number[],
  shape: readonly number[],
): PointTensor {
  const out = new Float32Array(sizeOf(shape));
  let to = 0;
  function copy(depth: number, from: number): void {
    const [stride, size] = [strides[axes[depth]], shape[depth]];
    if (depth < axes.length - 1) {
      for (let i = 0; i < size; i++) copy(depth + 1, from + i * stride);
    } else if (stride === 1) {
      out.set(data.subarray(from, from + size), to);
      to += size;
    } else {
      for (let i = 0; i < size; i++) out[to++] = data[from + i * stride];
    }
  }
  copy(0, 0);
  return { shape, data: out };
}
