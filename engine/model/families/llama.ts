/** Llama (Touvron et al. 2023) and families that differ from it in little: RoPE on neighbours, RMSNorm, SwiGLU. */
import { every, type Family, mixture, NO_WINDOW, whole } from "../family.ts";

/** RMSNorm, RoPE on neighbours, grouped queries, SwiGLU: what {@linkcode Family} leaves unsaid. */
const plain: Family = { ropeStyle: "adjacent" };

/** Llama. Mistral's early files are of this architecture too, and have a window; so is Mixtral, with experts. */
export const llama: Family = {
  ...plain,
  huggingFace: { types: ["mistral", "mixtral"] },
  window: { size: whole("attention.sliding_window") },
  experts: mixture(),
  likeLlamaCpp: {
    does: "leaves out the window of attention (llama.attention.sliding_window)",
    rules: { window: NO_WINDOW },
  },
};

/** InternLM 2 (Cai et al. 2024). */
export const internlm2: Family = plain;

/** XVERSE. */
export const xverse: Family = plain;

/** ERNIE 4.5, dense: a head is wider than its share of the stream. */
export const ernie4_5: Family = plain;

/** SmolLM 3: every 4th layer is not turned by RoPE (NoPE, Kazemnejad et al. 2023). */
export const smollm3: Family = {
  ...plain,
  unturned: every(4),
};

/** Arcee's AFM (2025): an FFN without gate, max(x, 0)² (So et al. 2021). */
export const arcee: Family = { ...plain, gated: false, activation: "relu2" };

/** Refact (Small Magellanic Cloud AI 2023): ALiBi instead of RoPE, one key head; its largest bias is no key. */
export const refact: Family = { ...plain, rope: false, alibi: 8 };
