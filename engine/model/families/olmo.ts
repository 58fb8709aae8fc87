/** OLMo (Groeneveld et al. 2024): norms at other places, and of other kinds. */
import { type Family, pattern, real, whole } from "../family.ts";

/** OLMo: LayerNorm without weights; queries, keys and values may be clamped. */
export const olmo: Family = {
  ropeStyle: "adjacent",
  normKind: "layer",
  weightlessNorms: true,
  qkvLimit: real("attention.clamp_kqv"),
};

/**
 * OLMo 2 (2024) and 3: norms of what attention and FFN add only, and of whole rows of queries and keys. OLMo 3 has windows in three
 * layers of four, which YaRN leaves alone.
 */
export const olmo2: Family = {
  ropeStyle: "half",
  norms: { attentionAfter: "post_attention_norm", ffnAfter: "post_ffw_norm" },
  qkNorm: { over: "row", afterRope: false },
  huggingFace: {
    types: ["olmo3"],
    modules: {
      post_attention_layernorm: "post_attention_norm",
      post_feedforward_layernorm: "post_ffw_norm",
    },
  },
  window: {
    size: whole("attention.sliding_window"),
    layers: pattern("attention.sliding_window_pattern", 4),
  },
  windowRope: { scaling: { type: "none" }, magnitude: 1 },
};
