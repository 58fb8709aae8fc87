/** One number of an operation by its formula, in 64-bit floats and with all that goes into it: written apart from the kernels' twins. */
import { MASKED } from "../../../kernels/attention/scoring/score.ts";
import { activate, ACTIVATIONS, gated } from "../../../kernels/elementwise/activations.ts";
import type { Pass } from "../../../kernels/kernel.ts";
import type { ElementPlace } from "../compare.ts";
import {
  elementAt,
  type NamedTensor,
  type OperationRecord,
  rowOf,
  type Settings,
  weightRowAt,
} from "./evidence.ts";

/** A number of an operation, computed by hand. */
export interface Formula {
  /** What is computed, with names, places and constants. */
  readonly text: string;
  /** Numbers on the way to it. */
  readonly facts: readonly (readonly [name: string, value: number])[];
  /** What is summed up, the largest first; undefined where nothing is. */
  readonly terms?: Terms;
  /** The outcome, not rounded; undefined where something that it needs was left out, which `text` says. */
  readonly value?: number;
  /** Magnitudes that are summed up on the way to it: what a rounding error is measured by. */
  readonly size: number;
}

/** What an operation's formula says; its size is that of the outcome unless something larger goes into it. */
type Said = Omit<Formula, "size"> & { readonly size?: number };

/** The terms of a sum. */
export interface Terms {
  /** What the numbers of a row are; the last one is the term. */
  readonly columns: readonly string[];
  /** The largest ones. */
  readonly rows: readonly (readonly number[])[];
  /** How many there are in all. */
  readonly count: number;
  /** The sum of those that are not listed. */
  readonly others: number;
}

/** An operation at one place. */
interface At extends Settings {
  readonly output: NamedTensor;
  readonly pass: Pass;
  readonly place: ElementPlace;
  /** Row of the pass, and the head or 0. */
  readonly token: number;
  readonly head: number;
  /** Its element of the output. */
  readonly element: number;
}

/** Terms that are listed. */
const LISTED = 8;

/**
 * Computes a place of an operation; undefined where the operation's outcome has no such place.
 *
 * @param settings the operation's own, or the other side's
 */
export function formulaAt(
  { operation, output }: OperationRecord,
  settings: Settings,
  pass: Pass,
  place: ElementPlace,
): Formula | undefined {
  const element = elementAt(output, pass.start, place);
  if (element === undefined) return undefined;
  const absent = settings.inputs.find(({ data }) => data.length === 0);
  if (absent) {
    return {
      text: `made of ${absent.name}, which is too large for the bundle`,
      facts: [],
      size: 0,
    };
  }
  const { position, head = 0 } = place;
  const said = FORMULAS[operation]?.({
    ...settings,
    ...{ output, pass, place, element, head, token: position - pass.start },
  });
  return said && { size: Math.abs(said.value ?? 0), ...said };
}

const FORMULAS: Readonly<Record<string, (at: At) => Said>> = {
  embed({ inputs: [ids], weights: [weight], token, place: { index } }) {
    const id = ids.data[token];
    const row = rowOf(weight, id);
    return ofWeight(weight.name, id, row?.[index], {
      text: `${weight.name}[${id}, ${index}]: the row of token ${id}`,
    });
  },

  rms({ inputs: [x], constants: { columns, epsilon }, element }) {
    const row = rowAt(x, element, columns);
    const squares = termsOf(["i", "x", "x²"], row.length, (i) => [i, row[i], row[i] * row[i]]);
    const mean = squares.sum / columns;
    return {
      text: `sqrt(mean(x²) + ε) of ${x.name}, ${columns} numbers`,
      facts: [["mean(x²)", mean], ["ε", epsilon]],
      terms: squares.terms,
      value: Math.sqrt(mean + epsilon),
    };
  },

  normalize({ inputs: [x, rms], element, constants: { columns } }) {
    const root = rms.data[Math.floor(element / columns)];
    return {
      text: `x / rms, x of ${x.name}`,
      facts: [["x", x.data[element]], ["rms", root]],
      value: x.data[element] / root,
    };
  },

  scale_columns({ inputs: [x], weights: [weight], element, constants: { columns } }) {
    const index = element % columns;
    const w = rowOf(weight, 0)?.[index];
    return ofWeight(weight.name, 0, w, {
      text: `x · w, x of ${x.name}, w of ${weight.name}[${index}]`,
      facts: [["x", x.data[element]], ["w", w ?? NaN]],
      value: x.data[element] * (w ?? NaN),
    });
  },

  linear({ inputs: [x], weights: [weight], constants: { columns }, output, place, token }) {
    const row = weightRowAt(output, place);
    const w = rowOf(weight, row);
    const numbers = rowAt(x, token, columns);
    const products = w && termsOf(
      ["i", "x", "w", "x·w"],
      columns,
      (i) => [i, numbers[i], w[i], numbers[i] * w[i]],
    );
    return ofWeight(weight.name, row, products?.sum, {
      text: `Σ x[i] · w[i], x of ${x.name}, w of ${weight.name}[${row}], ${columns} terms`,
      terms: products?.terms,
      size: products?.size,
    });
  },

  add_bias({ inputs: [x], weights: [weight], element, constants: { columns } }) {
    const index = element % columns;
    const b = rowOf(weight, 0)?.[index];
    return ofWeight(weight.name, 0, b, {
      text: `x + b, x of ${x.name}, b of ${weight.name}[${index}]`,
      facts: [["x", x.data[element]], ["b", b ?? NaN]],
      value: x.data[element] + (b ?? NaN),
    });
  },

  rope({ inputs: [x, table], constants, rope, element, place: { index, position } }) {
    const { rope_width: width, half_style: half } = constants;
    if (index >= width) {
      return {
        text: `x of ${x.name}: only the first ${width} numbers of a head turn`,
        facts: [],
        value: x.data[element],
      };
    }
    const pairs = width / 2;
    const pair = half ? index % pairs : index >> 1;
    const isFirst = half ? index < pairs : index % 2 === 0;
    const first = element - index + (half ? pair : 2 * pair);
    const [a, b] = [x.data[first], x.data[half ? first + pairs : first + 1]];
    const [cos, sin] = [0, 1].map((i) => table.data[(position * pairs + pair) * 2 + i]);
    const places = half ? `${pair} and ${pair + pairs}` : `${2 * pair} and ${2 * pair + 1}`;
    return {
      text: `${isFirst ? "a · cos − b · sin" : "a · sin + b · cos"}, pair ${pair}: ` +
        `a and b of ${x.name} at ${places} of the head`,
      facts: [
        ["a", a],
        ["b", b],
        ...(rope ? angleFacts(rope, position, pair) : []),
        ["cos", cos],
        ["sin", sin],
      ],
      value: isFirst ? a * cos - b * sin : a * sin + b * cos,
      size: Math.hypot(a, b),
    };
  },

  store({ inputs: [x], output, element, pass, constants: { columns }, place: { position } }) {
    if (position < pass.start) {
      return {
        text: `slot ${position} of before this pass, which leaves it as it is`,
        facts: [],
        value: output.data[element],
      };
    }
    return {
      text: `x of ${x.name}, as it is, into slot ${position}`,
      facts: [],
      value: x.data[element - pass.start * columns],
    };
  },

  scores({ inputs: [q, keys], constants, token, head, place: { index: key, position } }) {
    const { heads, kv_heads, head_width: width, scale } = constants;
    if (key > position) {
      return { text: `key ${key} is hidden from query ${position}`, facts: [], value: MASKED };
    }
    const kvHead = Math.floor(head * kv_heads / heads);
    const [qAt, kAt] = [(token * heads + head) * width, (key * kv_heads + kvHead) * width];
    const products = termsOf(["i", "q", "k", "q·k"], width, (i) => {
      const [a, b] = [q.data[qAt + i], keys.data[kAt + i]];
      return [i, a, b, a * b];
    });
    return {
      text:
        `scale · Σ q[i] · k[i], q of ${q.name} head ${head}, k of ${keys.name} slot ${key} head ${kvHead}, ` +
        `${width} terms`,
      facts: [["Σ q·k", products.sum], ["scale", scale]],
      terms: products.terms,
      value: products.sum * scale,
      size: products.size * Math.abs(scale),
    };
  },

  softmax({ inputs: [x], pass, token, head, constants, place: { index, position } }) {
    const { columns, causal } = constants;
    const width = causal ? pass.start + pass.tokens : columns;
    const row = rowAt(x, causal ? head * pass.tokens + token : token, width);
    if (causal && index > position) {
      return { text: `key ${index} is hidden from query ${position}`, facts: [], value: 0 };
    }
    const seen = row.subarray(0, causal ? position + 1 : columns);
    const largest = seen.reduce((a, b) => Math.max(a, b), MASKED);
    const weight = (score: number) => score <= MASKED ? 0 : Math.exp(score - largest);
    const powers = termsOf(
      [causal ? "key" : "id", "x", "exp(x − max)"],
      seen.length,
      (i) => [i, seen[i], weight(seen[i])],
    );
    return {
      text: `exp(x − max) / Σ exp(x − max) over ${seen.length} numbers of ${x.name}`,
      facts: [["x", row[index]], ["max", largest], ["Σ exp(x − max)", powers.sum]],
      terms: powers.terms,
      value: powers.sum === 0 ? 0 : weight(row[index]) / powers.sum,
    };
  },

  mix({ inputs: [probs, values], constants, pass, token, head, place: { index, position } }) {
    const { heads, kv_heads, head_width: width } = constants;
    const kvHead = Math.floor(head * kv_heads / heads);
    const row = rowAt(probs, head * pass.tokens + token, pass.start + pass.tokens);
    const products = termsOf(["key", "p", "v", "p·v"], position + 1, (key) => {
      const v = values.data[(key * kv_heads + kvHead) * width + index];
      return [key, row[key], v, row[key] * v];
    });
    return {
      text: `Σ p[key] · v[key], p of ${probs.name} head ${head}, v of ${values.name} ` +
        `head ${kvHead} at ${index}, ${position + 1} terms`,
      facts: [],
      terms: products.terms,
      value: products.sum,
      size: products.size,
    };
  },

  add({ inputs: [a, b], element }) {
    return {
      text: `a + b, a of ${a.name}, b of ${b.name}`,
      facts: [["a", a.data[element]], ["b", b.data[element]]],
      value: a.data[element] + b.data[element],
      size: Math.abs(a.data[element]) + Math.abs(b.data[element]),
    };
  },

  glu({ inputs: [gate, up], constants: { activation }, element }) {
    const [g, u] = [gate.data[element], up.data[element]];
    const name = ACTIVATIONS[activation];
    const of = `g of ${gate.name}, u of ${up.name}`;
    if (name === "swiglu_clamped") {
      const text = `min(g, 7) · σ(1.702 min(g, 7)) · (1 + u within ±7), ${of}`;
      return { text, facts: [["g", g], ["u", u]], value: gated(activation, g, u) };
    }
    // Of other activations than the most common one the twin's form is taken.
    const act = name === "silu" ? g / (1 + Math.exp(-g)) : activate(activation, g);
    const meaning = name === "silu" ? "silu(g) = g / (1 + exp(−g))" : `act is ${name}`;
    const called = name === "silu" ? "silu(g)" : "act(g)";
    return {
      text: `${called} · u, ${meaning}, ${of}`,
      facts: [["g", g], [called, act], ["u", u]],
      value: act * u,
    };
  },

  take_rows({ inputs: [x], output, element }) {
    return {
      text: `x of ${x.name}, as it is`,
      facts: [],
      value: x.data[x.data.length - output.data.length + element],
    };
  },
};

/** A formula that needs a row of a weight: without a value where it was left out. */
function ofWeight(
  name: string,
  row: number,
  value: number | undefined,
  { text, ...rest }: { readonly text: string } & Partial<Said>,
): Said {
  if (value !== undefined) return { text, facts: [], value, ...rest };
  return { text: `${text}; row ${row} of ${name} is not in the bundle: give --model`, facts: [] };
}

function rowAt({ data }: NamedTensor, row: number, width: number): Float32Array {
  return data.subarray(row * width, (row + 1) * width);
}

/** Sums up terms, which stand last in their rows, and lists the largest. */
function termsOf(columns: readonly string[], count: number, row: (i: number) => number[]) {
  const rows = Array.from({ length: count }, (_, i) => row(i));
  const term = (each: readonly number[]) => each.at(-1)!;
  const sum = rows.reduce((total, each) => total + term(each), 0);
  const size = rows.reduce((total, each) => total + Math.abs(term(each)), 0);
  // What is no number is seen first.
  const weight = (each: readonly number[]) =>
    Number.isNaN(term(each)) ? Infinity : Math.abs(term(each));
  const sorted = rows.toSorted((a, b) => Math.sign(weight(b) - weight(a)) || 0);
  const others = sorted.slice(LISTED).reduce((total, each) => total + term(each), 0);
  const terms: Terms = { columns, rows: sorted.slice(0, LISTED), count, others };
  return { sum, size, terms };
}

/** The angle of a pair by its formula (Su et al. 2021), with what the file changes of it. */
function angleFacts(
  { base, width, scaling, factors }: NonNullable<Settings["rope"]>,
  position: number,
  pair: number,
): [string, number][] {
  const factor = factors?.[pair];
  const divisor = scaling.type === "linear" ? scaling.factor : undefined;
  const angle = position * base ** (-2 * pair / width) / (factor ?? 1) / (divisor ?? 1);
  return [
    ["position", position],
    ["base", base],
    ...(factor === undefined ? [] : [["frequency factor", factor] as [string, number]]),
    ...(divisor === undefined ? [] : [["position divided by", divisor] as [string, number]]),
    [`angle = position · base^(−2·${pair}/${width})`, angle],
  ];
}
