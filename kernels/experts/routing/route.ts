/** Which experts of a mixture a position goes to (Shazeer et al. 2017, "Outrageously Large Neural Networks"). */
import { bindings, type Constants, kernel } from "../../kernel.ts";
import biasedWgsl from "./biased.wgsl" with { type: "text" };
import unbiasedWgsl from "./unbiased.wgsl" with { type: "text" };
import gatesWgsl from "./gates.wgsl" with { type: "text" };
import routeWeightsWgsl from "./route_weights.wgsl" with { type: "text" };
import routeWgsl from "./route.wgsl" with { type: "text" };

/** What becomes of logits first, by the constant `gating`: softmax over all, a sigmoid of each, or softmax over the chosen alone. */
export const GATINGS = ["softmax", "sigmoid", "softmax_chosen"] as const;

/** What weights are divided by is at least this, the smallest normal f16, as in llama.cpp (build_moe_ffn): nothing is divided by 0. */
export const LEAST_SUM = 2 ** -14;

/** What fits into a workgroup's memory. Must equal the numbers in the WGSL. */
const MOST_EXPERTS = 1024;
const MOST_USED = 64;

/** Whether a mixture is small enough to be routed on every device: at most 1024 experts, 64 groups and 64 experts to a position. */
export function canRoute(experts: number, used: number, groups = 1): boolean {
  return experts <= MOST_EXPERTS && used <= Math.min(experts, MOST_USED) && groups <= MOST_USED;
}

/** Indices from that of the largest number on; of equal ones the lower index first, NaN last. */
function ranked(numbers: readonly number[]): number[] {
  const missing = numbers.map((number) => Number(Number.isNaN(number)));
  return [...numbers.keys()].sort((a, b) =>
    missing[a] - missing[b] || numbers[b] - numbers[a] || a - b
  );
}

/** e^(x − largest) / Σ. */
function softmax(x: readonly number[]): number[] {
  const largest = Math.max(...x);
  const powers = x.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** What logits of one position become. */
function gatesOf(logits: readonly number[], gating: number): readonly number[] {
  if (gating === 0) return softmax(logits);
  return gating === 1 ? logits.map((x) => 1 / (1 + Math.exp(-x))) : logits;
}

/** What the choice of one position follows from. */
export interface Choice {
  /** What experts are chosen by. */
  readonly choice: readonly number[];
  /** What groups are chosen by; none where there is one group. */
  readonly groupScores: readonly number[];
  readonly ids: readonly number[];
}

/** The experts of one position in 64-bit floats. Without a bias they are chosen by their logits, which all gates keep in order. */
export function choose(
  logits: readonly number[],
  bias: readonly number[] | undefined,
  { used, gating, groups, groups_used }: Constants,
): Choice {
  const gates = gatesOf(logits, gating);
  const scores = bias ? gates.map((gate, i) => gate + bias[i]) : gates;
  const choice = [...(bias ? scores : logits)];
  const groupScores: number[] = [];
  const width = logits.length / groups;
  if (groups > 1) {
    for (let first = 0; first < logits.length; first += width) {
      const own = scores.slice(first, first + width);
      groupScores.push(ranked(own).slice(0, 2).reduce((sum, i) => sum + own[i], 0));
    }
    const allowed = new Set(ranked(groupScores).slice(0, groups_used));
    choice.forEach((_, i) => {
      if (!allowed.has(Math.floor(i / width))) choice[i] = NaN;
    });
  }
  return { choice, groupScores, ids: ranked(choice).slice(0, used) };
}

/** The weights of chosen experts of one position. */
function weightsOf(
  logits: readonly number[],
  ids: readonly number[],
  { gating, normalize, scale }: Constants,
): number[] {
  const gates = gatesOf(logits, gating);
  const own = ids.map((id) => gates[id]);
  const weights = gating === 2 ? softmax(own) : own;
  const sum = weights.reduce((a, b) => a + b);
  const divisor = normalize ? Math.max(sum, LEAST_SUM) : 1;
  return weights.map((weight) => weight / divisor * scale);
}

/**
 * logits [T, experts] → ids [T, used] of the experts that each position goes to, the best first, of equal ones the lower id; and their
 * weights [T, used] as a tap ({@linkcode routeWeights}).
 *
 * With `groups` > 1 only experts of the `groups_used` best groups are chosen (whole numbers of experts; DeepSeek-V3, 2024, section 2.1.2): a
 * group is as good as its two best gates together. Ids are always those of `used` different experts, whatever the logits are.
 */
const route = kernel({
  operation: "route",
  wgsl: gatesWgsl + routeWgsl,
  prologue: () => unbiasedWgsl,
  constants: {
    experts: "u32",
    used: "u32",
    gating: "u32",
    normalize: "u32",
    groups: "u32",
    groups_used: "u32",
    scale: "f32",
  },
  bindings: bindings("input logits", "output ids i32", "tap weights"),
  grid: (pass) => [pass.tokens, 1, 1],
  twin({ constants, inputs: [logits], weights: [reader], outputs: [ids, weights] }) {
    const { experts, used } = constants;
    const bias = reader && new Float32Array(experts);
    if (bias) reader.read(0, bias);
    for (let token = 0; token * experts < logits.length; token++) {
      const row = [...logits.subarray(token * experts, (token + 1) * experts)];
      const chosen = choose(row, bias && [...bias], constants).ids;
      ids!.set(chosen, token * used);
      weights?.set(weightsOf(row, chosen, constants), token * used);
    }
  },
});

/** The same; bias [experts] is added to the gates for the choice, of experts and groups, but not to the weights (DeepSeek-V3, section 2.1.2). */
const routeBiased = kernel({
  ...route,
  biased: true,
  prologue: () => biasedWgsl,
  bindings: [...route.bindings, ...bindings("weight bias")],
});

/**
 * logits [T, experts], ids [T, used] → the weights of those experts, [T, used]: their gates, of which `gating` says what they are (an index of
 * {@linkcode GATINGS}). With `normalize` they are divided by their sum; then they are multiplied by `scale`. The constants are those of `route`.
 */
const routeWeights = kernel({
  ...route,
  operation: "route_weights",
  wgsl: gatesWgsl + routeWeightsWgsl,
  prologue: undefined,
  bindings: bindings("input logits", "input ids i32", "output weights"),
  twin({ constants, inputs: [logits, ids], outputs: [weights] }) {
    const { experts, used } = constants;
    for (let token = 0; token * experts < logits.length; token++) {
      const row = [...logits.subarray(token * experts, (token + 1) * experts)];
      const own = [...ids.subarray(token * used, (token + 1) * used)];
      weights!.set(weightsOf(row, own, constants), token * used);
    }
  },
});

export const routeKernels = [route, routeBiased, routeWeights];
