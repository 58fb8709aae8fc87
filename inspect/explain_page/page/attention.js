/** Attention's numbers, computed again: scores with their caps, biases and windows, and shares with their sinks. */
import { dot, factor, show, worked, written } from "./arithmetic.js";

function attentionPlace(page, step, place) {
  const keys = page.tensor(step.name).shape[2];
  return { head: Math.floor(place / keys), key: place % keys, keys };
}

/** The first key that a query sees. */
function firstKey({ window, chunk }, query) {
  const first = window > 0 ? Math.max(0, query + 1 - window) : 0;
  return chunk > 0 ? Math.max(first, query - query % chunk) : first;
}

/** What stands at a key that is not seen, and why it is not. */
function hidden(value, position, key, { window, chunk }) {
  const why = key > position
    ? `comes after query ${position}, which must not see it`
    : window > 0 && key <= position - window
    ? `lies before the window of query ${position}, which sees the last ${window} positions`
    : `is not in the chunk of query ${position}: chunks have ${chunk} positions`;
  return worked(value, 0, `key ${key} ${why}: ${show(value)}`);
}

/** ALiBi's slope of a head (Press et al. 2022). */
function alibiSlope({ heads, max_bias }, head) {
  const power = 2 ** Math.floor(Math.log2(heads));
  const step = head < power ? head + 1 : head - power + 0.5;
  return 2 ** (-max_bias * step / power);
}

/** q · k, scaled; then what the family does with it: a cap, a bias by the distance. */
export function scoresStep(page, { step, position, place }) {
  const { heads, kv_heads, head_width: d, scale, cap, max_bias } = step.constants;
  const { head, key, keys } = attentionPlace(page, step, place);
  if (key > position || key < firstKey(step.constants, position)) {
    return hidden(-Infinity, position, key, step.constants);
  }
  const kvHead = Math.floor(head * kv_heads / heads);
  const q = page.vector(step.inputs[0], position);
  const k = page.vector(step.inputs[1], key);
  const { sum, size, text } = dot(d, (i) => q[head * d + i], (i) => k[kvHead * d + i]);
  // Most families divide by √d; a scale of one's own is a factor.
  const usual = Math.abs(scale * Math.sqrt(d) - 1) < 1e-6;
  const by = usual ? `/ √${d}` : `× ${show(scale)}`;
  let value = sum * scale;
  let bound = size * scale;
  const lines = [
    `query head ${head} at ${position} · key head ${kvHead} in slot ${key} of ${keys}, ${by}`,
    `= (${text}) ${by}`,
    `= ${show(sum)} × ${show(scale)} = ${show(value)}`,
  ];
  if (cap > 0) {
    const capped = cap * Math.tanh(value / cap);
    lines.push(`capped: ${show(cap)} × tanh(${show(value)} / ${show(cap)}) = ${show(capped)}`);
    value = capped;
  }
  if (max_bias > 0) {
    const slope = alibiSlope(step.constants, head);
    const biased = value - slope * (position - key);
    lines.push(
      `ALiBi: ${show(value)} − ${show(slope)} × ${position - key} positions = ${show(biased)}`,
    );
    value = biased;
    bound += slope * (position - key);
  }
  return worked(value, bound, ...lines);
}

/** The share of a key, of all that are seen; a sink takes a share too. */
export function attentionSoftmax(page, { step, position, place }) {
  const { head, key, keys } = attentionPlace(page, step, place);
  const { constants } = page.steps[page.byName.get(step.inputs[0])];
  const first = firstKey(constants, position);
  if (key > position || key < first) return hidden(0, position, key, constants);
  const row = page.vector(step.inputs[0], position);
  const scores = row.subarray(head * keys + first, head * keys + position + 1);
  const [sinks] = step.weights;
  const sink = sinks ? [page.tensor(`${step.name}/${sinks.name}`).data[head]] : [];
  const all = [...sink, ...scores];
  const max = Math.max(...all);
  const sum = all.reduce((total, score) => total + Math.exp(score - max), 0);
  const terms = written(all.length, (i) => `exp(${show(all[i] - max)})`);
  const over = `the ${scores.length} keys seen${sinks ? " and the head's sink" : ""}`;
  return softmaxLines(scores[key - first], max, sum, terms, over);
}

/** The lines of a softmax. */
export function softmaxLines(score, max, sum, terms, over) {
  const power = Math.exp(score - max);
  const value = power / sum;
  return worked(
    value,
    value * (1 + 2 * Math.abs(max) + 2 * Math.abs(score)),
    `exp(${show(score)} − ${factor(max)}) / Σ over ${over} (the largest, ${
      show(max)
    }, is taken off first)`,
    `= exp(${show(score - max)}) / (${terms})`,
    `= ${show(power)} / ${show(sum)} = ${show(value)}`,
  );
}
