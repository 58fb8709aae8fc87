/** Llamas with factors on what goes through them: Granite and MiniCPM. */
import { type Family, real } from "../family.ts";
import type { Keys } from "../keys.ts";

/** A factor under a key; 1 where the file has none, or 0. */
const factor = (key: string, otherwise = 1) => (keys: Keys) => real(key, otherwise)(keys) || 1;

/** Granite (IBM 2024): factors on the embedding, scores and what is added to the stream; one that logits are divided by. */
export const granite: Family = {
  ropeStyle: "adjacent",
  embedding: (keys) => ({ scale: factor("embedding_scale")(keys) }),
  residualScale: factor("residual_scale"),
  attentionScale: (keys, { headWidth }) =>
    real("attention.scale")(keys) || 1 / Math.sqrt(headWidth),
  logitScale: (keys) => 1 / keys.real("logit_scale", (value) => value > 0),
  unturned: (keys, { layers }) => Array(layers).fill(!keys.flag("rope.scaling.finetuned", true)),
};

/** MiniCPM (Hu et al. 2024): the same factors but for that of scores; old files do not have them. */
export const minicpm: Family = {
  ropeStyle: "adjacent",
  embedding: (keys) => ({ scale: factor("embedding_scale", 12)(keys) }),
  residualScale: (keys, { layers }) => factor("residual_scale", 1.4 / Math.sqrt(layers))(keys),
  logitScale: (keys, { width }) => 1 / keys.real("logit_scale", (value) => value > 0, width / 256),
  likeLlamaCpp: {
    does:
      "multiplies logits by what it should divide them by where the file has no minicpm.logit_scale",
    rules: {
      logitScale: (keys, { width }) =>
        1 / keys.real("logit_scale", (value) => value > 0, 256 / width),
    },
  },
};
