/** Gemma (Google): embeddings times the square root of their width, GELU, heads wider than their share of the stream. */
import { type Family, pattern, real, type Sizes, whole } from "../family.ts";
import type { Keys } from "../keys.ts";

/** Gemma (Gemma Team 2024). Its norms multiply by 1 + w; files have the sum. */
export const gemma: Family = {
  ropeStyle: "half",
  embedding: (_keys, { width }) => ({ scale: Math.sqrt(width) }),
  activation: "gelu_tanh",
  huggingFace: { normOffset: 1 },
};

/** Norms in front of both halves of a block, and behind both. */
const SANDWICHED: Pick<Family, "norms" | "huggingFace"> = {
  norms: {
    attention: "attn_norm",
    attentionAfter: "post_attention_norm",
    ffn: "ffn_norm",
    ffnAfter: "post_ffw_norm",
  },
  huggingFace: {
    ...gemma.huggingFace,
    modules: {
      post_attention_layernorm: "post_attention_norm",
      pre_feedforward_layernorm: "ffn_norm",
      post_feedforward_layernorm: "post_ffw_norm",
    },
  },
};

/** The largest models divide scores by the root of a head's share of the stream instead of its width. */
function scaleOfLargest(layersOfLargest: number): (keys: Keys, sizes: Sizes) => number {
  return (_keys, { layers, width, heads, headWidth }) =>
    1 / Math.sqrt(layers === layersOfLargest ? Math.floor(width / heads) : headWidth);
}

/** Gemma 2 (Gemma Team 2024b): scores and logits are capped, and every other layer, from the first on, has a window. */
export const gemma2: Family = {
  ...gemma,
  ...SANDWICHED,
  attentionScale: scaleOfLargest(46),
  attentionCap: real("attn_logit_softcapping", 50),
  logitCap: real("final_logit_softcapping", 30),
  window: {
    size: whole("attention.sliding_window", 4096),
    layers: pattern("attention.sliding_window_pattern", 2),
  },
};

/**
 * Gemma 3 (Gemma Team 2025): queries and keys are normed instead of scores capped. All but every 6th layer have a window, and RoPE with a base of
 * their own that is not scaled; MedGemma and Rnj-1 are of this architecture, the latter without windows.
 */
export const gemma3: Family = {
  ...gemma,
  ...SANDWICHED,
  qkNorm: { over: "head", afterRope: false },
  attentionScale: scaleOfLargest(62),
  logitCap: real("final_logit_softcapping"),
  window: {
    size: whole("attention.sliding_window"),
    layers: pattern("attention.sliding_window_pattern", 6),
  },
  windowRope: { base: real("rope.freq_base_swa", 10000), scaling: { type: "none" } },
};
