/** A mixture of experts: its choice, its weights and its products, computed again. */
import { dot, factor, short, show, worked, written } from "./arithmetic.js";

/** What becomes of a position's logits before experts are compared. */
function expertGates(logits, gating) {
  if (gating === 1) return logits.map((x) => 1 / (1 + Math.exp(-x)));
  return gating === 0 ? shares(logits) : logits;
}

function shares(logits) {
  const max = Math.max(...logits);
  const powers = logits.map((x) => Math.exp(x - max));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Places of numbers, the largest first; of equal ones the first. */
const byLargest = (numbers) => [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a] || a - b);

/** What experts are chosen by; −∞ for those of a group that is not among the best. */
function choices(page, step, position) {
  const { gating, groups, groups_used } = step.constants;
  const logits = [...page.vector(step.inputs[0], position)];
  const [bias] = step.weights;
  const gates = expertGates(logits, gating);
  const added = bias ? page.tensor(`${step.name}/${bias.name}`).data : undefined;
  const scores = added ? gates.map((gate, i) => gate + added[i]) : gates;
  if (groups <= 1) return scores;
  const width = logits.length / groups;
  const totals = Array.from({ length: groups }, (_, g) => {
    const own = scores.slice(g * width, (g + 1) * width).sort((a, b) => b - a);
    return own[0] + (own[1] ?? 0);
  });
  const best = new Set(byLargest(totals).slice(0, groups_used));
  return scores.map((score, i) => best.has(Math.floor(i / width)) ? score : -Infinity);
}

/** Which of a position's experts a place is of. */
function expertOf(page, step, position, k) {
  return page.vector(step.inputs[1], position)[k];
}

/** Why a product with another row than the picked one cannot be worked out. */
const notHeld = (name) => `The page holds one row of ${name} for each position and no other.`;

/** Each operation's own arithmetic. */
export const EXPERTS = {
  route(page, { step, position, place }) {
    const scores = choices(page, step, position);
    const best = byLargest(scores);
    const value = best[place];
    return worked(
      value,
      value,
      `the experts from the best on: ${
        written(best.length, (i) => `${best[i]} (${show(scores[best[i]])})`).replaceAll(" + ", ", ")
      }`,
      `choice ${place + 1} of ${step.constants.used}: expert ${value}`,
    );
  },

  route_weights(page, { step, position, place }) {
    const { gating, normalize, scale } = step.constants;
    const logits = [...page.vector(step.inputs[0], position)];
    const ids = [...page.vector(step.inputs[1], position)];
    const gates = expertGates(logits, gating);
    const chosen = ids.map((id) => gates[id]);
    const own = gating === 2 ? shares(chosen) : chosen;
    const sum = normalize ? Math.max(own.reduce((a, b) => a + b, 0), 2 ** -14) : 1;
    const value = own[place] / sum * scale;
    const largest = Math.max(...logits.map(Math.abs));
    return worked(
      value,
      Math.abs(value) * (2 + 4 * largest),
      `expert ${ids[place]} has the logit ${show(logits[ids[place]])}, and ${
        ["of all experts", "by itself", "of the chosen ones"][gating]
      } the share ${show(own[place])}`,
      `= ${show(own[place])}${normalize ? ` / ${show(sum)}, the chosen ones' sum` : ""}${
        scale === 1 ? "" : ` × ${show(scale)}`
      } = ${show(value)}`,
    );
  },

  linear_experts(page, { step, position, place }) {
    const { rows, columns, shared } = step.constants;
    const [{ name, row: held }, bias] = step.weights;
    if (place !== held) return notHeld(name);
    const k = Math.floor(place / rows);
    const all = page.vector(step.inputs[0], position);
    const x = shared ? all : all.subarray(k * columns, (k + 1) * columns);
    const row = page.vector(`${step.name}/${name}`, position);
    const { sum, size, text } = dot(columns, (i) => row[i], (i) => x[i]);
    const [b] = bias ? page.vector(`${step.name}/${bias.name}`, position) : [0];
    return worked(
      sum + b,
      size + Math.abs(b),
      `row ${place % rows} of expert ${expertOf(page, step, position, k)} in ${short(name)} · ${
        short(step.inputs[0])
      }`,
      `= ${text}`,
      bias ? `= ${show(sum)}, plus its bias ${show(b)} = ${show(sum + b)}` : `= ${show(sum)}`,
    );
  },

  combine(page, { step, position, place }) {
    const { columns, used } = step.constants;
    const x = page.vector(step.inputs[0], position);
    const weights = page.vector(step.inputs[1], position);
    const { sum, size, text } = dot(used, (k) => weights[k], (k) => x[k * columns + place]);
    return worked(
      sum,
      size,
      `Σ weight × number ${place} of what each makes`,
      `= ${text}`,
      `= ${show(sum)}`,
    );
  },

  weigh(page, { step, position, place }) {
    const { columns } = step.constants;
    const x = page.vector(step.inputs[0], position)[place];
    const weight = page.vector(step.inputs[1], position)[Math.floor(place / columns)];
    return worked(
      x * weight,
      Math.abs(x * weight),
      `${factor(x)} × the position's weight ${show(weight)} = ${show(x * weight)}`,
    );
  },
};
