/** Grouped-query attention (Ainslie et al. 2023): in its three named steps, and fused. Masks are causal. */
import {
  bindings,
  type Constants,
  kernel,
  type Knobs,
  type Pass,
  type TwinArguments,
} from "../kernel.ts";
import { ofBranches, ofWholePasses, rowGap } from "../branches/branches.ts";
import maskWgsl from "../mask.wgsl" with { type: "text" };
import scoresWgsl from "./scores.wgsl" with { type: "text" };
import softmaxWgsl from "./softmax.wgsl" with { type: "text" };
import mixWgsl from "./mix.wgsl" with { type: "text" };
import attentionWgsl from "./attention.wgsl" with { type: "text" };
import attentionMergeWgsl from "./attention_merge.wgsl" with { type: "text" };
import attentionPartsWgsl from "./attention_parts.wgsl" with { type: "text" };
import attentionLanesWgsl from "./attention_lanes.wgsl" with { type: "text" };

/** Whether the fused kernel takes heads of that width: what its workgroup memory holds, in numbers read by fours. */
export function canFuseAttention(headWidth: number): boolean {
  return headWidth <= 256 && headWidth % 4 === 0;
}

/**
 * What scores hold at keys that are not seen: finite, since WGSL may assume that infinities do not occur. A score of that or less is a
 * mask wherever it comes from (edits may put −∞, or a number near the least float as other engines do). Its key weighs 0, and where no
 * key is seen all weights are 0. NaN stays NaN: a row with NaN or +∞ weighs NaN.
 */
export const MASKED = -1e30;

/** The least 32-bit score that is no mask. Largest scores begin with it: beside it e^{@linkcode MASKED} is 0. */
const LEAST_SCORE = -9.999999394896025e29;

/** scale · q·k of one query and key. */
function score(
  q: Float32Array,
  k: Float32Array,
  qBase: number,
  kBase: number,
  width: number,
  scale: number,
): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += q[qBase + i] * k[kBase + i];
  return sum * scale;
}

/** What weights are divided by: their sum, or 1 where no key is seen. */
function divisor(sum: number): number {
  return sum === 0 ? 1 : sum;
}

/** Softmax of `x` in place, over all its numbers; 0 for masks. */
function softmaxInPlace(x: Float64Array): void {
  let largest = LEAST_SCORE;
  for (const value of x) largest = Math.max(largest, value);
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i] - largest);
  for (let i = 0; i < x.length; i++) x[i] /= divisor(sum);
}

/** q_rope [T, heads, d], cache_k [slots, kv_heads, d] → scores [heads, T, S], scaled; masked ones are −1e30. */
const scores = kernel({
  operation: "scores",
  wgsl: maskWgsl + scoresWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32", scale: "f32" },
  bindings: bindings("input q", "input keys", "output scores"),
  grid: (
    pass,
    { heads },
    lanes,
  ) => [Math.ceil((pass.start + pass.tokens) / lanes), pass.tokens, heads],
  twin(args) {
    const { pass, constants, inputs: [q, keys], outputs: [out] } = args;
    const { heads, kv_heads, head_width: width, scale } = constants;
    const cached = pass.start + pass.tokens;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head * kv_heads / heads);
      for (let token = 0; token < pass.tokens; token++) {
        const [gap, end] = rowGap(args, 2, token);
        for (let key = 0; key < cached; key++) {
          const masked = key > pass.start + token || (key >= gap && key < end);
          out![(head * pass.tokens + token) * cached + key] = masked ? MASKED : score(
            q,
            keys,
            (token * heads + head) * width,
            (key * kv_heads + kvHead) * width,
            width,
            scale,
          );
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
    for (let row = 0; row * width < y!.length; row++) {
      const seen = causal ? seenSlots(args, 1, row % pass.tokens) : upTo(0, columns);
      const probs = Float64Array.from(seen, (slot) => x[row * width + slot]);
      softmaxInPlace(probs);
      y!.fill(0, row * width, (row + 1) * width);
      seen.forEach((slot, i) => y![row * width + slot] = probs[i]);
    }
  },
});

/** probs [heads, T, S], cache_v [slots, kv_heads, d] → head_out [T, heads, d]. */
const mix = kernel({
  operation: "mix",
  wgsl: mixWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32" },
  bindings: bindings("input probs", "input values", "output head_out"),
  grid: (pass, { heads, head_width }, lanes) => [Math.ceil(head_width / lanes), pass.tokens, heads],
  twin(args) {
    const { pass, constants, inputs: [probs, values], outputs: [out] } = args;
    const { heads, kv_heads, head_width: width } = constants;
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

/** Keys of a part at least, and most parts: as in attention_parts.wgsl. */
const PART_KEYS = 128;
export const MOST_PARTS = 16;

/** Into how many parts the keys of a pass are shared out, and the keys of one. */
export function partsOf({ start, tokens }: Pass): { count: number; keys: number } {
  const keys = Math.ceil((start + tokens) / (PART_KEYS * MOST_PARTS)) * PART_KEYS;
  return { count: Math.ceil((start + tokens) / keys), keys };
}

/** First key and end of each part that a position sees anything of. */
export function visibleParts(pass: Pass, token: number): [first: number, end: number][] {
  const visible = pass.start + token + 1;
  const { keys } = partsOf(pass);
  return Array.from(
    { length: Math.ceil(visible / keys) },
    (_, part) => [part * keys, Math.min((part + 1) * keys, visible)],
  );
}

/** first, first + 1, …, up to `end`, exclusive. */
export function upTo(first: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
}

/** The slots that a row sees; `count` inputs come before `branch_gaps`. */
export function seenSlots(args: TwinArguments, count: number, token: number): number[] {
  const [gap, end] = rowGap(args, count, token);
  return [...upTo(0, gap), ...upTo(end, args.pass.start + token + 1)];
}

/** Σ exp(score − largest) · value over the keys in some slots, with the largest score and Σ exp(score − largest). */
function mixKeys(
  { constants, inputs: [q, keys, values] }: TwinArguments,
  token: number,
  head: number,
  slots: readonly number[],
): { mix: Float64Array; largest: number; sum: number } {
  const { heads, kv_heads, head_width: width, scale } = constants;
  const kvHead = Math.floor(head * kv_heads / heads);
  const base = (token * heads + head) * width;
  const scored = Float64Array.from(
    slots,
    (slot) => score(q, keys, base, (slot * kv_heads + kvHead) * width, width, scale),
  );
  const largest = scored.reduce((a, b) => Math.max(a, b), LEAST_SCORE);
  const mix = new Float64Array(width);
  let sum = 0;
  for (let i = 0; i < scored.length; i++) {
    const weight = Math.exp(scored[i] - largest);
    sum += weight;
    const at = (slots[i] * kv_heads + kvHead) * width;
    for (let j = 0; j < width; j++) mix[j] += weight * values[at + j];
  }
  return { mix, largest, sum };
}

const ATTENTION_CONSTANTS = {
  heads: "u32",
  kv_heads: "u32",
  head_width: "u32",
  scale: "f32",
} as const;

/** The grid of what is not dispatched. */
const NOTHING: [number, number, number] = [0, 0, 0];

function attentionPrologue({ broadcast }: Knobs): string {
  return maskWgsl + attentionPartsWgsl + (broadcast ? attentionLanesWgsl : attentionWgsl);
}

/** Workgroups for the heads of one position: where lanes hand numbers on, heads that share keys are taken by four. */
function headGroups({ heads, kv_heads }: Constants, { broadcast }: Knobs): number {
  return broadcast ? kv_heads * Math.ceil(heads / kv_heads / 4) : heads;
}

/** Fused attention of passes of one sequence, or of several branches. */
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
    const { pass, constants: { heads, head_width: width }, outputs: [out] } = args;
    for (let token = 0; token < pass.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const { mix, sum } = mixKeys(args, token, head, seenSlots(args, 3, token));
        out!.set(mix.map((value) => value / divisor(sum)), (token * heads + head) * width);
      }
    }
  },
});

/**
 * q_rope, cache_k, cache_v → head_out [T, heads, d], without holding the scores. See {@linkcode canFuseAttention}, and of masks and
 * NaN {@linkcode MASKED}.
 */
const attention = ofWholePasses(anyAttention);

/** The same for few positions as long as their keys are one part: otherwise it does nothing, and the next two do it. */
const attentionFew = kernel({
  ...attention,
  positions: "few",
  overrides: () => ({}),
  grid: (pass, constants, _lanes, knobs) =>
    partsOf(pass).count > 1 ? NOTHING : [headGroups(constants, knobs), pass.tokens, 1],
  twin(args) {
    if (partsOf(args.pass).count === 1) attention.twin(args);
  },
});

/**
 * For few positions and many keys, which are shared out among workgroups: parts [T, heads, parts, d + 4] of the mix, each
 * followed by its largest score, its sum and two zeros. Parts that a position sees nothing of are left alone.
 */
const attentionSplit = kernel({
  ...attention,
  operation: "attention_split",
  bindings: bindings("input q", "input keys", "input values", "output parts"),
  overrides: () => ({ SPLIT: 1 }),
  grid(pass, constants, _lanes, knobs) {
    const { count } = partsOf(pass);
    return count > 1 ? [headGroups(constants, knobs), pass.tokens, count] : NOTHING;
  },
  twin(args) {
    const { pass, constants: { heads, head_width: width }, outputs: [out] } = args;
    const { count } = partsOf(pass);
    if (count === 1) return;
    for (let token = 0; token < pass.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        visibleParts(pass, token).forEach(([first, end], part) => {
          const { mix, largest, sum } = mixKeys(args, token, head, upTo(first, end));
          const at = ((token * heads + head) * count + part) * (width + 4);
          out!.set([...mix, largest, sum, 0, 0], at);
        });
      }
    }
  },
});

/** parts, as `attention_split` makes them → head_out [T, heads, d]. */
const attentionMerge = kernel({
  operation: "attention_merge",
  wgsl: maskWgsl + attentionPartsWgsl + attentionMergeWgsl,
  constants: ATTENTION_CONSTANTS,
  bindings: bindings("input parts", "output head_out"),
  lanes: (knobs) => knobs.dotLanes,
  grid: (pass, { heads }) => partsOf(pass).count > 1 ? [heads, pass.tokens, 1] : NOTHING,
  twin({ pass, constants: { heads, head_width: width }, inputs: [parts], outputs: [out] }) {
    const { count } = partsOf(pass);
    if (count === 1) return;
    for (let token = 0; token < pass.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const rows = visibleParts(pass, token).map((_, part) => {
          const at = ((token * heads + head) * count + part) * (width + 4);
          return parts.subarray(at, at + width + 4);
        });
        const largest = rows.reduce((most, row) => Math.max(most, row[width]), LEAST_SCORE);
        const weights = rows.map((row) => Math.exp(row[width] - largest));
        const sum = rows.reduce((total, row, i) => total + weights[i] * row[width + 1], 0);
        for (let i = 0; i < width; i++) {
          const mixed = rows.reduce((total, row, part) => total + weights[part] * row[i], 0);
          out![(token * heads + head) * width + i] = mixed / divisor(sum);
        }
      }
    }
  },
});

export const attentionKernels = [
  ...[scores, softmax, mix].map(ofWholePasses),
  attention,
  attentionFew,
  attentionSplit,
  attentionMerge,
  ...[scores, softmax, mix].map(ofBranches),
  // Two positions that share what they load may belong to two branches.
  ofBranches({
    ...anyAttention,
    overrides: () => ({}),
    grid: (pass, constants, _lanes, knobs) => [headGroups(constants, knobs), pass.tokens, 1],
  }),
];
