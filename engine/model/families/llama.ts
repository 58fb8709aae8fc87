/** Llama (Touvron et al. 2023) and what differs from it in nothing but numbers. */
import type { Family } from "../family.ts";

/** RMSNorm, RoPE on neighbours, grouped queries, SwiGLU: what {@linkcode Family} leaves unsaid. */
export const llama: Family = { ropeStyle: "adjacent" };
