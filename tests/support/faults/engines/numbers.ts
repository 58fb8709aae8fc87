/** Factors, caps, activations and roundings that are not the model's. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import {
  bf16,
  byRow,
  e4m3,
  each,
  geluTanh,
  int8,
  made,
  masked,
  silu,
  toBits,
  weight,
} from "./mistakes.ts";
import type { Making } from "../../engines/engine_mistakes.ts";

const f16 = Math.f16round;

/** One factor. */
export const FACTORS: Faults<EngineFault> = {
  "the embedding times the root of its width": {
    where: "outside",
    make: ({ shape: { width } }) => each("token_embd", (v) => v * Math.sqrt(width)),
    ...seen("0", "token_embd", "scaled"),
    detail: /√|sqrt|root/i,
  },
  "the embedding divided by the root of its width": {
    where: "outside",
    make: ({ shape: { width } }) => each("token_embd", (v) => v / Math.sqrt(width)),
    ...seen("0", "token_embd", "scaled"),
  },
  "no attention scale": {
    make: ({ shape }) => ({ scale: Math.sqrt(shape.headWidth), ...masked(shape) }),
    ...seen("4", "attn_scores", "scaled", "left-out"),
  },
  "the attention scale twice": {
    make: ({ shape }) => ({ scale: 1 / Math.sqrt(shape.headWidth) }),
    ...seen("4", "attn_scores", "scaled"),
    detail: /√|sqrt|root/i,
  },
  "an attention scale of 1/√D": {
    make: ({ shape }) => ({ scale: Math.sqrt(shape.headWidth / shape.width), ...masked(shape) }),
    ...seen("4", "attn_scores", "scaled"),
  },
  "an attention scale of half the head's width": {
    make: () => ({ scale: Math.SQRT2 }),
    ...seen("4", "attn_scores", "scaled"),
  },
  "q is scaled when it is made": {
    make: ({ shape }) => each("q", (v) => v / Math.sqrt(shape.headWidth)),
    ...seen("2", "q", "scaled"),
  },
  "norm weights times 4": {
    make: () => weight("attn_norm.weight", (w) => w.map((v) => 4 * v)),
    ...seen("1", "attn_norm", "scaled"),
    detail: /\b4\b/,
  },
  "half of the FFN's output": {
    make: () => each("ffn_out", (v) => v / 2),
    ...seen("6", "ffn_out", "scaled"),
    detail: /0\.5|1\/2|half/,
  },
  "a multiplier of the residual": {
    make: () => each("attn_out", (v) => 0.22 * v),
    ...seen("5", "attn_out", "scaled"),
    detail: /0\.22/,
  },
  "the FFN's output divided by the root of twice the blocks": {
    make: ({ shape: { layers } }) => each("ffn_out", (v) => v / Math.sqrt(2 * layers)),
    ...seen("6", "ffn_out", "scaled"),
  },
  "logits divided by 8": {
    where: "outside",
    make: () => each("logits", (v) => v / 8),
    ...seen("8", "logits", "scaled"),
    detail: /8|0\.125/,
  },
  "a temperature of 0.7 left in the logits": {
    where: "outside",
    make: () => each("logits", (v) => v / 0.7),
    ...seen("8", "logits", "scaled"),
  },
  "V with the wrong sign": {
    make: () => weight("attn_v.weight", (w) => w.map((v) => -v)),
    ...seen("2", "v", "scaled", "block-layout"),
  },
  "one head of Q is scaled": {
    make: ({ shape: { heads, headWidth: d } }) =>
      made("q", (x) => x.map((v, i) => Math.floor(i / d) % heads === 1 ? 2 * v : v)),
    ...seen("2", "q", "scaled"),
  },
};

/** Caps and clamps. */
export const CAPS: Faults<EngineFault> = {
  "scores capped softly": {
    on: ["tiny"],
    make: ({ shape }) => ({
      ...masked(shape),
      ...each("attn_scores", (v) => 2 * Math.tanh(v / 2)),
    }),
    ...seen("4", "attn_scores", "soft-cap"),
  },
  "scores capped softly, not shown": {
    on: ["tiny"],
    hides: /^attn_scores$/,
    make: () => each("attn_scores", (v) => Math.tanh(v)),
    ...seen("4", "attn_probs", "soft-cap"),
  },
  "logits capped softly": {
    where: "outside",
    make: () => each("logits", (v) => 3 * Math.tanh(v / 3)),
    ...seen("8", "logits", "soft-cap"),
    detail: /\b3(\.0)?\b|2\.99|3\.00/,
  },
  "logits capped softly at 30": {
    where: "outside",
    on: ["tiny"],
    make: () => each("logits", (v) => 30 * Math.tanh(v / 30)),
    ...seen("8", "logits", "soft-cap"),
    detail: /\b30\b|29\.9|30\.0/,
  },
  "the cap's outer factor is left out": {
    where: "outside",
    make: () => each("logits", (v) => Math.tanh(v / 30)),
    ...seen("8", "logits", "soft-cap", "scaled"),
  },
  "the stream clipped": {
    make: () => each("out", (v) => Math.max(-0.5, Math.min(0.5, v))),
    ...seen("7", "out", "unknown"),
  },
  "the largest logits clipped": {
    ...{ on: ["random"], where: "outside" },
    make: () =>
      made("logits", (x) => {
        const limit = x.toSorted()[Math.floor(0.999 * x.length)];
        return x.map((v) => Math.min(limit, v));
      }),
    ...seen("8", "logits", "unknown"),
  },
  "q clamped": {
    on: ["tiny"],
    make: () => each("q", (v) => Math.max(-1, Math.min(1, v))),
    ...seen("2", "q", "unknown"),
  },
};

/** Other activations. */
export const ACTIVATIONS: Faults<EngineFault> = {
  "GELU by the error function": {
    make: () => ({
      activation: (gate, up) => gate * 0.5 * (1 + erf(gate / Math.SQRT2)) * up,
    }),
    ...seen("6", "ffn_act", "activation"),
  },
  "GELU by a logistic function": {
    make: () => ({ activation: (gate, up) => gate / (1 + Math.exp(-1.702 * gate)) * up }),
    ...seen("6", "ffn_act", "activation"),
  },
  "squared ReLU": {
    make: () => ({ activation: (gate, up) => Math.max(0, gate) ** 2 * up }),
    ...seen("6", "ffn_act", "activation"),
  },
  "a sigmoid of the gate alone": {
    make: () => ({ activation: (gate, up) => up / (1 + Math.exp(-gate)) }),
    ...seen("6", "ffn_act", "activation"),
  },
  "tanh": {
    on: ["random"],
    make: () => ({ activation: (gate, up) => Math.tanh(gate) * up }),
    ...seen("6", "ffn_act", "activation"),
  },
  "no activation": {
    make: () => ({ activation: (gate, up) => gate * up }),
    ...seen("6", "ffn_act", "left-out", "activation"),
  },
  "up is not multiplied": {
    make: () => ({ activation: (gate) => silu(gate) }),
    ...seen("6", "ffn_act", "left-out", "activation"),
  },
  "gate is left out": {
    on: ["random"],
    make: () => ({ activation: (_, up) => up }),
    ...seen("6", "ffn_act", "left-out", "other-tensor"),
  },
  "the activation applied twice": {
    make: () => ({ activation: (gate, up) => silu(silu(gate)) * up }),
    ...seen("6", "ffn_act", "activation"),
  },
  "gate and up added": {
    on: ["random"],
    make: () => ({ activation: (gate, up) => silu(gate) + up }),
    ...seen("6", "ffn_act", "unknown"),
  },
  "gpt-oss's activation": {
    make: () => ({
      activation: (gate, up) => {
        const [g, u] = [Math.min(7, gate), Math.max(-7, Math.min(7, up))];
        return g / (1 + Math.exp(-1.702 * g)) * (u + 1);
      },
    }),
    ...seen("6", "ffn_act", "activation"),
  },
  "GELU of up as well": {
    on: ["random"],
    make: () => ({ activation: (gate, up) => silu(gate) * geluTanh(up) }),
    ...seen("6", "ffn_act", "activation"),
  },
};

/** The error function (Abramowitz and Stegun 7.1.26, off by at most 1.5e-7). */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592]
    .reduce((sum, factor) => (sum + factor) * t, 0);
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

/** A softmax of the keys up to the query's own that rounds what it makes. */
function roundedSoftmax(
  { start, count, of }: Making,
  round: (value: number) => number,
): Float32Array {
  const scores = of("attn_scores");
  const slots = start + count;
  const out = new Float32Array(scores.length);
  for (let row = 0; row < scores.length / slots; row++) {
    const at = row * slots;
    const seen = scores.subarray(at, at + start + row % count + 1);
    const largest = seen.reduce((a, b) => Math.max(a, b));
    const powers = seen.map((score) => round(Math.exp(round(score - largest))));
    const sum = powers.reduce((sum, power) => round(sum + power), 0);
    out.set(powers.map((power) => round(power / sum)), at);
  }
  return out;
}

/** Fewer bits than are said. */
export const ROUNDINGS: Faults<EngineFault> = {
  "the stream in bf16": {
    make: () => each("out", bf16),
    ...seen("7", "out", "rounded"),
    detail: /bf16/i,
  },
  "norms in f16": {
    make: () => each("attn_norm", f16),
    ...seen("1", "attn_norm", "rounded"),
    detail: /f16/i,
  },
  "the FFN's products in an 8-bit float": {
    make: () => each("ffn_act", e4m3),
    ...seen("6", "ffn_act", "rounded"),
  },
  "what goes into ffn_down in 8-bit integers": {
    make: () => ({
      input: (name, x, rows) => name === "ffn_down" ? byRow(x, rows, int8) : x,
    }),
    ...seen("6", "ffn_out", "rounded"),
  },
  "what goes into Q in bf16": {
    make: () => ({ input: (name, x) => name === "attn_q" ? x.map(bf16) : x }),
    ...seen("2", "q", "rounded"),
  },
  "a weight in bf16": {
    on: ["random"],
    make: () => weight("attn_output.weight", (w) => w.map(bf16)),
    ...seen("5", "attn_out", "rounded"),
  },
  "a weight in 8-bit integers by row": {
    on: ["tiny"],
    make: () => weight("ffn_up.weight", (w, rows) => byRow(w, rows, int8)),
    ...seen("6", "ffn_up", "rounded"),
  },
  "a weight in 4 bits by row": {
    make: () =>
      weight("ffn_gate.weight", (w, rows) =>
        byRow(w, rows, (row) => {
          const scale = Math.max(...row.map(Math.abs)) / 7;
          return row.map((v) => Math.round(v / scale) * scale);
        })),
    ...seen("6", "ffn_gate", "rounded"),
  },
  "a weight in an 8-bit float": {
    make: () => weight("attn_v.weight", (w) => w.map(e4m3)),
    ...seen("2", "v", "rounded"),
  },
  "scores in bf16": {
    make: ({ shape }) => ({ ...masked(shape), ...each("attn_scores", bf16) }),
    ...seen("4", "attn_scores", "rounded"),
    detail: /bf16/i,
  },
  "probabilities in f16": {
    make: () => each("attn_probs", f16),
    ...seen("4", "attn_probs", "rounded"),
    detail: /f16/i,
  },
  "softmax in bf16": {
    on: ["random"],
    make: () => made("attn_probs", (_, pass) => roundedSoftmax(pass, bf16)),
    ...seen("4", "attn_probs", "rounded"),
  },
  "exp by a table of 256 steps": {
    on: ["random"],
    make: () =>
      made("attn_probs", (x, { start, count }) =>
        byRow(x, x.length / (start + count), (row) => {
          const largest = Math.max(...row);
          const powers = row.map((p) =>
            p === 0 ? 0 : Math.exp(Math.round(Math.log(p / largest) * 16) / 16)
          );
          const sum = powers.reduce((a, b) => a + b);
          return powers.map((p) => p / sum);
        })),
    ...seen("4", "attn_probs", "rounded"),
  },
  "logits in bf16": {
    where: "outside",
    make: () => each("logits", bf16),
    ...seen("8", "logits", "rounded"),
    detail: /bf16/i,
  },
  "the embedding in f16": {
    where: "outside",
    on: ["random"],
    make: () => each("token_embd", f16),
    ...seen("0", "token_embd", "rounded"),
  },
  "q in 12 bits": {
    make: () => each("q_rope", (v) => toBits(v, 5)),
    ...seen("1B", "q_rope", "rounded"),
  },
};
