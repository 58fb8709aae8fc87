/** Mistral's models from the third on; earlier ones are of the architecture `llama`. */
import { type Family, real, whole } from "../family.ts";
import type { Keys } from "../keys.ts";
import { readRopeScaling } from "../rope_scaling.ts";

/**
 * Mistral Small 3, Ministral 3 (Mistral AI 2025): YaRN whose ramp is in the file, and without its factor on cosines and sines; queries grow with
 * the logarithm of how often the first training length a position is away.
 */
export const mistral3: Family = {
  ropeStyle: "adjacent",
  huggingFace: { types: ["ministral3"] },
  rope: {
    scaling: (keys) =>
      readRopeScaling(keys, {
        betaFast: real("rope.scaling.yarn_beta_fast", 32)(keys),
        betaSlow: real("rope.scaling.yarn_beta_slow", 1)(keys),
      }),
    magnitude,
  },
  queryScaling(keys) {
    const scale = real("attention.temperature_scale")(keys);
    const period = whole("rope.scaling.original_context_length", keys.integer("context_length"));
    return scale === 0 ? undefined : { scale, period: period(keys), offset: 0 };
  },
};

/** YaRN's factor divided by the same with the logarithm times `yarn_log_multiplier`: 1 where that is 1 (`mscale_all_dim` of DeepSeek). */
function magnitude(keys: Keys): number {
  const scaling = readRopeScaling(keys);
  const logarithm = scaling.type === "yarn" ? Math.log(Math.max(1, scaling.factor)) : 0;
  const factor = (multiplier: number) => 1 + 0.1 * multiplier * logarithm;
  const divisor = factor(real("rope.scaling.yarn_log_multiplier")(keys));
  return real("rope.scaling.attn_factor", 1)(keys) * factor(1) / divisor;
}
