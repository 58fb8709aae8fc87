/** Phi (Microsoft), from the third on. */
import { type Family, NO_WINDOW, whole } from "../family.ts";

/** Phi 3 and 4 (Abdin et al. 2024): gate and up are one matrix, a part of each head is turned, LongRoPE in the ones for long contexts. */
export const phi3: Family = {
  ropeStyle: "half",
  fusedGateUp: true,
  huggingFace: { modules: { "mlp.gate_up_proj": "ffn_up" } },
  window: { size: whole("attention.sliding_window") },
  likeLlamaCpp: {
    does: "leaves out the window of attention (phi3.attention.sliding_window)",
    rules: { window: NO_WINDOW },
  },
};
