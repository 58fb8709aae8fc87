/**
 * One number of each step, computed again from what the step read, in the terms of the paper: for people, so every line shows the
 * numbers. Also imported where the page is built and tested.
 */
import { ROUNDING } from "./numbers.js";

/** Terms of a sum that are written out. */
const SHOWN = 4;

/** A number for people: 4 digits, and a true minus. */
export function show(value) {
  if (value === undefined || Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    const [digits, power] = size.toExponential(2).split("e");
    return `${value < 0 ? "−" : ""}${digits}e${power.replace("+", "").replace("-", "−")}`;
  }
  const text = size >= 10_000 ? size.toFixed(0) : size.toPrecision(4);
  return (value < 0 ? "−" : "") + text;
}

/** The same inside a product. */
const factor = (value) => value < 0 ? `(${show(value)})` : show(value);

/** A long sum: its first terms, and how many follow. */
function written(count, term) {
  const first = Array.from({ length: Math.min(SHOWN, count) }, (_, i) => term(i)).join(" + ");
  return count > SHOWN ? `${first} + … (${count - SHOWN} more)` : first;
}

/** Sum of products, and of their sizes. */
function dot(count, a, b) {
  let sum = 0, size = 0;
  for (let i = 0; i < count; i++) {
    sum += a(i) * b(i);
    size += Math.abs(a(i) * b(i));
  }
  return { sum, size, text: written(count, (i) => `${factor(a(i))} × ${factor(b(i))}`) };
}

/** Without the layer: `attn_q.weight`. */
const short = (name) => name.replace(/^blk\.\d+\./, "");

/** A number, how large the numbers were that went into it, and lines that show how it comes about. */
const worked = (value, size, ...lines) => ({ value, size, lines });

/**
 * Each operation's own arithmetic. `place` counts a step's numbers at one position (of attention: head · keys + key). Gives the value,
 * lines that show how it comes about, and how large the numbers were that went into it (`size`), which bounds the rounding errors.
 * A string instead says why a number cannot be computed from what the page holds.
 */
const OPERATIONS = {
  embed(page, { step, position, place }) {
    const value = page.vector(`${step.name}/${step.weights[0].name}`, position)[place];
    const { id, text } = page.tokens[position];
    return worked(
      value,
      Math.abs(value),
      `${step.weights[0].name}[row ${id} (“${text}”), column ${place}] = ${show(value)}`,
    );
  },

  rms(page, { step, position }) {
    const x = page.vector(step.inputs[0], position);
    const { epsilon } = step.constants;
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
    const [rms] = page.vector(step.inputs[1], position);
    return worked(x / rms, Math.abs(x / rms), `${show(x)} / ${show(rms)} = ${show(x / rms)}`);
  },

  scale_columns(page, { step, position, place }) {
    const x = page.vector(step.inputs[0], position)[place];
    const weight = page.tensor(`${step.name}/${step.weights[0].name}`).data[place];
    return worked(
      x * weight,
      Math.abs(x * weight),
      `pre[${place}] × ${short(step.weights[0].name)}[${place}]`,
      `= ${factor(x)} × ${factor(weight)} = ${show(x * weight)}`,
    );
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
    const table = page.tensor("rope_table").data;
    const at = (position * (turned / 2) + pair) * 2;
    const cos = table[at], sin = table[at + 1];
    const { base: theta, extra } = page.data.rope;
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

  scores(page, { step, position, place }) {
    const { heads, kv_heads, head_width: d, scale } = step.constants;
    const { head, key, keys } = attentionPlace(page, step, place);
    if (key > position) return hidden(-Infinity, position, key);
    const kvHead = Math.floor(head * kv_heads / heads);
    const q = page.vector(step.inputs[0], position);
    const k = page.vector(step.inputs[1], key);
    const { sum, size, text } = dot(d, (i) => q[head * d + i], (i) => k[kvHead * d + i]);
    return worked(
      sum * scale,
      size * scale,
      `query head ${head} at ${position} · key head ${kvHead} in slot ${key} of ${keys}, / √${d}`,
      `= (${text}) / √${d}`,
      `= ${show(sum)} × ${show(scale)} = ${show(sum * scale)}`,
    );
  },

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

  glu(page, { step, position, place }) {
    if (step.constants.activation !== 0) return "Only SiLU is worked out here.";
    const [gate, up] = step.inputs.map((name) => page.vector(name, position)[place]);
    const silu = gate / (1 + Math.exp(-gate));
    return worked(
      silu * up,
      Math.abs(gate * up) * (1 + Math.abs(gate)),
      `silu(gate) × up, with silu(g) = g / (1 + exp(−g))`,
      `= ${show(gate)} / (1 + exp(${show(-gate)})) × ${factor(up)}`,
      `= ${factor(silu)} × ${factor(up)} = ${show(silu * up)}`,
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
    const text = page.data.vocabulary[columns[best]];
    return worked(
      columns[best],
      columns[best],
      `largest logit: ${show(logits[best])}, at token ${columns[best]} (“${text}”)`,
    );
  },
};

function copied(page, step, position, place, words) {
  const value = page.vector(step.inputs[0], position)[place];
  return worked(value, Math.abs(value), `${words}: ${show(value)}`);
}

function attentionPlace(page, step, place) {
  const keys = page.tensor(step.name).shape[2];
  return { head: Math.floor(place / keys), key: place % keys, keys };
}

function hidden(value, position, key) {
  return worked(
    value,
    0,
    `key ${key} comes after query ${position}, which must not see it: ${show(value)}`,
  );
}

function attentionSoftmax(page, { step, position, place }) {
  const { head, key, keys } = attentionPlace(page, step, place);
  if (key > position) return hidden(0, position, key);
  const scores = page.vector(step.inputs[0], position)
    .subarray(head * keys, head * keys + position + 1);
  const max = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = scores.reduce((total, score) => total + Math.exp(score - max), 0);
  const terms = written(scores.length, (i) => `exp(${show(scores[i] - max)})`);
  return softmaxLines(scores[key], max, sum, terms, `the ${scores.length} keys seen`);
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

function softmaxLines(score, max, sum, terms, over) {
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

/** Which output of a matrix a place is: of the logits the page may hold only some. */
function outputIndex(page, step, place) {
  return step.name === "logits" ? page.data.logits.columns[place] : place;
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
