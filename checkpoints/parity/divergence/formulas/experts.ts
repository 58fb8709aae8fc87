/** Formulas of mixtures of experts: who is chosen, with which weight, and what comes of it. */
import { GATINGS } from "../../../../kernels/experts/routing/route.ts";
import type { Constants } from "../../../../kernels/kernel.ts";
import { rowOf } from "../evidence.ts";
import { type Formulas, ofWeight, rowAt, termsOf } from "./said.ts";

/** By operation. */
export const EXPERT_FORMULAS: Formulas = {
  route({ inputs: [logits], weights: [bias], constants, token, place: { index } }) {
    const { experts, used, groups, groups_used: usedGroups } = constants;
    const row = [...rowAt(logits, token, experts)];
    const gates = gatesOf(row, constants);
    const added = bias && rowOf(bias, 0);
    // Without a bias the logits themselves are compared: gates may be equal where those are not.
    const scores = added ? gates.map((gate, id) => gate + added[id]) : row;
    const best = (numbers: readonly number[], ids: readonly number[]) =>
      ids.toSorted((a, b) => numbers[b] - numbers[a] || a - b);
    const all = [...row.keys()];
    const width = experts / groups;
    const goodness = Array.from({ length: groups }, (_, group) => {
      const own = all.filter((id) => Math.floor(id / width) === group);
      const judged = added ? scores : gates;
      return best(judged, own).slice(0, 2).reduce((sum, id) => sum + judged[id], 0);
    });
    const open = groups > 1
      ? new Set(best(goodness, [...goodness.keys()]).slice(0, usedGroups))
      : undefined;
    const candidates = all.filter((id) => open?.has(Math.floor(id / width)) ?? true);
    const order = best(scores, candidates);
    const chosen = order[index];
    return {
      text: `the expert with the ${nth(index)}largest ${
        added ? `gate + ${bias.name}` : "logit"
      } of ${candidates.length}, of ${logits.name}; ${used} are used`,
      facts: order.slice(0, used + 1).map((id) => [`expert ${id}`, scores[id]] as const),
      value: chosen,
    };
  },

  route_weights({ inputs: [logits, ids], constants, token, place: { index } }) {
    const { experts, used, normalize, scale } = constants;
    const row = [...rowAt(logits, token, experts)];
    const chosen = [...rowAt(ids, token, used)];
    const gating = GATINGS[constants.gating];
    const gates = gatesOf(row, constants);
    const all = gating === "softmax_chosen"
      ? softmaxOf(chosen.map((id) => row[id]))
      : chosen.map((id) => gates[id]);
    const weights = termsOf(["expert", "gate"], used, (k) => [chosen[k], all[k]]);
    // 2^−14 is llama.cpp's least divisor.
    const divisor = normalize ? Math.max(weights.sum, 2 ** -14) : 1;
    const meaning = {
      softmax: `softmax over ${experts} experts`,
      sigmoid: "σ(logit)",
      softmax_chosen: `softmax over the ${used} chosen experts`,
    }[gating];
    return {
      text: `scale · gate${normalize ? " / Σ gate" : ""} of expert ${chosen[index]}, ` +
        `gate is ${meaning}, of ${logits.name}`,
      facts: [
        ["logit", row[chosen[index]]],
        ["gate", all[index]],
        ...(normalize ? [["Σ gate", weights.sum] as [string, number]] : []),
        ["scale", scale],
      ],
      terms: weights.terms,
      value: all[index] / divisor * scale,
    };
  },

  linear_experts({ inputs: [x, ids], weights: [weight], constants, token, head, place }) {
    const { columns, rows, used, shared } = constants;
    const expert = ids.data[token * used + head];
    const row = expert * rows + place.index;
    const w = rowOf(weight, row);
    const numbers = rowAt(x, shared ? token : token * used + head, columns);
    const products = w && termsOf(
      ["i", "x", "w", "x·w"],
      columns,
      (i) => [i, numbers[i], w[i], numbers[i] * w[i]],
    );
    return ofWeight(weight.name, row, products?.sum, {
      text: `Σ x[i] · w[i], x of ${x.name}, w of ${weight.name}, expert ${expert}, ` +
        `row ${place.index}, ${columns} terms`,
      terms: products?.terms,
      size: products?.size,
    });
  },

  add_expert_bias({ inputs: [x, ids], weights: [weight], constants, token, head, element, place }) {
    const { rows, used } = constants;
    const expert = ids.data[token * used + head];
    const b = rowOf(weight, 0)?.[expert * rows + place.index];
    return ofWeight(weight.name, 0, b, {
      text: `x + b, x of ${x.name}, b of ${weight.name}, expert ${expert}, number ${place.index}`,
      facts: [["x", x.data[element]], ["b", b ?? NaN]],
      value: x.data[element] + (b ?? NaN),
      size: Math.abs(x.data[element]) + Math.abs(b ?? 0),
    });
  },

  combine({ inputs: [x, weights], constants: { columns, used }, token, place: { index } }) {
    const products = termsOf(["k", "weight", "x", "weight·x"], used, (k) => {
      const [weight, value] = [
        weights.data[token * used + k],
        x.data[(token * used + k) * columns + index],
      ];
      return [k, weight, value, weight * value];
    });
    return {
      text: `Σ weight[k] · x[k] over ${used}, weight of ${weights.name}, x of ${x.name}`,
      facts: [],
      terms: products.terms,
      value: products.sum,
      size: products.size,
    };
  },

  weigh({ inputs: [x, weights], constants: { columns }, element }) {
    const weight = weights.data[Math.floor(element / columns)];
    return {
      text: `x · weight, x of ${x.name}, weight of ${weights.name}`,
      facts: [["x", x.data[element]], ["weight", weight]],
      value: x.data[element] * weight,
    };
  },
};

/** What becomes of a position's logits before some are chosen. */
function gatesOf(logits: readonly number[], { gating }: Constants): number[] {
  switch (GATINGS[gating]) {
    case "softmax":
      return softmaxOf(logits);
    case "sigmoid":
      return logits.map((x) => 1 / (1 + Math.exp(-x)));
    case "softmax_chosen":
      return [...logits];
  }
}

function softmaxOf(x: readonly number[]): number[] {
  const largest = x.reduce((a, b) => Math.max(a, b));
  const sum = x.reduce((total, value) => total + Math.exp(value - largest), 0);
  return x.map((value) => Math.exp(value - largest) / sum);
}

function nth(index: number): string {
  return index === 0 ? "" : index === 1 ? "second " : index === 2 ? "third " : `${index + 1}th `;
}
