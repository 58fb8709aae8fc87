/** Which tensor of llama.cpp's graph is which point, and how it is turned into the point's shape. Names: `src/llama-graph.cpp`. */
import { kindOf } from "../../../base/layer_names.ts";
import { sizeOf } from "../../../base/shape.ts";

/** A node of the graph. Names repeat; what it was made by, and of what, tells them apart. */
export interface GraphNode {
  /** `Qcur-3`. */
  readonly name: string;
  /** ggml's name of the operation that makes it: `ROPE`. */
  readonly operation: string;
  /** Name of its first input; empty without one. */
  readonly input: string;
}

/** What of a model the tensors' meaning depends on. */
export interface GraphModel {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly attentionScale: number;
  /** Whether gate and up have biases: then the sums have names of their own. */
  readonly gateBias: boolean;
  readonly upBias: boolean;
}

/** Points outside of the blocks. */
const OUTSIDE: Readonly<Record<string, string>> = {
  embd: "token_embd",
  norm: "output_norm_pre",
  result_norm: "output_norm",
  result_output: "logits",
};

/** Kinds of points whose tensors have a name without a double. */
const PLAIN: Readonly<Record<string, string>> = {
  attn_norm: "attn_norm",
  kq: "attn_scores",
  kq_soft_max: "attn_probs",
  kqv_out: "head_out",
  attn_out: "attn_out",
  ffn_inp: "ffn_inp",
  ffn_norm: "ffn_norm",
  ffn_swiglu: "ffn_act",
  ffn_out: "ffn_out",
  l_out: "out",
};

/** Names that a projection, its sum with the bias, its form as heads and what RoPE makes of it share. */
const PROJECTIONS: Readonly<Record<string, string>> = { Qcur: "q", Kcur: "k", Vcur: "v" };

/** The point that a node is, with llama.cpp's number of the layer; undefined for what has no point. */
export function pointOf(node: GraphNode, model: GraphModel): string | undefined {
  const { name, operation, input } = node;
  const cache = /^cache_([kv])_l(\d+) \(view\) \(permuted\)$/.exec(name);
  if (cache) return `blk.${cache[2]}.cache_${cache[1]}`;
  const [, stem, layer] = /^(.*?)(?:-(\d+))?$/.exec(name)!;
  if (layer === undefined) return OUTSIDE[stem];
  const kind = nodeKind(stem, operation, input, model);
  return kind && `blk.${layer}.${kind}`;
}

function nodeKind(
  stem: string,
  operation: string,
  input: string,
  { gateBias, upBias }: GraphModel,
): string | undefined {
  if (stem in PROJECTIONS) {
    if (operation === "ROPE") return `${PROJECTIONS[stem]}_rope`;
    return operation === "RESHAPE" ? PROJECTIONS[stem] : undefined;
  }
  if (stem === "norm") return input.startsWith("ffn_inp") ? "ffn_norm_pre" : "attn_norm_pre";
  if (stem === (gateBias ? "ffn_gate_b" : "ffn_gate")) return "ffn_gate";
  if (stem === (upBias ? "ffn_up_b" : "ffn_up")) return "ffn_up";
  return PLAIN[stem];
}

/** A tensor as ggml has it: the first axis is the innermost, any of them may be strided. */
export interface GraphTensor {
  readonly sizes: readonly number[];
  /** In numbers. */
  readonly strides: readonly number[];
  readonly data: Float32Array;
}

/** A point's tensor, row-major. */
export interface PointTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * Turns a tensor of the graph into a point's.
 *
 * @param point its name
 * @param cached S, the positions so far: of attention and cache llama.cpp also has slots that nobody wrote yet
 */
export function asPoint(
  point: string,
  tensor: GraphTensor,
  cached: number,
  model: GraphModel,
): PointTensor {
  const { heads, kvHeads, headWidth, attentionScale } = model;
  const { sizes, strides } = tensor;
  switch (kindOf(point)) {
    case "attn_scores": {
      const scores = gather(tensor, [2, 1, 0], [heads, sizes[1], cached]); // [H, T, S]
      const scale = Math.fround(attentionScale);
      for (let i = 0; i < scores.data.length; i++) scores.data[i] *= scale;
      return scores;
    }
    case "attn_probs":
      return gather(tensor, [2, 1, 0], [heads, sizes[1], cached]); // [H, T, S]
    case "cache_k":
      return gather(tensor, [1, 2, 0], [cached, kvHeads, headWidth]); // [S, Hkv, d]
    case "cache_v": {
      // Without flash attention llama.cpp keeps the values transposed: slots are the innermost axis.
      const axes = strides[1] < strides[2] ? [0, 2, 1] : [1, 2, 0];
      return gather(tensor, axes, [cached, kvHeads, headWidth]); // [S, Hkv, d]
    }
    case "head_out": {
      const { data } = gather(tensor, [1, 0], [sizes[1], sizes[0]]);
      return { shape: [sizes[1], heads, headWidth], data }; // [T, H, d]
    }
    case "q":
    case "k":
    case "v":
    case "q_rope":
    case "k_rope":
      return gather(tensor, [2, 1, 0], [sizes[2], sizes[1], sizes[0]]); // [T, H, d]
    default:
      return gather(tensor, [1, 0], [sizes[1], sizes[0]]); // [T, D]
  }
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
