/** Faults of engines that the report has known by name for long. */
import type { EngineFault, Faults } from "../fault.ts";
import { seen } from "../fault.ts";
import { geluTanh, instead, made, masked, silu, weight } from "./mistakes.ts";
import type { Mistakes, Shape } from "../../engines/engine_mistakes.ts";
import type { Random } from "../../../../checkpoints/files/random.ts";

/** Rows of heads in halves where the file has adjacent pairs. */
function halves(name: string, { headWidth, rope: { width } }: Shape): Mistakes {
  return weight(name, (data, _, columns) =>
    data.map((_, i) => {
      const row = Math.floor(i / columns);
      const inHead = row % headWidth;
      if (inHead >= width) return data[i];
      const from = inHead < width / 2 ? 2 * inHead : 2 * (inHead - width / 2) + 1;
      return data[(row - inHead + from) * columns + i % columns];
    }));
}

/** A run of 32 numbers in one row that has other signs and sizes. */
function damaged(name: string, draw: Random): Mistakes {
  const [row, block] = [draw.uniform(0, 1), draw.uniform(0, 1)];
  return weight(name, (data, rows, columns) => {
    const at = Math.floor(row * rows) * columns + 32 * Math.floor(block * columns / 32);
    return data.map((w, i) => i >= at && i < at + 32 ? -2 * w : w);
  });
}

/** Faults that the report knows by name. */
export const KNOWN_FAULTS: Faults<EngineFault> = {
  "rows of Q in the other RoPE order": {
    make: ({ shape }) => halves("attn_q.weight", shape),
    ...seen("2", "q", "qk-permuted"),
  },
  "rows of K in the other RoPE order": {
    make: ({ shape }) => halves("attn_k.weight", shape),
    ...seen("2", "k", "qk-permuted"),
  },
  "RoPE turns halves": {
    make: () => ({ rope: () => ({ pairs: "half" }) }),
    ...seen("1B", "q_rope", "rope-pairing"),
  },
  "RoPE's base is a usual one": {
    make: () => ({ rope: () => ({ base: 5e5 }) }),
    ...seen("1B", "q_rope", "rope-base"),
    detail: /^500000 instead of 10000$/,
  },
  "RoPE's base is an unusual one": {
    make: () => ({ rope: () => ({ base: 23456 }) }),
    ...seen("1B", "q_rope", "rope-base"),
    detail: /^234\d\d(\.\d+)? instead of 10000$/,
  },
  "positions divided by 4": {
    make: () => ({ rope: () => ({ factor: 4 }) }),
    ...seen("1B", "q_rope", "rope-scaling"),
    detail: /^positions divided by 4 instead of 1$/,
  },
  "positions divided by 2.5": {
    make: () => ({ rope: () => ({ factor: 2.5 }) }),
    ...seen("1B", "q_rope", "rope-scaling"),
    detail: /^positions divided by 2\.(5|49\d|50\d) instead of 1$/,
  },
  "frequency factors ignored": {
    on: ["random"],
    make: () => ({ rope: () => ({ divisors: undefined }) }),
    ...seen("1B", "q_rope", "rope-scaling"),
    detail: /rope_freqs/,
  },
  "no RoPE": {
    on: ["random"],
    make: () => ({ rope: () => ({ factor: Infinity }) }),
    ...seen("1B", "q_rope", "left-out"),
  },
  "half of what should turn": {
    make: ({ shape: { rope: { width } } }) => ({ rope: () => ({ width: width / 2 }) }),
    ...seen("1B", "q_rope", "rope-pairing"),
    detail: /^turns only the first \d+ of \d+ numbers of a head$/,
  },
  "positions begin at 1": {
    make: () => ({ rope: () => ({ offset: 1 }) }),
    ...seen("1B", "q_rope", "position-offset"),
    detail: /off by 1$/,
  },
  "positions lag behind while decoding": {
    make: () => ({ rope: (start) => ({ offset: start > 0 ? -1 : 0 }) }),
    ...seen("1B", "q_rope", "position-offset"),
    detail: /off by -1$/,
    step: 1,
  },
  "positions begin anew while decoding": {
    on: ["random"],
    make: () => ({ rope: (start) => ({ offset: -start }) }),
    ...seen("1B", "q_rope", "position-offset"),
    step: 1,
  },
  "K goes one slot too far": {
    make: ({ shape: { kvHeads, headWidth } }) =>
      made("cache_k", (cache, { start }) => {
        if (start > 0) return cache;
        const width = kvHeads * headWidth;
        const moved = cache.slice();
        moved.copyWithin(width, 0, cache.length - width);
        return moved;
      }),
    ...seen("3", "cache_k", "cache-slot"),
    detail: /slots are off by 1$/,
  },
  "a larger epsilon": {
    make: () => ({ epsilon: 3e-2 }),
    ...seen("1", "attn_norm", "epsilon"),
    detail: /0\.03 instead of 0\.00001/,
  },
  "a larger epsilon at the end": {
    ...{ on: ["random"], where: "outside" as const },
    make: () => ({ epsilon: 1e-3 * 40 }),
    ...seen("1", "output_norm", "epsilon"),
  },
  "LayerNorm": {
    make: () => ({ centred: true }),
    ...seen("1", "attn_norm", "layernorm"),
  },
  "norm weights as 1 + w": {
    make: () => weight("ffn_norm.weight", (data) => data.map((w) => 1 + w)),
    ...seen("1", "ffn_norm", "norm-offset"),
  },
  "up goes through the activation": {
    on: ["random"],
    make: () => ({ activation: (gate, up) => silu(up) * gate }),
    ...seen("6", "ffn_act", "gate-up-swapped"),
  },
  "gate's and up's weights exchanged": {
    make: () => instead({ "ffn_gate.weight": "ffn_up.weight", "ffn_up.weight": "ffn_gate.weight" }),
    ...seen("6", "ffn_gate", "gate-up-swapped"),
  },
  "GELU": {
    make: () => ({ activation: (gate, up) => geluTanh(gate) * up }),
    ...seen("6", "ffn_act", "activation"),
    detail: /^GELU \(tanh\)/,
  },
  "ReLU": {
    on: ["random"],
    make: () => ({ activation: (gate, up) => Math.max(0, gate) * up }),
    ...seen("6", "ffn_act", "activation"),
    detail: /^ReLU /,
  },
  "attention output transposed": {
    make: () =>
      weight(
        "attn_output.weight",
        (data, rows, columns) =>
          data.map((_, i) => data[(i % columns) * rows + Math.floor(i / columns)]),
      ),
    ...seen("5", "attn_out", "transposed"),
  },
  "query head h reads key/value head h mod Hkv": {
    make: ({ shape }) => ({ keyHead: (head) => head % shape.kvHeads, ...masked(shape) }),
    ...seen("4", "attn_scores", "head-grouping"),
    detail: /h mod Hkv/,
  },
  "another attention scale": {
    make: ({ shape }) => ({ scale: 1 / Math.sqrt(shape.headWidth), ...masked(shape) }),
    ...seen("4", "attn_scores", "scaled"),
    detail: /^scores are times \S+ \(1\/√d\): scaled by /,
  },
  "a mask that sees one key too many": {
    make: () => ({ future: 1 }),
    ...seen("4", "attn_probs", "mask"),
    detail: /^sees 1 key of the future$/,
  },
  "a mask that hides the query's own key, at a floor": {
    make: () => ({ sees: ({ query, key }) => key < query, floor: -1e9 }),
    ...seen("4", "attn_scores", "mask"),
    detail: /^misses itself \(key = query\)$/,
  },
  "a mask that hides the query's own key while decoding": {
    make: () => ({ sees: ({ query, key, start }) => start === 0 ? key <= query : key < query }),
    ...seen("4", "attn_probs", "mask"),
    detail: /^misses itself \(key = query\)$/,
    step: 1,
  },
  "decoding overwrites the newest slot": {
    make: ({ shape: { kvHeads, headWidth } }) =>
      made("cache_k", (cache, { start }) => {
        const width = kvHeads * headWidth;
        return start === 0
          ? cache
          : cache.slice().copyWithin((start - 1) * width, start * width, (start + 1) * width);
      }),
    ...seen("3", "cache_k", "cache-slot"),
    detail: /^slot \d+ is overwritten by position \d+$/,
    step: 1,
  },
  "heads joined backwards": {
    make: ({ shape: { heads, headWidth } }) =>
      made("head_out", (x) =>
        x.map((_, i) => {
          const at = i % (heads * headWidth);
          const head = Math.floor(at / headWidth);
          return x[i - at + (heads - 1 - head) * headWidth + at % headWidth];
        })),
    ...seen("5", "head_out", "head-grouping"),
  },
  "no bias on Q": {
    on: ["random"],
    make: () => instead({ "attn_q.bias": undefined }),
    ...seen("2", "q", "bias-missing"),
    detail: /attn_q\.bias/,
  },
  "no bias after attention": {
    on: ["random"],
    make: () => instead({ "attn_output.bias": undefined }),
    ...seen("5", "attn_out", "bias-missing"),
    detail: /attn_output\.bias/,
  },
  "V is turned": {
    make: () => ({ turnsValues: "shown" }),
    ...seen("2", "v", "v-rotated"),
  },
  "V is turned on its way into the cache": {
    on: ["random"],
    make: () => ({ turnsValues: "stored" }),
    ...seen("3", "cache_v", "v-rotated"),
  },
  "no residual after attention": {
    on: ["random"],
    make: () => ({ residual: { ffn_inp: 0 } }),
    ...seen("7", "ffn_inp", "residual-missing"),
    detail: /not added/,
  },
  "the stream twice after the FFN": {
    make: () => ({ residual: { out: 2 } }),
    ...seen("7", "out", "residual-missing"),
    detail: /twice/,
  },
  "the embedding as output matrix": {
    where: "outside" as const,
    make: () => instead({ "output.weight": "token_embd.weight" }),
    ...seen("8", "logits", "output-tied"),
  },
  "the FFN's products in f16": {
    on: ["large"],
    make: () => made("ffn_act", (x) => Float32Array.from(new Float16Array(x))),
    ...seen("6", "ffn_act", "f16-overflow"),
  },
  "the FFN's products clamped to f16": {
    on: ["large"],
    make: () => made("ffn_act", (x) => x.map((v) => Math.max(-65504, Math.min(65504, v)))),
    ...seen("6", "ffn_act", "f16-overflow"),
  },
  "a norm's squares summed in f16": {
    on: ["large"],
    make: () => ({ squares: Math.f16round }),
    ...seen("1", "attn_norm", "f16-overflow"),
    detail: /squares/,
  },
  "a block of ffn_down dequantized wrongly": {
    make: ({ draw }) => damaged("ffn_down.weight", draw),
    ...seen("6", "ffn_out", "dequant-block"),
    detail: /ffn_down\.weight: row \d+, columns \d+ to \d+/,
  },
  "a block of attn_v dequantized wrongly": {
    on: ["random"],
    make: ({ draw }) => damaged("attn_v.weight", draw),
    ...seen("2", "v", "dequant-block"),
    detail: /attn_v\.weight: row \d+, columns \d+ to \d+/,
  },
  "a block of the output matrix dequantized wrongly": {
    where: "outside" as const,
    make: ({ draw }) => damaged("output.weight", draw),
    ...seen("8", "logits", "dequant-block"),
    detail: /output\.weight: row \d+, columns \d+ to \d+/,
  },
  "not a number in a weight": {
    make: ({ draw }) => {
      const place = draw.uniform(0, 1);
      return weight("attn_k.weight", (data) => data.with(Math.floor(place * data.length), NaN));
    },
    ...seen("2", "k", "nan"),
  },
  "not a number in the probabilities of a head": {
    on: ["random"],
    make: ({ draw, shape: { heads } }) => {
      const head = draw.integer(0, heads);
      return made("attn_probs", (x) => x.with(head * x.length / heads, NaN));
    },
    ...seen("4", "attn_probs", "nan"),
  },
};
