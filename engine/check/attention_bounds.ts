/** How far kernels of attention may be from their 64-bit twins: see bounds.ts. */
import { MASKED, slopeOf } from "../../kernels/attention/scoring/score.ts";
import {
  distanceTo,
  partsOf,
  seenSlots,
  upTo,
  visibleParts,
} from "../../kernels/attention/scoring/seen.ts";
import type { Constants, Operation } from "../../kernels/kernel.ts";
import {
  absolute,
  type Bound,
  type BoundArguments,
  evaluate,
  growth,
  rounded,
  sumError,
  TINY,
  ULP,
} from "./rounding.ts";

/** Numbers of a value. */
function valueWidthOf({ head_width, value_width = 0 }: Constants): number {
  return value_width || head_width;
}

/** The scores of all heads' sinks; undefined where there are none. */
function sinksOf({ weights: [reader] }: BoundArguments): Float32Array | undefined {
  if (!reader) return undefined;
  const sinks = new Float32Array(reader.columns);
  reader.read(0, sinks);
  return sinks;
}

const softmax: Bound = (args) => {
  const { pass, constants: { columns, causal }, inputs: [x], outputs: [y], lanes } = args;
  const width = causal ? pass.start + pass.tokens : columns;
  const sinks = sinksOf(args);
  const errors = new Float64Array(y.length);
  for (let first = 0; first < y.length; first += width) {
    const row = first / width;
    const all = causal ? seenSlots(args, 1, row % pass.tokens) : upTo(0, columns);
    // Masks weigh exactly 0.
    const slots = all.filter((slot) => x[first + slot] > MASKED);
    const sink = sinks?.[Math.floor(row / pass.tokens)] ?? -Infinity;
    const largest = slots.reduce((most, slot) => Math.max(most, x[first + slot]), sink);
    // The difference rounds, which is an error of as many ULP in its exp.
    const exponent = (value: number) => 3 + 3 * (largest - value);
    let sum = 3 + Math.ceil(width / lanes) + Math.log2(lanes);
    // The sink has what the others leave.
    if (sinks) {
      const weight = 1 - slots.reduce((total, slot) => total + y[first + slot], 0);
      sum += Math.max(weight, ULP) * exponent(sink);
    }
    for (const slot of slots) sum += y[first + slot] * exponent(x[first + slot]);
    for (const slot of slots) {
      const ulps = exponent(x[first + slot]) + sum + 2.5 + 0.5;
      errors[first + slot] = growth(ulps) * y[first + slot] + 2 * TINY;
    }
  }
  return [errors];
};

/** ULP of a capped score: a division, tanh, which has ten at most (tanh.wgsl), and a product. */
const CAP_ULPS = 2.5 + 10 + 1;
/** ULP of ALiBi's bias: of a power of two (score.wgsl), and of a product. */
const BIAS_ULPS = 7 + 1;

/**
 * What finishing a score adds to its error, in ULP of one. A cap shrinks the error that there is.
 *
 * @param score scaled, not capped
 * @param result what becomes of it
 */
function finishUlps(
  constants: Constants,
  score: number,
  head: number,
  distance: number,
): { result: number; ulps: number } {
  const { cap = 0, max_bias = 0 } = constants;
  const capped = cap > 0 ? cap * Math.tanh(score / cap) : score;
  const bias = slopeOf(constants, head) * distance;
  const result = capped - bias;
  return {
    result,
    ulps: (cap > 0 ? CAP_ULPS * Math.abs(capped) : 0) +
      (max_bias > 0 ? BIAS_ULPS * bias + Math.abs(result) : 0),
  };
}

const scores: Bound = (args) => {
  const { pass, constants, outputs: [out], whole } = args;
  const { heads, head_width, cap = 0, max_bias = 0 } = constants;
  const plain = { ...constants, cap: 0, max_bias: 0 };
  const [terms] = evaluate(args, { constants: plain, inputs: args.inputs.map(absolute) });
  const errors = Float64Array.from(
    terms,
    (sum, at) => out[at] === MASKED ? 0 : sumError(sum, head_width + 2, whole),
  );
  if (cap > 0 || max_bias > 0) {
    const [raw] = evaluate(args, { constants: plain });
    const cached = pass.start + pass.tokens;
    for (let token = 0; token < pass.tokens; token++) {
      for (const slot of seenSlots(args, 2, token)) {
        const distance = distanceTo(slot, args, 2, token);
        for (let head = 0; head < heads; head++) {
          const at = (head * pass.tokens + token) * cached + slot;
          errors[at] += growth(1) * finishUlps(constants, raw[at], head, distance).ulps + TINY;
        }
      }
    }
  }
  return [rounded(errors, out)];
};

const mix: Bound = (args) => {
  const [terms] = evaluate(args, { inputs: args.inputs.map(absolute) });
  const depth = args.pass.start + args.pass.tokens + 1;
  const errors = Float64Array.from(terms, (sum) => sumError(sum, depth, args.whole));
  return [rounded(errors, args.outputs[0])];
};

/** Keys of a tile of attention_lanes.wgsl; attention.wgsl has larger ones. */
const TILE = 32;

/** What errors of fused attention over a range of keys follow from. */
interface MixErrors {
  /** Of each key, and of a sink behind them: its weight beside that of the largest score, and how far that may be off, in ULP. */
  readonly weights: Float64Array;
  readonly ulps: Float64Array;
  /** Error of a score, in ULP of one: the largest over all keys. */
  readonly scoreUlps: number;
}

function mixErrors(
  args: BoundArguments,
  token: number,
  head: number,
  slots: readonly number[],
  sink?: number,
): MixErrors {
  const { constants, inputs: [q, keys] } = args;
  const { heads, kv_heads, head_width: width, scale } = constants;
  const kvHead = Math.floor(head * kv_heads / heads);
  const base = (token * heads + head) * width;
  const count = slots.length + (sink === undefined ? 0 : 1);
  const scored = new Float64Array(count).fill(sink ?? 0);
  const scoreUlps = new Float64Array(count);
  slots.forEach((key, n) => {
    let sum = 0;
    let size = 0;
    for (let i = 0, at = (key * kv_heads + kvHead) * width; i < width; i++, at++) {
      const term = q[base + i] * keys[at] * scale;
      sum += term;
      size += Math.abs(term);
    }
    const { result, ulps } = finishUlps(constants, sum, head, distanceTo(key, args, 3, token));
    scored[n] = result;
    scoreUlps[n] = (width + 2) * size + ulps;
  });
  const largest = scored.reduce((a, b) => Math.max(a, b));
  const spread = largest - scored.reduce((a, b) => Math.min(a, b));
  // One tile more where a row's keys begin within one.
  const tiles = Math.ceil(scored.length / TILE) + 1;
  return {
    weights: scored.map((value) => Math.exp(value - largest)),
    // Its score; the difference and its exp; one shrinking factor and product per tile.
    ulps: scoreUlps.map((ulps) => ulps + 3 + 3 * spread + tiles * 5 + 3 * spread),
    scoreUlps: scoreUlps.reduce((a, b) => Math.max(a, b)),
  };
}

/** How far each key's weight may be off, its ULP and `more`. */
function weightErrors({ weights, ulps }: MixErrors, more: number): Float64Array {
  return weights.map((weight, i) => growth(ulps[i] + more) * weight);
}

/** Σ |value| · error of its weight, for one feature. */
function mixedError(
  errors: Float64Array,
  slots: readonly number[],
  { constants, inputs: [, , values] }: BoundArguments,
  head: number,
  feature: number,
): number {
  const { heads, kv_heads } = constants;
  const width = valueWidthOf(constants);
  const kvHead = Math.floor(head * kv_heads / heads);
  return slots.reduce((sum, slot, i) => {
    const value = values[(slot * kv_heads + kvHead) * width + feature];
    return sum + errors[i] * Math.abs(value) + TINY;
  }, 0);
}

/**
 * Fused attention: out = Σ pₛ·vₛ with pₛ = exp(score) / Σ exp(score). A score that is off by δ makes its weight off by
 * the factor exp(δ); all weights together share the divisor, which is off by their mean.
 */
const attention: Bound = (args) => {
  const { pass, constants, outputs: [out] } = args;
  const { heads } = constants;
  const width = valueWidthOf(constants);
  const sinks = sinksOf(args);
  const errors = new Float64Array(out.length);
  for (let token = 0; token < pass.tokens; token++) {
    const slots = seenSlots(args, 3, token);
    const visible = slots.length;
    for (let head = 0; head < heads; head++) {
      const of = mixErrors(args, token, head, slots, sinks?.[head]);
      const total = of.weights.reduce((a, b) => a + b);
      const mean = of.ulps.reduce((sum, each, key) => sum + each * of.weights[key], 0) / total;
      // One tile more where a branch's own keys begin.
      const more = mean + 2 * (visible + Math.ceil(visible / TILE) + 3) + 2.5;
      const own = weightErrors(of, more);
      for (let i = 0; i < width; i++) {
        const at = (token * heads + head) * width + i;
        errors[at] = mixedError(own, slots, args, head, i) / total + ULP / 2 * Math.abs(out[at]);
      }
    }
  }
  return [errors];
};

/** The same without the division: weights are off by what the largest score is off by, too. */
const attentionSplit: Bound = (args) => {
  const { pass, constants, outputs: [out] } = args;
  const { heads } = constants;
  const width = valueWidthOf(constants);
  const errors = new Float64Array(out.length);
  const { count } = partsOf(pass, constants);
  for (let token = 0; token < pass.tokens; token++) {
    for (let head = 0; head < heads; head++) {
      for (const [part, first, end] of visibleParts(pass, constants, token)) {
        const slots = upTo(first, end);
        const of = mixErrors(args, token, head, slots);
        const at = ((token * heads + head) * count + part) * (width + 4);
        const more = of.scoreUlps + of.weights.length + Math.ceil(of.weights.length / TILE) + 2;
        const half = (i: number) => ULP / 2 * Math.abs(out[at + i]);
        const own = weightErrors(of, more);
        for (let i = 0; i < width; i++) {
          errors[at + i] = mixedError(own, slots, args, head, i) + half(i);
        }
        errors[at + width] = growth(1) * of.scoreUlps + half(width);
        errors[at + width + 1] = half(width + 1) +
          own.reduce((sum, error) => sum + error + TINY, 0);
      }
    }
  }
  return [errors];
};

/** Parts put together: each step scales what there is so far by exp of a difference of largest scores. A sink is one more. */
const attentionMerge: Bound = (args) => {
  const { pass, constants, inputs: [parts], outputs: [out] } = args;
  const { heads } = constants;
  const width = valueWidthOf(constants);
  const sinks = sinksOf(args);
  const errors = new Float64Array(out.length);
  const { count } = partsOf(pass, constants);
  for (let token = 0; token < pass.tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const rows = visibleParts(pass, constants, token).map(([part]) => {
        const at = ((token * heads + head) * count + part) * (width + 4);
        return parts.subarray(at, at + width + 4);
      });
      const most = rows.map((row) => row[width]);
      if (sinks) most.push(sinks[head]);
      const largest = Math.max(...most);
      const weights = most.map((each) => Math.exp(each - largest));
      // A sink's own sum is 1.
      const sum = weights.reduce((total, each, i) => total + each * (rows[i]?.[width + 1] ?? 1), 0);
      // Of each part, in the sum and in the mix: a factor and two roundings per step, exps of all differences.
      const ulps = 2 * (most.length * (3 + 3) + 3 * 2 * (largest - Math.min(...most)) + 2) + 2.5;
      for (let i = 0; i < width; i++) {
        const at = (token * heads + head) * width + i;
        const terms = rows.reduce((total, row, j) => total + weights[j] * Math.abs(row[i]), 0);
        errors[at] = growth(ulps) * terms / sum + ULP / 2 * Math.abs(out[at]) + TINY;
      }
    }
  }
  return [errors];
};

/** Bounds by operation. */
export const ATTENTION_BOUNDS = {
  scores,
  softmax,
  mix,
  attention,
  attention_split: attentionSplit,
  attention_merge: attentionMerge,
} satisfies Partial<Record<Operation, Bound>>;
