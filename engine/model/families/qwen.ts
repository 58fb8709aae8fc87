/** Qwen (Bai et al. 2023) and families with its RoPE: on halves of a head; and biases of queries, keys and values. */
import type { Family } from "../family.ts";

/** Qwen 2 and 2.5 (Yang et al. 2024). */
export const qwen2: Family = { ropeStyle: "half" };

/** Qwen (the first): the key for the FFN's width counts gate and up together. */
export const qwen: Family = {
  ...qwen2,
  ffnWidth: (keys, { layers }) => keys.sameInLayers("feed_forward_length", layers) / 2,
};

/** Seed-OSS: the norm in front of the FFN has the name of one after attention. */
export const seed_oss: Family = {
  ...qwen2,
  norms: { attention: "attn_norm", ffn: "post_attention_norm" },
};

/** EXAONE 3 and 3.5 (LG AI Research 2024). */
export const exaone: Family = qwen2;
