/** Families with LayerNorm and an FFN as in Llama: Cohere's, StableLM, Orion. */
import { type Family, pattern, real } from "../family.ts";
import type { Keys } from "../keys.ts";

/** Norms of queries and keys, each head with weights of its own. */
const OF_HEADS = { over: "own_heads", afterRope: false } as const;

/** Command R (Cohere 2024): parallel blocks with one norm, without biases; R+ norms queries and keys. */
const commandR: Family = {
  ropeStyle: "adjacent",
  normKind: "layer",
  parallel: true,
  norms: { attention: "attn_norm" },
  qkNorm: (_keys, { layers }) => layers >= 64 ? OF_HEADS : undefined,
  logitScale: (keys) => real("logit_scale")(keys) || 1,
  huggingFace: { types: ["cohere"], ropeStyle: "adjacent" },
};

/** Command R7B and A, Aya Expanse's heirs (Cohere 2025): windows with RoPE, and every 4th layer without either. */
export const cohere2: Family = {
  ...commandR,
  qkNorm: undefined,
  huggingFace: { ropeStyle: "adjacent" },
  window: {
    size: (keys) => keys.integer("attention.sliding_window"),
    layers: pattern("attention.sliding_window_pattern", 4),
  },
  rope: false,
  windowRope: {},
};

/** StableLM (Stability AI 2023): RoPE on part of a head; 12B has parallel blocks with one norm, and norms of queries and keys. */
export const stablelm: Family = {
  ropeStyle: "half",
  normKind: "layer",
  parallel: hasOneNorm,
  norms: (keys) =>
    hasOneNorm(keys) ? { attention: "attn_norm" } : { attention: "attn_norm", ffn: "ffn_norm" },
  qkNorm: (keys) => keys.has("attn_q_norm.weight") ? OF_HEADS : undefined,
};

/** Converters write `use_parallel_residual` for all models: it says nothing. */
function hasOneNorm(keys: Keys): boolean {
  keys.get("use_parallel_residual");
  return !keys.has("ffn_norm.weight");
}

/** Orion 14B (OrionStar 2024). */
export const orion: Family = { ropeStyle: "half", normKind: "layer" };

export { commandR as "command-r" };
