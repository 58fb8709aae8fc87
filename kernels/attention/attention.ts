/** Grouped-query attention (Ainslie et al. 2023): in its three named steps, and fused. Masks are causal. */
import {
  bindings,
  type Constants,
  type Kernel,
  kernel,
  type Knobs,
  type TwinArguments,
} from "../kernel.ts";
import { ofBranches, ofWholePasses } from "../branches/branches.ts";
import { LEAST_SCORE, MASKED, scoreOf } from "./scoring/score.ts";
import { distanceTo, partsOf, seenSlots, upTo, visibleParts } from "./scoring/seen.ts";
import maskWgsl from "../mask.wgsl" with { type: "text" };
import tanhWgsl from "../tanh.wgsl" with { type: "text" };
import seenWgsl from "./scoring/seen.wgsl" with { type: "text" };
import scoreWgsl from "./scoring/score.wgsl" with { type: "text" };
import sinksWgsl from "./scoring/sinks.wgsl" with { type: "text" };
import noSinksWgsl from "./scoring/no_sinks.wgsl" with { type: "text" };
import scoresWgsl from "./scores.wgsl" with { type: "text" };
import softmaxWgsl from "./softmax.wgsl" with { type: "text" };
import mixWgsl from "./mix.wgsl" with { type: "text" };
import attentionWgsl from "./attention.wgsl" with { type: "text" };
import attentionMergeWgsl from "./attention_merge.wgsl" with { type: "text" };
import attentionPartsWgsl from "./attention_parts.wgsl" with { type: "text" };
import attentionLanesWgsl from "./attention_lanes.wgsl" with { type: "text" };

/** Whether the fused kernel takes heads of these widths, whose numbers it reads by fours. */
export function canFuseAttention(headWidth: number, valueWidth = headWidth): boolean {
  return headWidth % 4 === 0 && valueWidth % 4 === 0;
}

/** The score of a query and the key in a slot; `count` inputs come before `branch_gaps`. */
function score(
  args: TwinArguments,
  count: number,
  token: number,
  head: number,
  slot: number,
): number {
  const { constants, inputs: [q, keys] } = args;
  const { heads, kv_heads, head_width: width } = constants;
  const qBase = (token * heads + head) * width;
  const kBase = (slot * kv_heads + Math.floor(head * kv_heads / heads)) * width;
  let sum = 0;
  for (let i = 0; i < width; i++) sum += q[qBase + i] * keys[kBase + i];
  return scoreOf(constants, sum, head, distanceTo(slot, args, count, token));
}

/** Numbers of a value, and of each head's mix: those of a key, unless they are stated. */
function valueWidthOf({ head_width, value_width = 0 }: Constants): number {
  return value_width || head_width;
}

/** The sinks of all heads; undefined where there are none. */
function sinksOf({ weights: [reader] }: TwinArguments): Float32Array | undefined {
  if (!reader) return undefined;
  const sinks = new Float32Array(reader.columns);
  reader.read(0, sinks);
  return sinks;
}

/** What weights are divided by: their sum, or 1 where no key is seen. */
function divisor(sum: number): number {
  return sum === 0 ? 1 : sum;
}

/** Softmax of `x` in place, over all its numbers and a sink, if there is one; 0 for masks. */
function softmaxInPlace(x: Float64Array, sink = -Infinity): void {
  let largest = Math.max(LEAST_SCORE, sink);
  for (const value of x) largest = Math.max(largest, value);
  let sum = Math.exp(sink - largest);
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i] - largest);
  for (let i = 0; i < x.length; i++) x[i] /= divisor(sum);
}

/** A kernel whose WGSL asks `sink_of(head)` for a score that begins the softmax: without sinks. */
function ofNoSinks(any: Kernel): Kernel {
  return {
    ...any,
    prologue: (knobs, packing) => noSinksWgsl + (any.prologue?.(knobs, packing) ?? ""),
  };
}

/** The same kernel with sinks: its last weight [heads] is a score for each head that has no value, over which softmax goes too. */
function ofSinks(any: Kernel): Kernel {
  const binding = 2 + any.bindings.length;
  return kernel({
    ...any,
    sinks: true,
    bindings: [...any.bindings, ...bindings("weight sinks")],
    prologue: (knobs, packing) =>
      `const SINK_BINDING = ${binding}u;\n` + sinksWgsl +
      (any.prologue?.(knobs, packing) ?? ""),
  });
}

const SCORE_CONSTANTS = {
  heads: "u32",
  kv_heads: "u32",
  head_width: "u32",
  scale: "f32",
  window: "u32",
  chunk: "u32",
  cap: "f32",
  max_bias: "f32",
} as const;

/**
 * q_rope [T, heads, d], cache_k [slots, kv_heads, d] → scores [heads, T, S], scaled; those of keys that are not seen ({@linkcode
 * seenSlots}) are {@linkcode MASKED}. Of `cap` and `max_bias` see {@linkcode scoreOf}; 0: none.
 */
const scores = kernel({
  operation: "scores",
  wgsl: maskWgsl + tanhWgsl + seenWgsl + scoreWgsl + scoresWgsl,
  constants: SCORE_CONSTANTS,
  bindings: bindings("input q", "input keys", "output scores"),
  grid: (
    pass,
    { heads },
    lanes,
  ) => [Math.ceil((pass.start + pass.tokens) / lanes), pass.tokens, heads],
  twin(args) {
    const { pass, constants: { heads }, outputs: [out] } = args;
    const cached = pass.start + pass.tokens;
    out!.fill(MASKED);
    for (let token = 0; token < pass.tokens; token++) {
      for (const slot of seenSlots(args, 2, token)) {
        for (let head = 0; head < heads; head++) {
          out![(head * pass.tokens + token) * cached + slot] = score(args, 2, token, head, slot);
        }
      }
    }
  },
});

/**
 * Softmax of each row. With `causal` 1: x [heads, T, S] where a query sees the keys up to its own position, the others
 * get 0, and `columns` is heads. With 0: rows of `columns` numbers, R of them. Of masks and NaN see {@linkcode MASKED}.
 */
const softmax = kernel({
  operation: "softmax",
  wgsl: maskWgsl + softmaxWgsl,
  constants: { columns: "u32", causal: "u32" },
  bindings: bindings("input x", "output y"),
  grid: (pass, { columns, causal }) => causal ? [pass.tokens, columns, 1] : [pass.rows, 1, 1],
  twin(args) {
    const { pass, constants: { columns, causal }, inputs: [x], outputs: [y] } = args;
    const width = causal ? pass.start + pass.tokens : columns;
    const sinks = sinksOf(args);
    for (let row = 0; row * width < y!.length; row++) {
      const seen = causal ? seenSlots(args, 1, row % pass.tokens) : upTo(0, columns);
      const probs = Float64Array.from(seen, (slot) => x[row * width + slot]);
      softmaxInPlace(probs, sinks?.[Math.floor(row / pass.tokens)]);
      y!.fill(0, row * width, (row + 1) * width);
      seen.forEach((slot, i) => y![row * width + slot] = probs[i]);
    }
  },
});

/** probs [heads, T, S], cache_v [slots, kv_heads, d] → head_out [T, heads, d], where d is `value_width` or, of 0, `head_width`. */
const mix = kernel({
  operation: "mix",
  wgsl: mixWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32", value_width: "u32" },
  bindings: bindings("input probs", "input values", "output head_out"),
  grid: (pass, constants, lanes) => [
    Math.ceil(valueWidthOf(constants) / lanes),
    pass.tokens,
    constants.heads,
  ],
  twin(args) {
    const { pass, constants, inputs: [probs, values], outputs: [out] } = args;
    const { heads, kv_heads } = constants;
    const width = valueWidthOf(constants);
    const cached = pass.start + pass.tokens;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head * kv_heads / heads);
      for (let token = 0; token < pass.tokens; token++) {
        const row = (head * pass.tokens + token) * cached;
        const seen = seenSlots(args, 2, token);
        for (let i = 0; i < width; i++) {
          let sum = 0;
          for (const key of seen) {
            sum += probs[row + key] * values[(key * kv_heads + kvHead) * width + i];
          }
          out![(token * heads + head) * width + i] = sum;
        }
      }
    }
  },
});

/** Σ exp(score − largest) · value over the keys in some slots, with the largest score and Σ exp(score − largest), a sink's included. */
function mixKeys(
  args: TwinArguments,
  token: number,
  head: number,
  slots: readonly number[],
  sink = -Infinity,
): { mix: Float64Array; largest: number; sum: number } {
  const { constants, inputs: [, , values] } = args;
  const { heads, kv_heads } = constants;
  const width = valueWidthOf(constants);
  const kvHead = Math.floor(head * kv_heads / heads);
  const scored = Float64Array.from(slots, (slot) => score(args, 3, token, head, slot));
  const largest = scored.reduce((a, b) => Math.max(a, b), Math.max(LEAST_SCORE, sink));
  const mix = new Float64Array(width);
  let sum = Math.exp(sink - largest);
  for (let i = 0; i < scored.length; i++) {
    const weight = Math.exp(scored[i] - largest);
    sum += weight;
    const at = (slots[i] * kv_heads + kvHead) * width;
    for (let j = 0; j < width; j++) mix[j] += weight * values[at + j];
  }
  return { mix, largest, sum };
}

const ATTENTION_CONSTANTS = { ...SCORE_CONSTANTS, value_width: "u32" } as const;

/** The grid of what is not dispatched. */
const NOTHING: [number, number, number] = [0, 0, 0];

function attentionPrologue({ broadcast }: Knobs): string {
  return maskWgsl + tanhWgsl + seenWgsl + scoreWgsl + attentionPartsWgsl +
    (broadcast ? attentionLanesWgsl : attentionWgsl);
}

/** Workgroups for the heads of one position: where lanes hand numbers on, heads that share keys are taken by four. */
function headGroups({ heads, kv_heads }: Constants, { broadcast }: Knobs): number {
  return broadcast ? kv_heads * Math.ceil(heads / kv_heads / 4) : heads;
}

/** Fused attention of passes of one sequence, or of several branches, with sinks or without. */
const anyAttention = kernel({
  operation: "attention",
  wgsl: "",
  prologue: attentionPrologue,
  constants: ATTENTION_CONSTANTS,
  bindings: bindings("input q", "input keys", "input values", "output head_out"),
  lanes: (knobs) => knobs.dotLanes,
  // Where lanes hand numbers on, two positions share the keys that they load.
  overrides: ({ broadcast }): Record<string, number> => broadcast ? { PAIR: 1 } : {},
  grid: (pass, constants, _lanes, knobs) => [
    headGroups(constants, knobs),
    knobs.broadcast ? Math.ceil(pass.tokens / 2) : pass.tokens,
    1,
  ],
  twin(args) {
    const { pass, constants, outputs: [out] } = args;
    const { heads } = constants;
    const width = valueWidthOf(constants);
    const sinks = sinksOf(args);
    for (let token = 0; token < pass.tokens; token++) {
      const slots = seenSlots(args, 3, token);
      for (let head = 0; head < heads; head++) {
        const { mix, sum } = mixKeys(args, token, head, slots, sinks?.[head]);
        out!.set(mix.map((value) => value / divisor(sum)), (token * heads + head) * width);
      }
    }
  },
});

/** Two positions that share what they load may belong to two branches. */
const branchedAttention = kernel({
  ...anyAttention,
  overrides: () => ({}),
  grid: (pass, constants, _lanes, knobs) => [headGroups(constants, knobs), pass.tokens, 1],
});

/** The same for few positions as long as their keys are one part: otherwise it does nothing, and the next two do it. */
const attentionFew = kernel({
  ...branchedAttention,
  positions: "few",
  grid: (pass, constants, _lanes, knobs) =>
    partsOf(pass, constants).count > 1 ? NOTHING : [headGroups(constants, knobs), pass.tokens, 1],
  twin(args) {
    if (partsOf(args.pass, args.constants).count === 1) anyAttention.twin(args);
  },
});

/**
 * For few positions and many keys, which are shared out among workgroups: parts [T, heads, parts, d + 4] of the mix, each
 * followed by its largest score, its sum and two zeros. Parts that a position sees nothing of are left alone. Sinks come with the merge.
 */
const attentionSplit = kernel({
  ...anyAttention,
  operation: "attention_split",
  bindings: bindings("input q", "input keys", "input values", "output parts"),
  overrides: () => ({ SPLIT: 1 }),
  grid(pass, constants, _lanes, knobs) {
    const { count } = partsOf(pass, constants);
    return count > 1 ? [headGroups(constants, knobs), pass.tokens, count] : NOTHING;
  },
  twin(args) {
    const { pass, constants, outputs: [out] } = args;
    const { heads } = constants;
    const width = valueWidthOf(constants);
    const { count } = partsOf(pass, constants);
    if (count === 1) return;
    for (let token = 0; token < pass.tokens; token++) {
      for (const [part, first, end] of visibleParts(pass, constants, token)) {
        for (let head = 0; head < heads; head++) {
          const { mix, largest, sum } = mixKeys(args, token, head, upTo(first, end));
          const at = ((token * heads + head) * count + part) * (width + 4);
          out!.set([...mix, largest, sum, 0, 0], at);
        }
      }
    }
  },
});

/** parts, as `attention_split` makes them → head_out [T, heads, d]. */
const attentionMerge = kernel({
  operation: "attention_merge",
  wgsl: maskWgsl + seenWgsl + attentionPartsWgsl + attentionMergeWgsl,
  constants: ATTENTION_CONSTANTS,
  bindings: bindings("input parts", "output head_out"),
  lanes: (knobs) => knobs.dotLanes,
  grid: (pass, constants) =>
    partsOf(pass, constants).count > 1 ? [constants.heads, pass.tokens, 1] : NOTHING,
  twin(args) {
    const { pass, constants, inputs: [parts], outputs: [out] } = args;
    const { heads } = constants;
    const width = valueWidthOf(constants);
    const { count } = partsOf(pass, constants);
    if (count === 1) return;
    const sinks = sinksOf(args);
    for (let token = 0; token < pass.tokens; token++) {
      const visible = visibleParts(pass, constants, token);
      for (let head = 0; head < heads; head++) {
        const rows = visible.map(([part]) => {
          const at = ((token * heads + head) * count + part) * (width + 4);
          return parts.subarray(at, at + width + 4);
        });
        const sink = sinks?.[head] ?? -Infinity;
        const largest = rows.reduce(
          (most, row) => Math.max(most, row[width]),
          Math.max(LEAST_SCORE, sink),
        );
        const weights = rows.map((row) => Math.exp(row[width] - largest));
        const sum = rows.reduce(
          (total, row, i) => total + weights[i] * row[width + 1],
          Math.exp(sink - largest),
        );
        for (let i = 0; i < width; i++) {
          const mixed = rows.reduce((total, row, part) => total + weights[part] * row[i], 0);
          out![(token * heads + head) * width + i] = mixed / divisor(sum);
        }
      }
    }
  },
});

/**
 * `attention`: q_rope, cache_k, cache_v → head_out [T, heads, d], without holding the scores. See {@linkcode canFuseAttention}, and of
 * masks and NaN {@linkcode MASKED}.
 */
export const attentionKernels = [
  ...[scores, mix].flatMap((each) => [ofWholePasses(each), ofBranches(each)]),
  ...[ofNoSinks, ofSinks].flatMap((withOrWithout) => [
    ...[softmax, anyAttention, attentionFew].map((each) => ofWholePasses(withOrWithout(each))),
    withOrWithout(attentionMerge),
    ...[softmax, branchedAttention].map((each) => ofBranches(withOrWithout(each))),
  ]),
  ofWholePasses(ofNoSinks(attentionSplit)),
];
