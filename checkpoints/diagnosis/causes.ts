/** The causes that a comparison or a diagnosis knows by name. */

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
}

/** All causes. */
export const CAUSES = {
  "qk-permuted": {
    meaning: "rows of attn_q or attn_k are in the other RoPE order",
    signature: "q or k has the right numbers in each head, in another order",
    look:
      "the converter's permutation of Q and K (Hugging Face keeps halves, llama files adjacent pairs)",
  },
  "rope-pairing": {
    meaning: "RoPE turns the wrong pairs: halves instead of neighbours, or the reverse",
    signature:
      "q and k are right, q_rope and k_rope wrong from position 1 on, with the right norms",
    look: "the RoPE style of the architecture",
  },
  "rope-base": {
    meaning: "RoPE's base frequency is another one",
    signature:
      "q_rope is right for the first pair and position 0, and drifts with the pair and the position",
    look: "rope.freq_base (rope_theta)",
  },
  "rope-scaling": {
    meaning:
      "positions are scaled, or frequency factors applied, where they should not be, or the reverse",
    signature: "all pairs turn by the same wrong share of their angle, or by rope_freqs' shares",
    look: "rope.scaling.*, rope_freqs.weight",
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
  },
  layernorm: {
    meaning: "the mean is subtracted: LayerNorm instead of RMSNorm",
    signature: "the norm is what LayerNorm gives",
    look: "which norm the architecture has",
  },
  "norm-offset": {
    meaning: "norm weights are off by one (stored as w, applied as 1 + w, or the reverse)",
    signature: "the norm is that of weights one larger or smaller",
    look: "the converter's handling of norm weights (gemma style)",
  },
  "gate-up-swapped": {
    meaning: "gate and up of the FFN are exchanged",
    signature: "ffn_act is silu(up) · gate, or ffn_gate is what ffn_up should be",
    look: "the order in which a joint gate_up weight is split",
  },
  activation: {
    meaning: "another activation than SiLU",
    signature: "ffn_act is gelu(gate) · up, or that of another function",
    look: "the FFN's activation function",
  },
  transposed: {
    meaning: "a weight is transposed",
    signature: "the product is that with the transposed matrix",
    look: "the shape and the order of this weight in the converter",
  },
  "head-grouping": {
    meaning: "query heads read the wrong key/value heads, or heads are in the wrong order",
    signature: "each head's scores are right with another key/value head",
    look: "the map from query heads to key/value heads: h / (H / Hkv), not h mod Hkv",
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
  unknown: {
    meaning: "none of the known causes explains the numbers",
    signature: "",
    look: "the operation that makes this point, with the inputs in the proof bundle",
  },
} as const satisfies Readonly<Record<string, CauseFacts>>;
