/** The table "Names of points", by hand: what the plan, the points and the oracle are held to. */

/** A point's kind, the kernel that makes it in a plan without fusion, its axes, and its sizes by the letters of the design. */
export type PointRow = readonly [kind: string, kernel: string, axes: string, sizes: string];

/** The points of a block, in model order. */
export const BLOCK_POINTS: readonly PointRow[] = [
  ["attn_norm_rms", "rms", "position feature", "T 1"],
  ["attn_norm_pre", "normalize", "position feature", "T D"],
  ["attn_norm", "scale_columns", "position feature", "T D"],
  ["q", "linear", "position head feature", "T H d"],
  ["k", "linear", "position kv_head feature", "T Hkv d"],
  ["v", "linear", "position kv_head feature", "T Hkv d"],
  ["q_rope", "rope", "position head feature", "T H d"],
  ["k_rope", "rope", "position kv_head feature", "T Hkv d"],
  ["cache_k", "store", "slot kv_head feature", "S Hkv d"],
  ["cache_v", "store", "slot kv_head feature", "S Hkv d"],
  ["attn_scores", "scores", "head query key", "H T S"],
  ["attn_probs", "softmax", "head query key", "H T S"],
  ["head_out", "mix", "position head feature", "T H d"],
  ["head_result", "head_result", "position head feature", "T H D"],
  ["attn_out", "linear", "position feature", "T D"],
  ["ffn_inp", "add", "position feature", "T D"],
  ["ffn_norm_rms", "rms", "position feature", "T 1"],
  ["ffn_norm_pre", "normalize", "position feature", "T D"],
  ["ffn_norm", "scale_columns", "position feature", "T D"],
  ["ffn_gate", "linear", "position feature", "T F"],
  ["ffn_up", "linear", "position feature", "T F"],
  ["ffn_act", "glu", "position feature", "T F"],
  ["ffn_out", "linear", "position feature", "T D"],
  ["out", "add", "position feature", "T D"],
];

/** Those outside of blocks, R being the rows at the end. */
export const OUTER_POINTS: readonly PointRow[] = [
  ["token_embd", "embed", "position feature", "T D"],
  ["output_norm_rms", "rms", "position feature", "R 1"],
  ["output_norm_pre", "normalize", "position feature", "R D"],
  ["output_norm", "scale_columns", "position feature", "R D"],
  ["logits", "linear", "position feature", "R V"],
  ["probs", "softmax", "position feature", "R V"],
];

/** A row's sizes, each letter replaced by what it stands for. */
export function sized<T>(sizes: string, meaning: Readonly<Record<string, T>>): (T | number)[] {
  return sizes.split(" ").map((letter) => meaning[letter] ?? Number(letter));
}
