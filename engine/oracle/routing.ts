/** Which experts of a mixture a position goes to, and with which weights (Shazeer et al. 2017; `build_moe_ffn` in llama-graph.cpp). */
import type { Experts } from "../model/config.ts";
import { softmaxRows } from "./math.ts";

/** How positions are sent to experts. */
export type Routing = Pick<Experts, "used" | "gating" | "normalized" | "scale" | "groups">;

/** What the router's logits of one position [E] are made into, before anything is chosen. */
function gatesOf(logits: Float64Array, gating: Experts["gating"]): Float64Array {
  switch (gating) {
    case "softmax":
      return softmaxRows(logits, logits.length);
    case "sigmoid":
      return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
    case "softmax_chosen":
      return logits;
  }
}

/** The `count` places with the greatest numbers, best first; of equal ones the first. */
function best(numbers: readonly number[], count: number): number[] {
  return Array.from(numbers.keys()).sort((a, b) => numbers[b] - numbers[a] || a - b)
    .slice(0, count);
}

/**
 * The experts of one position, best first. A bias counts for the choice only (DeepSeek-V3, arXiv 2412.19437, section 2.1.2); of groups those
 * whose two best experts are best together are open (`n_group_used`).
 *
 * @param logits the router's [E]
 * @param bias [E]
 * @returns K numbers of experts
 */
export function chooseExperts(
  logits: Float64Array,
  bias: Float32Array | undefined,
  { used, gating, groups }: Routing,
): number[] {
  // Without a bias or groups logits say as much as what is made of them, and 64 bits do not run out.
  if (!bias && !groups) return best([...logits], used);
  const merits = Array.from(
    gatesOf(logits, gating),
    (gate, expert) => gate + (bias?.[expert] ?? 0),
  );
  if (!groups) return best(merits, used);
  const size = merits.length / groups.count;
  const ofGroups = Array.from({ length: groups.count }, (_, group) => {
    const own = merits.slice(group * size, (group + 1) * size);
    return best(own, 2).reduce((sum, expert) => sum + own[expert], 0);
  });
  const open = new Set(best(ofGroups, groups.used));
  return best(
    merits.map((merit, expert) => open.has(Math.floor(expert / size)) ? merit : -Infinity),
    used,
  );
}

/** The smallest normal number of 16 bits: llama.cpp divides by no less. */
const LEAST_SUM = 2 ** -14;

/**
 * The weights of a position's experts.
 *
 * @param logits the router's [E]
 * @param ids K numbers of experts
 * @returns [K]
 */
export function expertWeights(
  logits: Float64Array,
  ids: readonly number[],
  { gating, normalized, scale }: Routing,
): Float64Array {
  const gates = gatesOf(logits, gating);
  const own = Float64Array.from(ids, (id) => gates[id]);
  const weights = gating === "softmax_chosen" ? softmaxRows(own, own.length) : own;
  const sum = weights.reduce((a, b) => a + b, 0);
  const divisor = normalized ? Math.max(sum, LEAST_SUM) : 1;
  return weights.map((weight) => weight / divisor * scale);
}
