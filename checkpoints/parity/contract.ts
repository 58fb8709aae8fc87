/** The thirteen checkpoints as data: tests, the command, its report and the documentation read them here. */
import { kindOf } from "../../base/layer_names.ts";
import type { Cause } from "../diagnosis/causes.ts";

/** `0`, `1`, `1B`, … `12`, in the order in which they are listed. */
export type CheckpointId = typeof CHECKPOINTS[number]["id"];

/** One of the places at which a pass is compared with a reference. */
export interface Checkpoint {
  readonly id: string;
  readonly title: string;
  /** What it isolates. */
  readonly purpose: string;
  /** Where it stands in the model. */
  readonly place: string;
  /** What must hold. */
  readonly expected: string;
  /** Kinds of points that belong to it: names without `blk.<layer>.`. */
  readonly points: readonly string[];
  /** Absolute tolerance; 0 for exactly. */
  readonly tolerance: number;
  /** How it is checked. */
  readonly check: string;
  /** What it typically catches. */
  readonly faults: readonly Cause[];
  /** What to do when it fails. */
  readonly next: string;
  /** Fewest positions with which it can fail; 1 where it always can. */
  readonly positions: number;
}

/** What each norm makes on its way: LayerNorm subtracts the mean and may add a bias. */
const NORM = ["_centered", "_rms", "_pre", "_scaled", ""].flatMap((part) =>
  [
    ...["embd_norm", "attn_norm", "q_norm", "k_norm", "attn_post_norm"],
    ...["ffn_norm", "ffn_post_norm", "output_norm"],
  ].map((norm) => `${norm}${part}`)
);

/** All of them. */
export const CHECKPOINTS = [
  {
    id: "0",
    title: "foundation",
    purpose: "the file is read right: header, hyperparameters, tensors, tokens, embedding rows",
    place: "before the first block",
    expected:
      "the same tensors, chat template and ids as the reference, and the embedding's rows " +
      "bit for bit",
    points: ["token_embd", "position_embd"],
    tolerance: 0,
    check:
      "names and shapes of two files; a conversation by both chat templates; ids of the prompt and " +
      "of awkward texts by both tokenizers; token_embd value by value",
    faults: ["absent", "tokenizer", "bos-missing", "space-prefix", "dequant-block"],
    next: "compare the metadata (task model info) and the block layout of the embedding's type",
    positions: 1,
  },
  {
    id: "1",
    title: "RMSNorm",
    purpose: "normalization of the residual stream",
    place: "before attention, before the FFN, before the logits",
    expected: "x / sqrt(mean(x²) + ε), times the weight",
    points: NORM,
    tolerance: 1e-5,
    check: "each from the reference's own residual stream",
    faults: ["epsilon", "layernorm", "norm-offset"],
    next: "look at epsilon, at the weight, and at whether a mean is subtracted",
    positions: 1,
  },
  {
    id: "1B",
    title: "RoPE",
    purpose: "rotary position embedding",
    place: "on q and k, after their projections",
    expected: "pairs turn by position · base^(−2i/d); v does not turn",
    points: ["q_rope", "k_rope", "q_scaled"],
    tolerance: 1e-5,
    check: "from the reference's own q and k, with angles built as the reference builds them",
    faults: ["rope-pairing", "rope-base", "rope-scaling", "position-offset", "left-out"],
    next: "compare position 1 by hand: which pairs turn, and by which angle",
    positions: 16,
  },
  {
    id: "2",
    title: "QKV",
    purpose: "the projections to queries, keys and values",
    place: "after the first norm",
    expected: "W·x + b, heads in the file's order",
    points: ["q", "k", "v", "q_unclamped", "k_unclamped", "v_unclamped"],
    tolerance: 1e-4,
    check: "from the reference's own attn_norm",
    faults: ["transposed", "qk-permuted", "bias-missing", "head-grouping", "v-rotated"],
    next: "compare one row of the weight with the original's; look at the converter's permutation",
    positions: 1,
  },
  {
    id: "3",
    title: "KV cache",
    purpose: "what later tokens read of earlier ones",
    place: "after RoPE",
    expected: "every slot holds what its position wrote",
    points: ["cache_k", "cache_v"],
    tolerance: 1e-5,
    check:
      "bit for bit against what was written, then and by every earlier pass; within the tolerance against the reference's cache",
    faults: ["cache-slot", "v-rotated"],
    next: "find the first wrong slot: stale, shifted, or overwritten by a later position",
    positions: 16,
  },
  {
    id: "4",
    title: "attention scores",
    purpose: "who looks at whom",
    place: "scaled q·k, then the softmax",
    expected: "scale 1/√d, causal mask, key/value head h / (H / Hkv)",
    points: ["attn_scores", "attn_probs"],
    tolerance: 1e-4,
    check: "visible keys only, from the reference's own q and k",
    faults: ["mask", "head-grouping", "scaled", "soft-cap"],
    next: "look at the scale, the mask, and the map from query heads to key/value heads",
    positions: 16,
  },
  {
    id: "5",
    title: "attention output",
    purpose: "the mix of values and its projection",
    place: "after the softmax",
    expected: "heads side by side, then the output matrix",
    points: ["head_out", "attn_out"],
    tolerance: 1e-4,
    check: "from the reference's own probabilities and values",
    faults: ["head-grouping", "transposed", "bias-missing"],
    next: "look at the order in which heads are joined, and at attn_output",
    positions: 1,
  },
  {
    id: "6",
    title: "FFN",
    purpose: "the SwiGLU feed-forward network, or the mixture of experts in its place",
    place: "after the second norm",
    expected: "down(silu(gate·x) ⊙ up·x)",
    points: [
      ...["ffn_gate", "ffn_up", "ffn_act", "ffn_router", "ffn_expert_ids", "ffn_expert_weights"],
      ...["ffn_expert_inp", "ffn_expert_gate", "ffn_expert_up", "ffn_expert_act"],
      ...["ffn_expert_out", "ffn_experts", "ffn_shared_gate", "ffn_shared_up", "ffn_shared_act"],
      ...["ffn_shared_out", "ffn_shared_router", "ffn_shared_weight", "ffn_shared_weighted"],
      "ffn_out",
    ],
    tolerance: 1e-4,
    check: "each product from the reference's own input",
    faults: ["gate-up-swapped", "activation", "transposed", "dequant-block"],
    next: "look at which of gate and up goes through the activation, and at which one it is",
    positions: 1,
  },
  {
    id: "7",
    title: "block",
    purpose: "the residual stream",
    place: "between attention and FFN, and at the block's end",
    expected: "input plus attention; that plus FFN",
    points: [
      ...["embd_scaled", "embd_sum", "attn_out_scaled", "ffn_inp", "attn_resid"],
      ...["ffn_out_scaled", "out"],
    ],
    tolerance: 1e-4,
    check: "sums of the reference's own terms",
    faults: ["residual-missing"],
    next: "look at the additions, and at where the norms stand",
    positions: 1,
  },
  {
    id: "8",
    title: "logits",
    purpose: "the scores of all next tokens, at every position",
    place: "after the last block",
    expected: "output norm, then the output matrix or the embedding",
    points: ["logits_unscaled", "logits_uncapped", "logits"],
    tolerance: 1e-3,
    check: "every row, from the reference's own output_norm",
    faults: ["output-tied", "transposed"],
    next: "look at which matrix is used, and at the output norm",
    positions: 1,
  },
  {
    id: "9",
    title: "selected logits",
    purpose: "the row from which the next token is chosen",
    place: "after the logits",
    expected: "the last row",
    points: [],
    tolerance: 0,
    check: "what a pass for the last row alone makes, against the last row of a pass for all",
    faults: [],
    next: "look at which row is taken, in prompts of several passes too",
    positions: 1,
  },
  {
    id: "10",
    title: "argmax",
    purpose: "the greedy choice",
    place: "after the logits",
    expected: "the reference's id; ties are named",
    points: [],
    tolerance: 0,
    check: "ids, with the margin between the two best logits",
    faults: [],
    next: "a margin below the logits' tolerance is a tie, else look at the logits",
    positions: 1,
  },
  {
    id: "11",
    title: "probabilities",
    purpose: "the distribution over next tokens",
    place: "after the logits",
    expected: "softmax: positive, sums to 1; samplers leave the same candidates of it",
    points: ["probs"],
    tolerance: 1e-6,
    check:
      "against a 64-bit softmax of our own logits; what top-k 40, top-p 0.95, min-p 0.05 and " +
      "temperature 0.8 leave of them, against the reference's sampler",
    faults: [],
    next: "look at overflow in exp, and at the temperature",
    positions: 1,
  },
  {
    id: "12",
    title: "end to end",
    purpose: "anything that creeps in over steps",
    place: "generation",
    expected: "the same greedy ids, 64 of them",
    points: [],
    tolerance: 0,
    check: "step by step; past a tie the reference's id is forced",
    faults: [],
    next: "find the first step that differs and compare its tensors",
    positions: 1,
  },
] as const satisfies readonly Checkpoint[];

const BY_KIND: ReadonlyMap<string, Checkpoint> = new Map(
  CHECKPOINTS.flatMap((checkpoint) =>
    checkpoint.points.map((kind): [string, Checkpoint] => [kind, checkpoint])
  ),
);

/**
 * The checkpoint to which a point belongs.
 *
 * @throws {RangeError} for a point that belongs to none
 */
export function checkpointOf(point: string): Checkpoint {
  const checkpoint = BY_KIND.get(kindOf(point));
  if (!checkpoint) throw new RangeError(`Cannot compare ${point}: it belongs to no checkpoint`);
  return checkpoint;
}

/** Whether a point belongs to a checkpoint. */
export function isCompared(point: string): boolean {
  return BY_KIND.has(kindOf(point));
}

/** Relative part of every tolerance: of the largest magnitude in the reference's row. */
export const RELATIVE_TOLERANCE = 1e-5;

/** Steps of generation at which tensors are compared: the passes that run these generated tokens. */
export const DECODING_STEPS = [1, 8, 64] as const;
