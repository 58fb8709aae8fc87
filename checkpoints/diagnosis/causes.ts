/**
 * The causes that are known by name, and how each is undone: on the weights of a file (without_reference/undos.ts), on a weight of two files
 * (files/diff/finding.ts), and on what an operation made (activations/).
 */
import type { Config } from "../../engine/model/config.ts";
import { toAdjacent, toHalf } from "../../inspect/points/points.ts";

/** Names of causes; `unknown` when none explains the numbers. */
export type Cause = keyof typeof CAUSES;

/** What is known of a cause. */
export interface CauseFacts {
  /** What is wrong, one line. */
  readonly meaning: string;
  /** By what the numbers give it away. */
  readonly signature: string;
  /** What to look at. */
  readonly look: string;
  /**
   * What undoes it: values to put in place of what is there, the likeliest first, or where right numbers stand among the wrong ones.
   * What is undone in one way only is where that is done.
   */
  readonly undo?: unknown;
}

/** What explains a difference, and how well. */
export interface Explanation {
  readonly cause: Cause;
  /** 1 − error after undoing it / error before; 0 for `unknown`. */
  readonly explained: number;
  /** Root mean square of the difference, as it is and with the cause undone. */
  readonly before: number;
  readonly after: number;
  /** What is left of the worst number's difference with the cause undone, of what is allowed; undefined where that was not computed. */
  readonly leaves?: string;
  /** One line with the figures. */
  readonly detail: string;
  /** What to look at. */
  readonly look: string;
}

/** That none of the causes explains a difference. */
export function unexplained(detail: string, before = NaN): Explanation {
  const { look } = CAUSES.unknown;
  return { cause: "unknown", explained: 0, before, after: before, detail, look };
}

/** All causes. */
export const CAUSES = {
  "qk-permuted": {
    meaning: "rows of attn_q or attn_k are in the other RoPE order",
    signature: "q or k has the right numbers in each head, in another order",
    look:
      "the converter's permutation of Q and K (Hugging Face keeps halves, llama files adjacent pairs)",
    undo: { adjacent: ropeOrder(toAdjacent) as RowOrder, half: ropeOrder(toHalf) as RowOrder },
  },
  "rope-pairing": {
    meaning:
      "RoPE turns the wrong pairs: halves instead of neighbours or the reverse, another part of a head, or backwards",
    signature:
      "q and k are right, q_rope and k_rope wrong from position 1 on, with the right norms",
    look: "the RoPE style of the architecture",
  },
  "rope-base": {
    meaning: "RoPE's base frequency is another one",
    signature:
      "q_rope is right for the first pair and position 0, and drifts with the pair and the position",
    look: "rope.freq_base (rope_theta)",
    undo: [1e4, 5e5, 1e6, 1e5, 1.3e5, 2.5e5, 2e6, 5e6, 8e6, 1e7],
  },
  "rope-scaling": {
    meaning:
      "positions are scaled, or frequency factors applied, where they should not be, or the reverse",
    signature: "all pairs turn by the same wrong share of their angle, or by rope_freqs' shares",
    look: "rope.scaling.*, rope_freqs.weight",
    undo: [2, 4, 8, 16, 32],
  },
  "position-offset": {
    meaning: "positions are off by a constant",
    signature: "q_rope is what it should be at another position",
    look: "where positions start, and what is added while decoding",
  },
  epsilon: {
    meaning: "RMSNorm's epsilon is another one",
    signature: "the norm is off by one factor per row, the more the smaller the row",
    look: "attention.layer_norm_rms_epsilon (rms_norm_eps)",
    undo: [1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-4, 1e-7, 0],
  },
  layernorm: {
    meaning: "the mean is subtracted, or not: LayerNorm instead of RMSNorm, or the reverse",
    signature: "the norm is what the other kind of norm gives",
    look: "which norm the architecture has",
  },
  "norm-offset": {
    meaning: "norm weights are off by one (stored as w, applied as 1 + w, or the reverse)",
    signature: "the norm is that of weights one larger or smaller",
    look: "the converter's handling of norm weights (gemma style)",
    undo: [1, -1],
  },
  "gate-up-swapped": {
    meaning: "gate and up of the FFN are exchanged",
    signature: "ffn_act is silu(up) · gate, or ffn_gate is what ffn_up should be",
    look: "the order in which a joint gate_up weight is split",
    undo: exchangedName as typeof exchangedName,
  },
  activation: {
    meaning: "another activation than the model's",
    signature: "ffn_act is that of another function: gelu(gate) · up instead of silu(gate) · up",
    look: "the FFN's activation function",
  },
  transposed: {
    meaning: "a weight is transposed",
    signature: "the product is that with the transposed matrix",
    look: "the shape and the order of this weight in the converter",
    undo: transposedPlace as typeof transposedPlace,
  },
  "head-grouping": {
    meaning: "query heads read the wrong key/value heads, or heads are in the wrong order",
    signature: "each head's scores are right with another key/value head",
    look: "the map from query heads to key/value heads: h / (H / Hkv), not h mod Hkv",
    undo: headOrders as typeof headOrders,
  },
  "bias-missing": {
    meaning: "a bias is left out",
    signature: "the difference is the same vector in every row: the bias",
    look: "whether this projection has a bias in the file, and whether it is added",
  },
  "v-rotated": {
    meaning: "RoPE turns the values too",
    signature: "v, or what the cache holds, is the right one turned by its position",
    look: "which of q, k, v are handed to RoPE",
  },
  "residual-missing": {
    meaning: "a residual connection is missing or added twice",
    signature: "the sum lacks its first term, or has it twice",
    look: "the addition after attention or the FFN",
  },
  "output-tied": {
    meaning: "the embedding serves as output matrix though the model has its own, or the reverse",
    signature: "logits are the product with the other matrix",
    look: "output.weight (tie_word_embeddings)",
  },
  "bos-missing": {
    meaning: "the beginning-of-sequence token is missing or there twice",
    signature: "ids differ by the first one",
    look: "tokenizer.ggml.add_bos_token, and who adds it",
  },
  "space-prefix": {
    meaning: "the space in front of the first word is missing or there twice",
    signature: "ids differ where the text begins",
    look: "tokenizer.ggml.add_space_prefix",
  },
  "f16-overflow": {
    meaning: "a value left the range of 16-bit floats",
    signature: "infinities, or ±65504, where the right value is larger than 65504",
    look: "which intermediate values are kept in f16",
  },
  "dequant-block": {
    meaning: "a run of wrong values in one weight: a block that is dequantized wrongly, or damaged",
    signature: "few outputs are wrong, and each by what a few columns of one row contribute",
    look: "the named rows of the weight: a damaged download, or the quantizer",
  },
  nan: {
    meaning: "not a number",
    signature: "the first NaN is made here, from finite inputs",
    look: "the weight that is named; its scales",
  },
  mask: {
    meaning: "attention sees keys that it should not, or misses some that it should see",
    signature:
      "probabilities are zero, or scores at a floor, at keys that should be visible, or the reverse",
    look: "the attention mask: causal, its offset while decoding, its window, its padding",
  },
  window: {
    meaning: "attention's window is another one: off by one, missing, or on the wrong layers",
    signature: "the farthest keys are seen, or not, in layers with a window",
    look:
      "attention.sliding_window, whether the query's own key counts, and which layers have one (sliding_window_pattern)",
  },
  alibi: {
    meaning: "ALiBi is missing: scores do not fall with the distance",
    signature: "scores differ by the distance times a slope of the head",
    look: "attention.max_alibi_bias (alibi_bias_max)",
  },
  sinks: {
    meaning: "sinks of attention heads are ignored",
    signature: "probabilities are larger by one factor per row, and sum to 1",
    look: "attn_sinks: they take a share of each row, which is not to be divided again",
  },
  clamp: {
    meaning: "queries, keys and values are not limited",
    signature: "small numbers are right, large ones are beyond the limit",
    look: "attention.clamp_kqv (clip_qkv)",
  },
  "query-scaling": {
    meaning: "queries are not scaled by their positions, or positions are counted otherwise",
    signature: "queries of later positions are off by one factor",
    look: "attention.temperature_scale and its length (attn_scale, floor_scale)",
  },
  "qk-norm": {
    meaning: "norms of queries and keys are missing, or over other rows",
    signature: "q_norm or k_norm is q or k itself, or normed head by head or as a whole row",
    look: "attn_q_norm and attn_k_norm: over each head, or over all heads together",
  },
  "post-norm": {
    meaning: "the norm of what attention or the FFN adds is missing, or stands elsewhere",
    signature: "what is added to the stream is not normed, or the sum is",
    look: "post_attention_norm and post_ffw_norm: in front of the addition",
  },
  "embedding-scale": {
    meaning: "embeddings lack their factor, or have it twice",
    signature: "the stream before the first block is times one factor",
    look: "the embedding's multiplier: √D in Gemma, embedding_scale (embedding_multiplier)",
  },
  "residual-scale": {
    meaning: "what is added to the stream lacks its factor, or has it twice",
    signature: "what attention or the FFN adds is times one factor",
    look: "residual_scale (residual_multiplier)",
  },
  "logit-scale": {
    meaning: "logits lack their factor, or have it twice",
    signature: "all logits are times one factor",
    look: "logit_scale (logits_scaling)",
  },
  "rope-magnitude": {
    meaning: "cosines and sines lack the factor of YaRN or LongRoPE, or have it twice",
    signature: "turned heads have the right angles, and other lengths",
    look: "rope.scaling.attn_factor (attention_factor), 1 + 0.1 ln factor in YaRN",
  },
  "longrope-factors": {
    meaning: "LongRoPE's short and long factors are exchanged",
    signature: "all pairs turn by the other tensor's shares",
    look: "rope_factors_short, rope_factors_long, and the positions that decide between them",
  },
  "expert-choice": {
    meaning: "positions go to other experts",
    signature: "ids of experts are those without the bias or the groups",
    look: "exp_probs_b, expert_group_count, and how experts are ranked",
  },
  "expert-weights": {
    meaning: "weights of experts are normalised where they should not be, or the reverse",
    signature: "weights of a position are times one factor, or those of another gate",
    look: "expert_weights_norm (norm_topk_prob), expert_weights_scale, expert_gating_func",
  },
  "shared-expert": {
    meaning: "the shared expert is missing, or its gate",
    signature: "the FFN makes what the chosen experts make alone",
    look: "ffn_*_shexp, and ffn_gate_inp_shexp",
  },
  "cache-slot": {
    meaning: "a slot of the KV cache does not hold what its position wrote",
    signature: "a slot changes after it was written, or holds another position's numbers",
    look: "where decoding writes its keys and values, and what moves them afterwards",
  },
  "left-out": {
    meaning: "an operation is left out, or done twice",
    signature: "its outcome is its input, or that of its outcome",
    look: "how often the operation that is named runs, and whose outcome is handed on",
  },
  scaled: {
    meaning: "a factor is missing, or there once too often",
    signature: "all numbers are the right ones times one factor",
    look:
      "where the factor that is named belongs: √D, 1/√d, a power of two, a multiplier of the config",
  },
  "soft-cap": {
    meaning:
      "numbers go through a soft cap, cap · tanh(x / cap), that is not the model's, or lack theirs",
    signature: "small numbers are right, and large ones approach a bound",
    look: "attn_logit_softcapping and final_logit_softcapping of the config",
  },
  rounded: {
    meaning: "numbers are rounded to fewer bits than is said",
    signature: "every number is one that fewer bits hold",
    look:
      'what rounds: the type that activations are computed in (an engine folder\'s manifest says it as "activations": "bf16", "f16" or ' +
      '"q8"), or the type that a weight was converted to on the way',
  },
  "other-tensor": {
    meaning: "a tensor holds the numbers of another one",
    signature: "the product is that with another weight of the file",
    look: "names in the converter or the loader: which tensor of the file goes where",
  },
  reordered: {
    meaning:
      "rows or columns of a weight are in another order, or the features that they make or read",
    signature: "the right numbers, rotated, shifted, exchanged or reversed",
    look: "what joins, splits or reshapes this weight in the converter or the loader",
  },
  zeros: {
    meaning: "a part of a tensor is zero",
    signature: "whole rows, columns or all numbers are zero or padding",
    look: "what was not copied: the end of a buffer, padded rows, a shard that is missing",
  },
  "block-layout": {
    meaning: "the blocks of a quantized weight are read wrongly",
    signature: "the product is that with another reading of the same bytes",
    look:
      "the dequantization of this type: signs, order of nibbles, interleaving, scales and minima",
  },
  tokenizer: {
    meaning:
      "the tokenizer's tables differ (merges, scores, types of tokens, pre-tokenizer, special ids), or the chat template",
    signature: "texts that need the entry that differs have other ids, or a chat another text",
    look: "the keys that are named (tokenizer.*), and what wrote them",
  },
  absent: {
    meaning: "something is not there, or has another shape: layers, tensors, points, steps",
    signature: "one side ends before the other, or is of another size",
    look: "what is named as missing; what comes after it was not judged",
  },
  unknown: {
    meaning: "none of the known causes explains the numbers",
    signature: "",
    look: "the operation that makes this point, with the inputs in the proof bundle",
  },
} as const satisfies Readonly<Record<string, CauseFacts>>;

/** The order of rows of so many heads: in row r belongs the row `order[r]`. */
export type RowOrder = (
  heads: number,
  widths: { readonly headWidth: number; readonly ropeWidth: number },
) => Int32Array;

/** Rows of heads in one of RoPE's orders, that are in the other one. */
function ropeOrder(reorder: typeof toHalf): RowOrder {
  return (heads, { headWidth, ropeWidth }) =>
    reorder(Int32Array.from({ length: heads * headWidth }, (_, row) => row), headWidth, ropeWidth);
}

/** The name of the weight that a gate or up is exchanged with; of other weights their own. */
function exchangedName(name: string): string {
  return name.replace(/\bffn_(gate|up)\b/, (_, own) => own === "gate" ? "ffn_up" : "ffn_gate");
}

/** Of a matrix [rows, columns] whose numbers were written column by column: where the number stands that belongs in this place. */
function transposedPlace(rows: number, columns: number): (place: number) => number {
  return (place) => (place % columns) * rows + Math.floor(place / columns);
}

/** Orders of query heads that other maps to key/value heads ask for: in place h belongs the head `order[h]`. */
function headOrders(
  { heads, kvHeads }: Pick<Config, "heads" | "kvHeads">,
): Readonly<Record<string, number[]>> {
  const group = heads / kvHeads;
  const places = Array.from({ length: heads }, (_, h) => h);
  return {
    "by position in the group": places.map((h) => (h % kvHeads) * group + Math.floor(h / kvHeads)),
    "by key/value head": places.map((h) => (h % group) * kvHeads + Math.floor(h / group)),
    "backwards": places.toReversed(),
  };
}
