/** Formulas of attention: turns, the cache, scores, probabilities, the mix of values. */
import { MASKED } from "../../../../kernels/attention/scoring/score.ts";
import type { Constants } from "../../../../kernels/kernel.ts";
import type { Yarn } from "../../../../engine/model/config.ts";
import { type RopeFacts, rowOf } from "../evidence.ts";
import { type Formulas, ofWeight, rowAt, termsOf } from "./said.ts";

/** By operation. */
export const ATTENTION_FORMULAS: Formulas = {
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
    const { heads, kv_heads, head_width: width, scale, cap = 0, max_bias = 0 } = constants;
    const hidden = hiddenText(constants, position, key);
    if (hidden) return { text: hidden, facts: [], value: MASKED };
    const kvHead = Math.floor(head * kv_heads / heads);
    const [qAt, kAt] = [(token * heads + head) * width, (key * kv_heads + kvHead) * width];
    const products = termsOf(["i", "q", "k", "q·k"], width, (i) => {
      const [a, b] = [q.data[qAt + i], keys.data[kAt + i]];
      return [i, a, b, a * b];
    });
    const scaled = products.sum * scale;
    const capped = cap > 0 ? cap * Math.tanh(scaled / cap) : scaled;
    const slope = slopeOf(constants, head);
    const bias = slope * (position - key);
    const formula = cap > 0 ? "cap · tanh(scale · Σ q[i] · k[i] / cap)" : "scale · Σ q[i] · k[i]";
    return {
      text: `${formula}${max_bias > 0 ? " − slope · distance" : ""}, ` +
        `q of ${q.name} head ${head}, k of ${keys.name} slot ${key} head ${kvHead}, ${width} terms`,
      facts: [
        ["Σ q·k", products.sum],
        ["scale", scale],
        ...(cap > 0 ? [["cap", cap], ["capped", capped]] as [string, number][] : []),
        ...(max_bias > 0
          ? [["slope", slope], ["distance", position - key]] as [string, number][]
          : []),
      ],
      terms: products.terms,
      value: capped - bias,
      size: products.size * Math.abs(scale) + Math.abs(bias),
    };
  },

  softmax({ inputs: [x], weights: [sinks], pass, token, head, constants, place }) {
    const { index, position } = place;
    const { columns, causal } = constants;
    const width = causal ? pass.start + pass.tokens : columns;
    const row = rowAt(x, causal ? head * pass.tokens + token : token, width);
    if (causal && index > position) {
      return { text: `key ${index} is hidden from query ${position}`, facts: [], value: 0 };
    }
    const end = causal ? position + 1 : columns;
    const seen = Array.from({ length: end }, (_, i) => i).filter((i) => !(row[i] <= MASKED));
    const sink = sinks && rowOf(sinks, 0)?.[head];
    const largest = seen.reduce((max, i) => Math.max(max, row[i]), sink ?? MASKED);
    const powers = termsOf(
      [causal ? "key" : "id", "x", "exp(x − max)"],
      seen.length,
      (i) => [seen[i], row[seen[i]], Math.exp(row[seen[i]] - largest)],
    );
    const own = sink === undefined ? 0 : Math.exp(sink - largest);
    const sum = powers.sum + own;
    const isHidden = row[index] <= MASKED;
    const said = {
      text: `exp(x − max) / ${sinks ? "(Σ exp(x − max) + exp(sink − max))" : "Σ exp(x − max)"} ` +
        `over ${seen.length} numbers of ${x.name}` +
        (sinks ? `, and the sink of head ${head} in ${sinks.name}` : "") +
        (isHidden ? `, of which ${index} is none: it is masked` : ""),
      facts: [
        ["x", row[index]],
        ["max", largest],
        ["Σ exp(x − max)", powers.sum],
        ...(sink === undefined
          ? []
          : [["sink", sink], ["exp(sink − max)", own]] as [string, number][]),
      ] as [string, number][],
      terms: powers.terms,
    };
    const value = isHidden || sum === 0 ? 0 : Math.exp(row[index] - largest) / sum;
    return sinks
      ? ofWeight(sinks.name, 0, sink === undefined ? undefined : value, said)
      : { ...said, value };
  },

  mix({ inputs: [probs, values], constants, pass, token, head, place: { index, position } }) {
    const { heads, kv_heads, head_width, value_width = 0 } = constants;
    const width = value_width || head_width;
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
};

/** Why a query does not see a key; undefined where it does. */
export function hiddenText(
  { window = 0, chunk = 0 }: Constants,
  query: number,
  key: number,
): string | undefined {
  if (key > query) return `key ${key} is hidden from query ${query}`;
  if (window > 0 && query - key >= window) {
    return `key ${key} is hidden from query ${query}: it lies before the window of ${window}, ` +
      `whose first key is ${query - window + 1}`;
  }
  if (chunk > 0 && Math.floor(query / chunk) !== Math.floor(key / chunk)) {
    return `key ${key} is hidden from query ${query}: it lies in an earlier chunk of ${chunk}`;
  }
  return undefined;
}

/** ALiBi's slope of a head (Press et al. 2022, section 3): a geometric sequence, and behind a power of two every other one of twice as many. */
export function slopeOf({ heads, max_bias = 0 }: Constants, head: number): number {
  if (max_bias === 0) return 0;
  let power = 1;
  while (2 * power <= heads) power *= 2;
  return head < power
    ? Math.pow(2, -max_bias / power) ** (head + 1)
    : Math.pow(2, -max_bias / (2 * power)) ** (2 * (head - power) + 1);
}

/** The angle of a pair by its formula (Su et al. 2021), with what the file changes of it. */
function angleFacts(facts: RopeFacts, position: number, pair: number): [string, number][] {
  const { base, width, scaling, factors, magnitude = 1 } = facts;
  const factor = factors?.[pair];
  const own = position * base ** (-2 * pair / width) / (factor ?? 1);
  const divisor = scaling.type === "linear" || scaling.type === "yarn" ? scaling.factor : 1;
  const fast = scaling.type === "yarn" ? fastShare(facts, scaling, pair) : 0;
  const angle = own * fast + own / divisor * (1 - fast);
  const said: [string, number, boolean][] = [
    ["position", position, true],
    ["base", base, true],
    ["frequency factor", factor ?? 1, factor !== undefined],
    ["position divided by", divisor, divisor !== 1],
    ["share that is not divided (YaRN)", fast, scaling.type === "yarn"],
    [`angle = position · base^(−2·${pair}/${width})`, angle, true],
    ["cos and sin times", magnitude, magnitude !== 1],
  ];
  return said.filter(([, , isTold]) => isTold).map(([name, value]) => [name, value]);
}

/** How far YaRN leaves a pair as it is (Peng et al. 2023, section 3.2). */
export function fastShare(
  { base, width }: Pick<RopeFacts, "base" | "width">,
  { originalLength, betaFast, betaSlow, share }: Yarn,
  pair: number,
): number {
  const turning = (turns: number) =>
    width * Math.log(originalLength / (2 * Math.PI * turns)) / (2 * Math.log(base));
  const low = Math.max(0, Math.floor(turning(betaFast)));
  const high = Math.min(width - 1, Math.ceil(turning(betaSlow)));
  const ramp = (pair - low) / Math.max(0.001, high - low);
  return share * (1 - Math.min(1, Math.max(0, ramp)));
}
