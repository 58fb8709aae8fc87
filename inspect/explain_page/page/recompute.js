/**
 * One number of each step, computed again from what the step read, in the terms of the paper: for people, so every line shows the
 * numbers. Also imported where the page is built and tested.
 */
import { ROUNDING } from "./numbers.js";
import { copied, dot, factor, short, show, worked, written } from "./arithmetic.js";
import { attentionSoftmax, scoresStep, softmaxLines } from "./attention.js";
import { ELEMENTWISE } from "./elementwise.js";
import { EXPERTS } from "./experts.js";

export { show };

/**
 * Each operation's own arithmetic. `place` counts a step's numbers at one position (of attention: head · keys + key). Gives the value,
 * lines that show how it comes about, and how large the numbers were that went into it (`size`), which bounds the rounding errors.
 * A string instead says why a number cannot be computed from what the page holds.
 */
const OPERATIONS = {
  ...ELEMENTWISE,
  ...EXPERTS,

  embed(page, { step, position, place }) {
    const value = page.vector(`${step.name}/${step.weights[0].name}`, position)[place];
    const { id, text } = page.tokens[position];
    return worked(
      value,
      Math.abs(value),
      `${step.weights[0].name}[row ${id} (“${text}”), column ${place}] = ${show(value)}`,
    );
  },

  embed_positions(page, { step, position, place }) {
    const [{ name }] = step.weights;
    const value = page.vector(`${step.name}/${name}`, position)[place];
    return worked(
      value,
      Math.abs(value),
      `${name}[row ${position}, the position; column ${place}] = ${show(value)}`,
    );
  },

  center(page, { step, position, place }) {
    const { x, from, row } = rowOfGroup(page, step, position, place);
    const { sum, size, text } = total(row);
    const mean = sum / row.length;
    return worked(
      x[place] - mean,
      Math.abs(x[place]) + size / row.length,
      `number ${place - from} less the mean of ${row.length}: ${
        show(x[place])
      } − (${text}) / ${row.length}`,
      `= ${show(x[place])} − ${factor(mean)} = ${show(x[place] - mean)}`,
    );
  },

  rms(page, { step, position, place }) {
    const { columns, epsilon } = step.constants;
    const x = page.vector(step.inputs[0], position).subarray(
      place * columns,
      (place + 1) * columns,
    );
    const { sum } = dot(x.length, (i) => x[i], (i) => x[i]);
    const value = Math.sqrt(sum / x.length + epsilon);
    return worked(
      value,
      value,
      `√( (${written(x.length, (i) => `${factor(x[i])}²`)}) / ${x.length} + ${show(epsilon)} )`,
      `= √( ${show(sum)} / ${x.length} + ${show(epsilon)} ) = √${show(sum / x.length + epsilon)}`,
      `= ${show(value)}`,
    );
  },

  normalize(page, { step, position, place }) {
    const x = page.vector(step.inputs[0], position)[place];
    const rms = page.vector(step.inputs[1], position)[Math.floor(place / step.constants.columns)];
    const lines = [`${show(x)} / ${show(rms)} = ${show(x / rms)}`];
    return withBias(page, step, place, worked(x / rms, Math.abs(x / rms), ...lines), 0);
  },

  scale_columns(page, { step, position, place }) {
    const x = page.vector(step.inputs[0], position)[place];
    const column = place % step.constants.columns;
    const weight = page.tensor(`${step.name}/${step.weights[0].name}`).data[column];
    const scaled = worked(
      x * weight,
      Math.abs(x * weight),
      `pre[${place}] × ${short(step.weights[0].name)}[${column}]`,
      `= ${factor(x)} × ${factor(weight)} = ${show(x * weight)}`,
    );
    return withBias(page, step, place, scaled, 1);
  },

  linear(page, { step, position, place }) {
    const [matrix, bias] = step.weights;
    const output = outputIndex(page, step, place);
    if (output !== matrix.row) {
      return `The page holds row ${matrix.row} of ${matrix.name} and no other: all its ${
        matrix.shape[0].toLocaleString("en")
      } rows would make it too large.`;
    }
    const x = page.vector(step.inputs[0], position);
    const row = page.tensor(`${step.name}/${matrix.name}`).data;
    const { sum, size, text } = dot(x.length, (i) => row[i], (i) => x[i]);
    const b = bias ? page.tensor(`${step.name}/${bias.name}`).data[0] : 0;
    return worked(
      sum + b,
      size + Math.abs(b),
      `row ${output} of ${short(matrix.name)} · ${short(step.inputs[0])}`,
      `= ${text}`,
      bias ? `= ${show(sum)}, plus its bias ${show(b)} = ${show(sum + b)}` : `= ${show(sum)}`,
    );
  },

  rope(page, { step, position, place }) {
    const { head_width: d, rope_width: turned, half_style: half } = step.constants;
    const x = page.vector(step.inputs[0], position);
    const i = place % d;
    const base = place - i;
    if (i >= turned) {
      const value = x[place];
      return worked(value, Math.abs(value), `not turned: ${show(value)}`);
    }
    const pair = half ? i % (turned / 2) : i >> 1;
    const second = half ? i >= turned / 2 : i % 2 === 1;
    const a = x[base + (half ? pair : 2 * pair)];
    const b = x[base + (half ? pair + turned / 2 : 2 * pair + 1)];
    const table = page.tensor(step.inputs[1]).data;
    const at = (position * (turned / 2) + pair) * 2;
    const cos = table[at], sin = table[at + 1];
    const { base: theta, extra } = page.data.ropes[step.inputs[1]];
    const value = second ? a * sin + b * cos : a * cos - b * sin;
    const angle = position * theta ** (-2 * pair / turned);
    return worked(
      value,
      Math.abs(a) + Math.abs(b),
      `pair ${pair} = (${show(a)}, ${show(b)}) at position ${position}`,
      extra
        ? `angle: ${position} × ${show(theta)}^(−${2 * pair}/${turned}), ${extra}: cos ${
          show(cos)
        }, sin ${show(sin)}`
        : `angle = ${position} × ${show(theta)}^(−${2 * pair}/${turned}) = ${show(angle)}: cos ${
          show(cos)
        }, sin ${show(sin)}`,
      second
        ? `second = ${factor(a)} × ${factor(sin)} + ${factor(b)} × ${factor(cos)} = ${show(value)}`
        : `first = ${factor(a)} × ${factor(cos)} − ${factor(b)} × ${factor(sin)} = ${show(value)}`,
    );
  },

  store(page, { step, position, place }) {
    return copied(page, step, position, place, `slot ${position} takes position ${position}`);
  },

  scores: scoresStep,

  softmax(page, args) {
    return args.step.constants.causal
      ? attentionSoftmax(page, args)
      : vocabularySoftmax(page, args);
  },

  mix(page, { step, position, place }) {
    const { heads, kv_heads, head_width: d } = step.constants;
    const head = Math.floor(place / d);
    const i = place % d;
    const kvHead = Math.floor(head * kv_heads / heads);
    const probs = page.vector(step.inputs[0], position);
    const keys = probs.length / heads;
    const { sum, size, text } = dot(
      position + 1,
      (key) => probs[head * keys + key],
      (key) => page.vector(step.inputs[1], key)[kvHead * d + i],
    );
    return worked(
      sum,
      size,
      `head ${head}: Σ weight of a key × number ${i} of its value (value head ${kvHead})`,
      `= ${text}`,
      `= ${show(sum)}`,
    );
  },

  add(page, { step, position, place }) {
    const [a, b] = step.inputs.map((name) => page.vector(name, position)[place]);
    return worked(
      a + b,
      Math.abs(a) + Math.abs(b),
      `${step.inputs.map((name) => `${name}[${place}]`).join(" + ")}`,
      `= ${show(a)} + ${factor(b)} = ${show(a + b)}`,
    );
  },

  take_rows(page, { step, position, place }) {
    return copied(page, step, position, place, `position ${position} of ${step.inputs[0]}`);
  },

  argmax(page, { step, position }) {
    const { columns } = page.data.logits;
    const logits = page.vector(step.inputs[0], position);
    let best = 0;
    for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
    // Of logits that are equal in the page's rounding the larger one was chosen.
    const chosen = columns.indexOf(page.data.chosen[page.row(position)]);
    if (chosen >= 0 && logits[chosen] === logits[best]) best = chosen;
    const text = page.data.vocabulary[columns[best]];
    return worked(
      columns[best],
      columns[best],
      `largest logit: ${show(logits[best])}, at token ${columns[best]} (“${text}”)`,
    );
  },
};

/** The row (of a head, or of the whole position) that a place is in. */
function rowOfGroup(page, step, position, place) {
  const { columns } = step.constants;
  const x = page.vector(step.inputs[0], position);
  const from = Math.floor(place / columns) * columns;
  return { x, from, row: x.subarray(from, from + columns) };
}

/** A sum, and the sum of its terms' sizes. */
function total(row) {
  return {
    sum: row.reduce((a, b) => a + b, 0),
    size: row.reduce((a, b) => a + Math.abs(b), 0),
    text: written(row.length, (i) => factor(row[i])),
  };
}

/** A step's number and the bias that its weights end with, if they have one. */
function withBias(page, step, place, { value, size, lines }, index) {
  const bias = step.weights[index];
  if (!bias) return { value, size, lines };
  const { data } = page.tensor(`${step.name}/${bias.name}`);
  const b = data[place % data.length];
  return worked(
    value + b,
    size + Math.abs(b),
    ...lines,
    `plus its bias: ${show(value)} + ${factor(b)} = ${show(value + b)}`,
  );
}

function vocabularySoftmax(page, { step, position, place }) {
  const logits = page.vector(step.inputs[0], position);
  // The sum was made of the pass's own logits, over the whole vocabulary; those of the page are rounded.
  const [exact, total] = page.data.logits.normalizers[page.row(position)];
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = total * Math.exp(exact - max);
  const count = page.data.model.vocabulary.toLocaleString("en");
  return softmaxLines(logits[place], max, sum, `Σ of ${count} such terms`, `all ${count} tokens`);
}

/** Which output of a matrix a place is: of the logits the page may hold only some. */
function outputIndex(page, step, place) {
  return step.name.startsWith("logits") ? page.data.logits.columns[place] : place;
}

/**
 * Computes one number of a step again.
 *
 * @param page a `Page`
 * @param step one of its steps
 * @param {number} position one of its positions
 * @param {number} place which of the numbers at that position
 * @returns its `value`, the `captured` one, whether they `agree` within the rounding of the page's numbers, `lines`; or `why` not
 */
export function recompute(page, step, position, place) {
  if (!OPERATIONS[step.operation]) return { why: "Nothing is computed here." };
  const result = OPERATIONS[step.operation](page, { step, position, place });
  if (typeof result === "string") return { why: result };
  const { value, size, lines } = result;
  const captured = step.operation === "argmax"
    ? page.data.chosen[page.row(position)]
    : page.vector(step.name, position)[place];
  return { value, captured, lines, agree: agrees(page, value, captured, size) };
}

/**
 * Whether two ways to a number differ by no more than rounding: that of the numbers in the page (both operands and the result),
 * and that of the device's 32-bit sums, which may be in any order.
 */
function agrees(page, value, captured, size) {
  if (value === captured) return true;
  const { width } = page.data;
  const smallest = width === 2 ? 2 ** -20 : 2 ** -40; // 16-bit floats are coarse near zero
  return Math.abs(value - captured) <= (4 * ROUNDING[width] + 2e-6) * size + smallest;
}
