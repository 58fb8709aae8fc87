/** Llama (Touvron et al. 2023) and families that differ from it in little: RoPE on neighbours, RMSNorm, SwiGLU. */
import type { Family } from "../family.ts";

/** RMSNorm, RoPE on neighbours, grouped queries, SwiGLU: what {@linkcode Family} leaves unsaid. */
export const llama: Family = { ropeStyle: "adjacent" };

/** InternLM 2 (Cai et al. 2024). */
export const internlm2: Family = llama;

/** XVERSE. */
export const xverse: Family = llama;

/** ERNIE 4.5, dense: a head is wider than its share of the stream. */
export const ernie4_5: Family = llama;

/** SmolLM 3: every 4th layer is not turned by RoPE (NoPE, Kazemnejad et al. 2023). */
export const smollm3: Family = {
  ...llama,
  unturned: (_keys, { layers }) => Array.from({ length: layers }, (_, layer) => layer % 4 === 3),
};
