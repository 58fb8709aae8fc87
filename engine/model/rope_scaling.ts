/** How a file's metadata scale RoPE, where its family says nothing else. */
import type { RopeScaling, Yarn } from "./config.ts";
import { type Keys, shown } from "./keys.ts";

/** What of YaRN the metadata of most families leave out: the paper's numbers for Llama. */
const USUAL_YARN = { betaFast: 32, betaSlow: 1, share: 1 };

/**
 * Positions beyond the first training length: `rope.scaling.*`.
 *
 * @param yarn what of YaRN the family's files say
 * @throws {GgufError} one line that names the key at fault
 */
export function readRopeScaling(keys: Keys, yarn: Partial<Yarn> = {}): RopeScaling {
  const type = keys.get("rope.scaling.type") ?? "linear";
  if (type === "none") {
    keys.get("rope.scaling.factor"); // it has none to give
    return { type };
  }
  const old = keys.real("rope.scale_linear", (value) => value >= 0, 0);
  const factor = keys.real("rope.scaling.factor", (value) => value >= 0, old);
  // Zero is how converters write "no scaling".
  const unscaled = factor === 0 || factor === 1;
  const [short, long] = ["short", "long"].map((name) => `rope_factors_${name}.weight`);
  const hasFactors = keys.file.tensors.has(short) && keys.file.tensors.has(long);
  // Converters of Phi say it with the tensors only.
  const isLongRope = hasFactors && (type === "longrope" || type === "linear");
  if (isLongRope && !unscaled) {
    throw keys.error("rope.scaling.factor", `${factor}, which is not supported with LongRoPE`);
  }
  if (type === "linear" && !isLongRope) return unscaled ? { type: "none" } : { type, factor };
  const originalLength = keys.integer(
    "rope.scaling.original_context_length",
    keys.integer("context_length"),
  );
  if (isLongRope) return { type: "longrope", originalLength, short, long };
  if (type === "yarn") {
    return { type, factor: unscaled ? 1 : factor, originalLength, ...USUAL_YARN, ...yarn };
  }
  throw keys.error("rope.scaling.type", `${shown(type)}, which is not supported yet`);
}

/** The factor on cosines and sines; of YaRN 1 + 0.1 ln factor (Peng et al. 2023, section 3.4). */
export function readRopeMagnitude(keys: Keys, scaling: RopeScaling): number {
  const factor = keys.real("rope.scaling.attn_factor", (value) => value > 0, 1);
  if (scaling.type !== "yarn") return factor;
  return factor * (1 + 0.1 * Math.log(scaling.factor));
}
