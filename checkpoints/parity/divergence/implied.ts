/**
 * What the reference's number says of how it was made: the scale that it would take, the angle by which its pair turned, the row of the
 * weight that gives it. Plain arithmetic on what both sides read; whether it is the cause is for whoever looks.
 */
import { ACTIVATIONS } from "../../../kernels/elementwise/activations.ts";
import type { ElementPlace } from "../compare.ts";
import {
  elementAt,
  type NamedTensor,
  type OperationEvidence,
  type OperationRecord,
  rowOf,
  weightRowAt,
} from "./evidence.ts";
import { type Formula, formulaAt } from "./formula.ts";
import { hiddenText, slopeOf } from "./formulas/attention.ts";
import { MASKED } from "../../../kernels/attention/scoring/score.ts";
import type { Pass } from "../../../kernels/kernel.ts";

/** A place of an operation, and what the reference has there. */
interface There extends OperationRecord {
  readonly pass: Pass;
  readonly place: ElementPlace;
  /** Row of the pass. */
  readonly token: number;
  readonly element: number;
  readonly reference: NamedTensor;
  /** Its number at the place. */
  readonly value: number;
  /** What is computed there here. */
  readonly fact: (name: string) => number;
}

/**
 * Lines on what the reference's number says of the operation that made it, and of those before it that it does not show; none where it
 * says nothing.
 */
export function impliedBy(
  { operations, reference, pass }: OperationEvidence,
  place: ElementPlace,
): string[] {
  const lines: string[] = [];
  let there: NamedTensor | undefined = reference;
  while (there) {
    const { name } = there;
    const operation = operations.find(({ point }) => point === name);
    if (!operation) break;
    const own = operation.operation === "rms" ? { ...place, index: 0 } : place;
    const formula = formulaAt(operation, operation, pass, own);
    if (!formula) break;
    const isLast = operation === operations.at(-1);
    const found = linesOf(operation, there, pass, own, formula);
    lines.push(...found.map((line) => isLast ? line : `${operation.point}: ${line}`));
    there = demanded(operation, there);
  }
  // What gives the very number says more than what would have to be.
  const given = lines.filter((line) => line.includes(" gives it"));
  return given.length > 0 ? given : lines;
}

/** What an input that the reference does not show would have to be; undefined where it shows all, or nothing can be undone. */
function demanded(operation: OperationRecord, { data }: NamedTensor): NamedTensor | undefined {
  const { inputs, weights: [weight], constants: { columns } } = operation;
  const hidden = inputs.at(operation.operation === "normalize" ? 1 : 0);
  if (hidden?.source !== "computed") return undefined;
  switch (operation.operation) {
    case "scale_columns":
      return { ...hidden, data: data.map((value, i) => value / weight.data[i % columns]) };
    case "add_bias":
      return { ...hidden, data: data.map((value, i) => value - weight.data[i % columns]) };
    case "scale":
      return { ...hidden, data: data.map((value) => value / operation.constants.factor) };
    case "normalize":
      // By which each row was divided: least squares of x = rms · y.
      return {
        ...hidden,
        data: hidden.data.map((_, row) => {
          let [above, below] = [0, 0];
          for (let i = row * columns; i < (row + 1) * columns; i++) {
            above += inputs[0].data[i] * data[i];
            below += data[i] * data[i];
          }
          return above / below;
        }),
      };
    default:
      return undefined;
  }
}

function linesOf(
  operation: OperationRecord,
  reference: NamedTensor,
  pass: Pass,
  place: ElementPlace,
  formula: Formula,
): string[] {
  const element = elementAt(reference, pass.start, place)!;
  const value = reference.data[element];
  if (!Number.isFinite(value)) return [];
  const facts = new Map(formula.facts);
  const lines = IMPLIED[operation.operation]?.({
    ...operation,
    ...{ pass, place, element, reference, value, token: place.position - pass.start },
    fact: (name) => facts.get(name) ?? NaN,
  });
  return lines?.filter((line) => !/NaN|Infinity/.test(line)) ?? [];
}

const IMPLIED: Readonly<Record<string, (there: There) => string[]>> = {
  rms: ({ value, fact }) => [`ε would be ${short(value * value - fact("mean(x²)"))}`],
  normalize: ({ value, fact }) => [`rms would be ${short(fact("x") / value)}`],
  scale_columns: ({ value, fact }) => [`w would be ${short(value / fact("x"))}`],
  add_bias: ({ value, fact }) => [`b would be ${short(value - fact("x"))}`],
  add: ({ value, fact }) => [
    `b would be ${short(value - fact("a"))}, or a ${short(value - fact("b"))}`,
  ],
  glu: ({ value, fact, constants: { activation } }) => [
    // Where both numbers are limited, none of them alone says why.
    ...(ACTIVATIONS[activation] === "swiglu_clamped" ? [] : [
      `${activation === 0 ? "silu" : "act"}(g) would be ${short(value / fact("u"))}`,
    ]),
  ],

  scale: ({ value, fact }) => [`the factor would be ${short(value / fact("x"))}`],
  scale_by_position: ({ value, fact }) => [`the factor would be ${short(value / fact("x"))}`],
  center: ({ value, fact }) => [`the mean would be ${short(fact("x") - value)}`],
  weigh: ({ value, fact }) => [`the weight would be ${short(value / fact("x"))}`],
  add_expert_bias: ({ value, fact }) => [`b would be ${short(value - fact("x"))}`],

  cap: ({ value, fact }) => [
    Math.abs(value - fact("x")) <= 1e-6 * Math.abs(value)
      ? "x itself, without the cap, gives it"
      : `the number before the cap would be ${
        short(fact("cap") * Math.atanh(value / fact("cap")))
      }`,
  ],

  route({ inputs: [logits], constants: { experts }, token, value, pass }) {
    const own = logits.data[token * experts + value];
    return [`expert ${value}, at position ${pass.start + token}, has the logit ${short(own)}`];
  },

  route_weights: ({ value, fact }) => [
    `the scale would be ${short(value / fact("gate") * (fact("Σ gate") || 1))}`,
    ...(Math.abs(value - fact("gate") * fact("scale")) <= 1e-5 * Math.abs(value)
      ? ["the gate that is not divided by the sum gives it"]
      : []),
  ],

  combine({ inputs: [x, weights], constants: { columns, used }, token, place, value }) {
    const rows = Array.from({ length: used }, (_, k) => token * used + k);
    const plain = rows.reduce((sum, row) => sum + x.data[row * columns + place.index], 0);
    const total = rows.reduce((sum, row) => sum + weights.data[row], 0);
    const right = rows.reduce(
      (sum, row) => sum + weights.data[row] * x.data[row * columns + place.index],
      0,
    );
    const near = (other: number) => Math.abs(value - other) <= 1e-5 * Math.abs(other);
    return [
      ...(near(plain) ? ["the sum without weights gives it"] : []),
      ...(near(right / total) ? ["weights divided by their sum give it"] : []),
    ];
  },

  linear({ inputs: [x], weights: [weight], output, reference, constants, pass, place }) {
    const { rows, columns } = constants;
    const own = weightRowAt(output, place);
    const kept = weight.kept ?? Array.from({ length: rows }, (_, row) => row);
    const gives = (row: number) => {
      const w = rowOf(weight, row)!;
      for (let token = pass.tokens - 1; token >= 0; token--) {
        let [sum, size] = [0, 0];
        for (let i = 0; i < columns; i++) {
          const term = x.data[token * columns + i] * w[i];
          sum += term;
          size += Math.abs(term);
        }
        if (!(Math.abs(sum - reference.data[token * rows + own]) <= 1e-5 * size)) return false;
      }
      return true;
    };
    const found = kept.find((row) => row !== own && gives(row));
    const where = pass.tokens > 1 ? `all ${pass.tokens} positions` : "this position";
    return found === undefined ? [] : [`row ${found} of ${weight.name} gives it, at ${where}`];
  },

  rope({ inputs: [x], constants, element, place: { index }, reference }) {
    const { rope_width: width, half_style: half } = constants;
    if (index >= width) return [];
    const pairs = width / 2;
    const first = element - index + (half ? index % pairs : index - index % 2);
    const second = half ? first + pairs : first + 1;
    const [a, b] = [x.data[first], x.data[second]];
    const [c, d] = [reference.data[first], reference.data[second]];
    const angle = Math.atan2(a * d - b * c, a * c + b * d);
    const length = Math.hypot(c, d) / Math.hypot(a, b);
    return Math.abs(length - 1) < 1e-3
      ? [`its pair turned by ${short(angle)}, or that and whole turns of 2π`]
      : [`its pair is ${short(length)} times as long: it is not these two that turned`];
  },

  store({ inputs: [x], element, pass, constants: { columns }, place: { position }, value }) {
    const at = element % columns;
    const from = Array.from({ length: pass.tokens }, (_, token) => token)
      .filter((token) => x.data[token * columns + at] === value && value !== 0)
      .map((token) => pass.start + token).filter((each) => each !== position);
    return from.length > 0 ? [`it is what position ${from[0]} wrote`] : [];
  },

  scores({ inputs: [q, keys], constants, place, token, value, fact }) {
    const { heads, kv_heads, head_width: width, scale, cap = 0 } = constants;
    const { head = 0, index: key, position } = place;
    const hidden = hiddenText(constants, position, key);
    if (hidden) return value <= MASKED ? [] : [`it has a score, and ${hidden}`];
    if (value <= MASKED) return ["the key is masked"];
    const bias = slopeOf(constants, head) * (position - key);
    const isOf = (sum: number, size: number) => {
      const scaled = scale * sum;
      const capped = cap > 0 ? cap * Math.tanh(scaled / cap) : scaled;
      return Math.abs(value - (capped - bias)) <= 1e-5 * (scale * size + bias);
    };
    const unbiased = value + bias;
    const before = cap > 0 ? cap * Math.atanh(unbiased / cap) : unbiased;
    const uncapped = scale * fact("Σ q·k");
    const isNear = (other: number) =>
      Math.abs(value - other) <= 1e-5 * (Math.abs(uncapped) + bias) && Math.abs(other) > 0;
    const lines = [
      ...(cap > 0 && isNear(uncapped - bias) ? ["the score without the cap gives it"] : []),
      ...(bias > 0 && isNear(fact("capped") || uncapped)
        ? ["the score without bias gives it"]
        : []),
      `the scale would be ${short(before / fact("Σ q·k"))}`,
    ];
    for (let other = 0; other < kv_heads; other++) {
      if (other === Math.floor(head * kv_heads / heads)) continue;
      const [qAt, kAt] = [(token * heads + head) * width, (key * kv_heads + other) * width];
      let [sum, size] = [0, 0];
      for (let i = 0; i < width; i++) {
        const term = q.data[qAt + i] * keys.data[kAt + i];
        sum += term;
        size += Math.abs(term);
      }
      if (isOf(sum, size)) lines.push(`key/value head ${other} gives it`);
    }
    return lines;
  },

  softmax({ constants: { causal }, reference, place, element }) {
    if (!causal) return [];
    const first = element - place.index;
    let sum = 0;
    for (let key = 0; key <= place.position; key++) sum += reference.data[first + key];
    return [
      `its ${place.position + 1} probabilities of keys that may be seen sum to ${short(sum)}`,
    ];
  },

  mix({ inputs: [probs, values], constants, pass, token, place, value }) {
    const { heads, kv_heads, head_width: width } = constants;
    const { head: own = 0, index, position } = place;
    const lines: string[] = [];
    const keys = pass.start + pass.tokens;
    for (let head = 0; head < heads; head++) {
      for (let kvHead = 0; kvHead < kv_heads; kvHead++) {
        const usual = Math.floor(head * kv_heads / heads) === kvHead;
        if (head === own ? usual : !usual) continue;
        let [sum, size] = [0, 0];
        for (let key = 0; key <= position; key++) {
          const term = probs.data[(head * pass.tokens + token) * keys + key] *
            values.data[(key * kv_heads + kvHead) * width + index];
          sum += term;
          size += Math.abs(term);
        }
        if (Math.abs(value - sum) <= 1e-6 * size) {
          lines.push(`head ${head} with key/value head ${kvHead} gives it`);
        }
      }
    }
    return lines.slice(0, 1);
  },
};

function short(value: number): string {
  return `${Number(value.toPrecision(6))}`;
}
