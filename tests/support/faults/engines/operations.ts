/** Norms that are others, operations that are left out or done twice, and outcomes that are not there. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import { byRow, each, made, masked, weight } from "./mistakes.ts";

/** RMSNorm with variations of its parts. */
function rms(
  scale: (mean: number, epsilon: number, width: number) => number,
  apply: (x: number, weight: number) => number = (x, w) => x * w,
) {
  return (row: Float32Array, weight: Float32Array, epsilon: number) => {
    const mean = row.reduce((sum, x) => sum + x * x, 0) / row.length;
    return row.map((x, i) => apply(x * scale(mean, epsilon, row.length), weight[i]));
  };
}

const usual = (mean: number, epsilon: number) => 1 / Math.sqrt(mean + epsilon);

/** The input of a block's first half. */
const inputOf = (layer: number) => layer === 0 ? "token_embd" : `blk.${layer - 1}.out`;

/** Other norms. */
export const NORMS: Faults<EngineFault> = {
  "no epsilon, and a small row": {
    on: ["random"],
    make: () => ({ epsilon: 0.02 }),
    ...seen("1", "attn_norm", "epsilon"),
  },
  "epsilon outside of the root": {
    // Of its usual size nobody sees it.
    make: () => ({ norm: rms((mean) => 1 / (Math.sqrt(mean) + 0.05)) }),
    ...seen("1", "attn_norm", "epsilon", "unknown"),
  },
  "LayerNorm at the end": {
    where: "outside",
    make: () => ({ centred: true }),
    ...seen("1", "output_norm", "layernorm"),
  },
  "the norm's weights are left out": {
    make: () => ({ norm: rms(usual, (x) => x) }),
    ...seen("1", "attn_norm", "left-out"),
  },
  "the norm's weights twice": {
    make: () => ({ norm: rms(usual, (x, w) => x * w * w) }),
    ...seen("1", "attn_norm", "unknown", "left-out"),
    detail: /twice/,
  },
  "the norm is left out": {
    make: () => made("attn_norm", (_, pass) => pass.at(inputOf(pass.layer!))),
    ...seen("1", "attn_norm", "left-out"),
  },
  "weights without a norm": {
    make: () => ({ norm: (row, weight) => row.map((x, i) => x * weight[i]) }),
    ...seen("1", "attn_norm", "left-out", "unknown"),
  },
  "a norm of the sum instead of the mean": {
    make: () => ({
      norm: rms((mean, epsilon, width) => 1 / Math.sqrt(mean * width + epsilon)),
    }),
    ...seen("1", "attn_norm", "scaled", "unknown"),
  },
  "a norm of the unbiased mean": {
    on: ["random"],
    make: () => ({
      norm: rms((mean, epsilon, width) => 1 / Math.sqrt(mean * width / (width - 1) + epsilon)),
    }),
    ...seen("1", "attn_norm", "scaled", "unknown"),
  },
  "the FFN's norm sees the block's input": {
    make: ({ model, layer, shape: { width, epsilon } }) =>
      made("ffn_norm", (_, pass) => {
        const { data } = model.engine.weights.get(`blk.${layer}.ffn_norm.weight`)!;
        const x = pass.at(inputOf(layer));
        return byRow(x, x.length / width, (row) => rms(usual)(row, data, epsilon));
      }),
    ...seen("1", "ffn_norm", "unknown", "other-tensor"),
  },
  "1 + w at the end": {
    where: "outside",
    make: () => weight("output_norm.weight", (w) => w.map((v) => 1 + v)),
    ...seen("1", "output_norm", "norm-offset"),
  },
  "a norm's squares in bf16": {
    make: () => ({
      norm(row, weight, epsilon) {
        const short = (x: number) => {
          const [bits] = new Uint32Array(Float32Array.of(x).buffer);
          return new Float32Array(Uint32Array.of(bits & 0xffff0000).buffer)[0];
        };
        const sum = row.reduce((sum, x) => short(sum + short(x * x)), 0);
        return row.map((x, i) => x / Math.sqrt(sum / row.length + epsilon) * weight[i]);
      },
    }),
    ...seen("1", "attn_norm", "unknown", "rounded"),
  },
  "the output norm is left out": {
    where: "outside",
    make: ({ shape: { layers } }) =>
      made("output_norm", (_, pass) => pass.at(`blk.${layers - 1}.out`)),
    ...seen("1", "output_norm", "left-out"),
  },
  "the norm is done twice": {
    where: "outside",
    make: () => {
      const norm = rms(usual);
      return { norm: (row, weight, epsilon) => norm(norm(row, weight, epsilon), weight, epsilon) };
    },
    ...seen("1", "output_norm", "unknown", "left-out"),
    detail: /twice/,
  },
};

/** Left out, or done twice. */
export const LEFT_OUT: Faults<EngineFault> = {
  "softmax is left out": {
    make: () =>
      made("attn_probs", (x, pass) => x.map((p, i) => p === 0 ? 0 : pass.of("attn_scores")[i])),
    ...seen("4", "attn_probs", "left-out"),
  },
  "the attention output's product is left out": {
    make: () => made("attn_out", (_, pass) => pass.of("head_out")),
    ...seen("5", "attn_out", "left-out"),
  },
  "no residual after the FFN": {
    make: () => ({ residual: { out: 0 } }),
    ...seen("7", "out", "residual-missing", "left-out"),
  },
  "the stream twice after attention": {
    make: () => ({ residual: { ffn_inp: 2 } }),
    ...seen("7", "ffn_inp", "residual-missing"),
  },
  "attention is not added": {
    make: () => made("ffn_inp", (_, pass) => pass.at(inputOf(pass.layer!))),
    ...seen("7", "ffn_inp", "left-out", "residual-missing"),
  },
  "the FFN is added to the block's input": {
    make: () =>
      made(
        "out",
        (_, pass) => pass.of("ffn_out").map((v, i) => v + pass.at(inputOf(pass.layer!))[i]),
      ),
    ...seen("7", "out", "unknown", "residual-missing", "left-out"),
  },
  "a block is skipped": {
    make: () => made("out", (_, pass) => pass.at(inputOf(pass.layer!)).slice()),
    ...seen("7", "out", "left-out", "unknown"),
  },
  "softmax is done twice": {
    make: ({ shape }) => ({
      made: (point, x, pass) => {
        if (point !== "attn_probs") return masked(shape).made!(point, x, pass);
        const slots = pass.start + pass.count;
        return x.map((p, i) => {
          const row = i - i % slots;
          const last = pass.start + row / slots % pass.count;
          if (i - row > last) return 0;
          let sum = 0;
          for (let key = 0; key <= last; key++) sum += Math.exp(x[row + key] - p);
          return 1 / sum;
        });
      },
    }),
    ...seen("4", "attn_probs", "unknown"),
  },
  "noise after attention": {
    make: ({ draw }) => made("attn_out", (x) => x.map((v) => v + draw.normal(0.05))),
    ...seen("5", "attn_out", "unknown"),
  },
  "noise in one number of q": {
    on: ["random"],
    make: ({ draw, shape: { heads, headWidth } }) =>
      made("q", (x) => x.map((v, i) => i % (heads * headWidth) === 5 ? v + draw.normal(0.3) : v)),
    ...seen("2", "q", "unknown"),
  },
  "a bias that the model has not": {
    make: ({ draw }) => {
      const bias = Float32Array.from({ length: 512 }, () => draw.normal(0.2));
      return made("ffn_out", (x, { count }) => x.map((v, i) => v + bias[i % (x.length / count)]));
    },
    ...seen("6", "ffn_out", "bias-missing"),
  },
};

/** Logits that are not those of the last norm, and what is not there. */
export const ENDS: Faults<EngineFault> = {
  "logits of the token before": {
    where: "outside",
    make: () =>
      made("logits", (x, { count }) => {
        const width = x.length / count;
        return x.map((v, i) => i >= width ? x[i - width] : v);
      }),
    ...seen("8", "logits", "unknown", "reordered", "position-offset"),
  },
  "logits of the stream before its norm": {
    where: "outside",
    make: ({ model, shape: { layers, width, vocabulary } }) =>
      made("logits", (_, pass) => {
        const stream = pass.at(`blk.${layers - 1}.out`);
        const { data } = model.engine.weights.get("output.weight")!;
        return Float32Array.from({ length: pass.count * vocabulary }, (_, i) => {
          const [t, row] = [Math.floor(i / vocabulary), i % vocabulary];
          let sum = 0;
          for (let c = 0; c < width; c++) sum += data[row * width + c] * stream[t * width + c];
          return sum;
        });
      }),
    ...seen("8", "logits", "left-out"),
  },
  "the last token's norm is left out": {
    where: "outside",
    make: ({ shape: { layers } }) =>
      made("output_norm", (x, pass) => {
        const from = x.length - x.length / pass.count;
        const stream = pass.at(`blk.${layers - 1}.out`);
        return x.map((v, i) => i >= from ? stream[i] : v);
      }),
    ...seen("1", "output_norm", "left-out", "unknown"),
  },
  "logits as probabilities": {
    where: "outside",
    make: () =>
      made("logits", (x, { count }) => {
        const width = x.length / count;
        const out = new Float32Array(x.length);
        for (let row = 0; row < x.length; row += width) {
          const logits = x.subarray(row, row + width);
          const largest = logits.reduce((a, b) => Math.max(a, b));
          const sum = logits.reduce((sum, v) => sum + Math.exp(v - largest), 0);
          out.set(logits.map((v) => Math.exp(v - largest) / sum), row);
        }
        return out;
      }),
    ...seen("8", "logits", "unknown"),
  },
  "the logits of special tokens are minus infinity": {
    where: "outside",
    make: ({ shape: { vocabulary } }) =>
      made("logits", (x) => x.map((v, i) => i % vocabulary < 3 ? -Infinity : v)),
    ...seen("8", "logits", "unknown", "nan", "mask"),
  },
  "a penalty for repeated tokens left in the logits": {
    where: "outside",
    make: ({ model: { ids }, shape: { vocabulary } }) =>
      made(
        "logits",
        (x) => x.map((v, i) => ids.includes(i % vocabulary) ? (v > 0 ? v / 1.3 : v * 1.3) : v),
      ),
    ...seen("8", "logits", "unknown"),
  },
  "the last block is not run": {
    where: "outside",
    blocks: ({ layers }) => [...Array(layers - 1).keys()],
    make: () => ({}),
    ...seen("absent", "blk.{last}", "absent"),
  },
  "a block in the middle is not run": {
    where: "outside",
    blocks: ({ layers }) => [...Array(layers).keys()].filter((layer) => layer !== 1),
    make: () => ({}),
    ...seen("absent", "blk.1", "absent"),
  },
  "the last block is run twice": {
    where: "outside",
    blocks: ({ layers }) => [...Array(layers).keys(), layers - 1],
    make: () => ({}),
    ...seen("1", "blk.{last}.attn_norm", "unknown"),
  },
};

/** Points whose every number has a bit wrong here and there. */
export const STRAY: Faults<EngineFault> = {
  "one number in a thousand is zero": {
    make: () => made("ffn_act", (x) => x.map((v, i) => i % 1009 === 500 ? 0 : v)),
    ...seen("6", "ffn_act", "unknown", "zeros"),
  },
  "the last number of each row is not computed": {
    make: () =>
      made("ffn_up", (x, { count }) => x.map((v, i) => (i + 1) % (x.length / count) ? v : 0)),
    ...seen("6", "ffn_up", "zeros"),
  },
  "the last token of a full batch is not computed": {
    make: () =>
      made(
        "ffn_gate",
        (x, { count }) => x.map((v, i) => Math.floor(i / (x.length / count)) === 31 ? 0 : v),
      ),
    ...seen("6", "ffn_gate", "zeros"),
  },
  "signs lost in the FFN": {
    make: () => each("ffn_act", Math.abs),
    ...seen("6", "ffn_act", "unknown", "activation"),
  },
};
