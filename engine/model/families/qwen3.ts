/** Families whose RoPE is on halves, and that norm queries and keys, head by head. */
import { type Family, pattern, real, whole } from "../family.ts";
import { qwen2 } from "./qwen.ts";

/** Qwen 3 (Yang et al. 2025): a head is wider than its share of the stream. */
export const qwen3: Family = { ...qwen2, qkNorm: { over: "head", afterRope: false } };

/** Hunyuan, dense (Tencent 2025): normed after RoPE, whose base grows with `alpha` (NTK-aware scaling). */
const hunyuanDense: Family = {
  ...qwen3,
  qkNorm: { over: "head", afterRope: true },
  huggingFace: {
    types: ["hunyuan_v1_dense"],
    modules: {
      "self_attn.query_layernorm": "attn_q_norm",
      "self_attn.key_layernorm": "attn_k_norm",
    },
  },
  rope: {
    base(keys, { headWidth }) {
      const alpha = real("rope.scaling.alpha")(keys);
      const base = keys.real("rope.freq_base", (value) => value > 0, 10000);
      return alpha > 0 ? base * alpha ** (headWidth / (headWidth - 2)) : base;
    },
  },
};

const windowed = pattern("attention.sliding_window_pattern", 4);

/**
 * EXAONE 4 (LG AI Research 2025): norms of what both halves of a block add, and none in front. Of the large model all but every 4th layer have
 * a window, and those without one are not turned.
 */
export const exaone4: Family = {
  ...qwen3,
  norms: { attentionAfter: "post_attention_norm", ffnAfter: "post_ffw_norm" },
  huggingFace: {
    modules: {
      post_attention_layernorm: "post_attention_norm",
      post_feedforward_layernorm: "post_ffw_norm",
    },
  },
  window: {
    size: (keys, { layers }) => layers === 64 ? whole("attention.sliding_window", 4096)(keys) : 0,
    layers: windowed,
  },
  unturned: (keys, sizes) => sizes.layers === 64 ? windowed(keys, sizes).map((has) => !has) : [],
};

/** Apertus (Hernández-Cano et al. 2025): an FFN without gate, xIELU with numbers of each layer. */
export const apertus: Family = {
  ...qwen3,
  gated: false,
  activation: "xielu",
  huggingFace: {
    modules: { attention_layernorm: "attn_norm", feedforward_layernorm: "ffn_norm" },
  },
  xielu: (keys, { layers }) => ({
    alphaN: keys.reals("xielu.alpha_n", layers),
    alphaP: keys.reals("xielu.alpha_p", layers),
    beta: keys.reals("xielu.beta", layers),
    epsilon: keys.reals("xielu.eps", layers),
  }),
};

export { hunyuanDense as "hunyuan-dense" };
