/** GLM (Zhipu AI, Tsinghua): RoPE on the first half of each head, gate and up in one matrix. */
import type { Family, Rule } from "../family.ts";
import type { Rope } from "../config.ts";

/** ChatGLM 3 and GLM 4 (Team GLM 2024). */
export const chatglm: Family = {
  ropeStyle: "adjacent",
  fusedGateUp: true,
  huggingFace: {
    ropeStyle: "adjacent",
    modules: {
      "embedding.word_embeddings": "token_embd",
      "self_attention.query_key_value": "attn_qkv",
      "self_attention.dense": "attn_output",
      "mlp.dense_h_to_4h": "ffn_up",
      "mlp.dense_4h_to_h": "ffn_down",
      "final_layernorm": "output_norm",
      "output_layer": "output",
    },
  },
};

/** Models that see give positions in three numbers (M-RoPE), which are the same for text; converters put their pairs on halves. */
const style: Rule<Rope["style"]> = (keys) => {
  const sections = keys.get("rope.dimension_sections");
  const [time = 0, height = 0] = sections === undefined ? [] : Array.from(sections as number[]);
  return time > 0 && height > 0 ? "half" : "adjacent";
};

/** GLM 4 from April 2025 on: norms in front of both halves of a block, and behind both. */
export const glm4: Family = {
  ...chatglm,
  norms: {
    attention: "attn_norm",
    attentionAfter: "post_attention_norm",
    ffn: "ffn_norm",
    ffnAfter: "post_ffw_norm",
  },
  rope: { style },
  huggingFace: {
    ropeStyle: "adjacent",
    modules: {
      "mlp.gate_up_proj": "ffn_up",
      "post_self_attn_layernorm": "post_attention_norm",
      "post_mlp_layernorm": "post_ffw_norm",
    },
  },
};
