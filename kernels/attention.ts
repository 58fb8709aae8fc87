/** Grouped-query attention (Ainslie et al. 2023): in its three named steps, and fused. Masks are causal. */
import { bindings, type Kernel, type ReferenceArguments } from "./kernel.ts";
import scoresWgsl from "./scores.wgsl" with { type: "text" };
import softmaxWgsl from "./softmax.wgsl" with { type: "text" };
import mixWgsl from "./mix.wgsl" with { type: "text" };
import attentionWgsl from "./attention.wgsl" with { type: "text" };
import attentionLanesWgsl from "./attention_lanes.wgsl" with { type: "text" };

/** Whether the fused kernel takes heads of that width: what its workgroup memory holds, in numbers read by fours. */
export function canFuseAttention(headWidth: number): boolean {
  return headWidth <= 256 && headWidth % 4 === 0;
}

/** What masked scores hold: finite, since WGSL may assume that infinities do not occur. */
export const MASKED = -1e30;

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

/** Softmax of `x` in place, over all its numbers. */
function softmaxInPlace(x: Float64Array): void {
  let largest = -Infinity;
  for (const value of x) largest = Math.max(largest, value);
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i] - largest);
  for (let i = 0; i < x.length; i++) x[i] /= sum;
}

/** q_rope [T, heads, d], cache_k [slots, kv_heads, d] → scores [heads, T, S], scaled; masked ones are −1e30. */
export const scores: Kernel = {
  name: "scores",
  wgsl: scoresWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32", scale: "f32" },
  bindings: bindings("input q", "input keys", "output scores"),
  lanes: (knobs) => knobs.lanes,
  grid: (
    pass,
    { heads },
    lanes,
  ) => [Math.ceil((pass.start + pass.tokens) / lanes), pass.tokens, heads],
  reference({ pass, constants, inputs: [q, keys], outputs: [out] }) {
    const { heads, kv_heads, head_width: width, scale } = constants;
    const cached = pass.start + pass.tokens;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head * kv_heads / heads);
      for (let token = 0; token < pass.tokens; token++) {
        for (let key = 0; key < cached; key++) {
          out![(head * pass.tokens + token) * cached + key] = key > pass.start + token
            ? MASKED
            : score(
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
};

/**
 * Softmax of each row. With `causal` 1: x [heads, T, S] where a query sees the keys up to its own position, the others
 * get 0, and `columns` is heads. With 0: rows of `columns` numbers, R of them.
 */
export const softmax: Kernel = {
  name: "softmax",
  wgsl: softmaxWgsl,
  constants: { columns: "u32", causal: "u32" },
  bindings: bindings("input x", "output y"),
  lanes: (knobs) => knobs.lanes,
  grid: (pass, { columns, causal }) => causal ? [pass.tokens, columns, 1] : [pass.rows, 1, 1],
  reference({ pass, constants: { columns, causal }, inputs: [x], outputs: [y] }) {
    const width = causal ? pass.start + pass.tokens : columns;
    for (let row = 0; row * width < y!.length; row++) {
      const visible = causal ? pass.start + row % pass.tokens + 1 : columns;
      const probs = Float64Array.from(x.subarray(row * width, row * width + visible));
      softmaxInPlace(probs);
      y!.fill(0, row * width, (row + 1) * width);
      y!.set(probs, row * width);
    }
  },
};

/** probs [heads, T, S], cache_v [slots, kv_heads, d] → head_out [T, heads, d]. */
export const mix: Kernel = {
  name: "mix",
  wgsl: mixWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32" },
  bindings: bindings("input probs", "input values", "output head_out"),
  lanes: (knobs) => knobs.lanes,
  grid: (pass, { heads, head_width }, lanes) => [Math.ceil(head_width / lanes), pass.tokens, heads],
  reference({ pass, constants, inputs: [probs, values], outputs: [out] }) {
    const { heads, kv_heads, head_width: width } = constants;
    const cached = pass.start + pass.tokens;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head * kv_heads / heads);
      for (let token = 0; token < pass.tokens; token++) {
        const row = (head * pass.tokens + token) * cached;
        for (let i = 0; i < width; i++) {
          let sum = 0;
          for (let key = 0; key <= pass.start + token; key++) {
            sum += probs[row + key] * values[(key * kv_heads + kvHead) * width + i];
          }
          out![(token * heads + head) * width + i] = sum;
        }
      }
    }
  },
};

/** q_rope, cache_k, cache_v → head_out [T, heads, d], without holding the scores. See {@linkcode canFuseAttention}. */
export const attention: Kernel = {
  name: "attention",
  wgsl: "",
  variant: ({ broadcast }) => broadcast ? attentionLanesWgsl : attentionWgsl,
  constants: { heads: "u32", kv_heads: "u32", head_width: "u32", scale: "f32" },
  bindings: bindings("input q", "input keys", "input values", "output head_out"),
  lanes: (knobs) => knobs.dotLanes,
  grid(pass, { heads, kv_heads }, _lanes, { broadcast }) {
    // Heads that share keys and values are taken by four.
    const groups = broadcast ? kv_heads * Math.ceil(heads / kv_heads / 4) : heads;
    return [groups, pass.tokens, 1];
  },
  reference({ pass, constants, inputs: [q, keys, values], outputs: [out] }: ReferenceArguments) {
    const { heads, kv_heads, head_width: width, scale } = constants;
    for (let token = 0; token < pass.tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head * kv_heads / heads);
        const base = (token * heads + head) * width;
        const probs = new Float64Array(pass.start + token + 1);
        for (let key = 0; key < probs.length; key++) {
          probs[key] = score(q, keys, base, (key * kv_heads + kvHead) * width, width, scale);
        }
        softmaxInPlace(probs);
        for (let i = 0; i < width; i++) {
          let sum = 0;
          for (let key = 0; key < probs.length; key++) {
            sum += probs[key] * values[(key * kv_heads + kvHead) * width + i];
          }
          out![base + i] = sum;
        }
      }
    }
  },
};
