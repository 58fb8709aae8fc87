/** Llama (Touvron et al. 2023) and what differs from it in nothing but numbers. */
import { type Family, NO_WINDOW, whole } from "../family.ts";

/**
 * RMSNorm, RoPE on neighbours, grouped queries, SwiGLU: what {@linkcode Family} leaves unsaid. Mistral's early files are of this
 * architecture, and have a window.
 */
export const llama: Family = {
  ropeStyle: "adjacent",
  window: { size: whole("attention.sliding_window") },
  likeLlamaCpp: {
    does: "leaves out the window of attention (llama.attention.sliding_window)",
    rules: { window: NO_WINDOW },
  },
};
