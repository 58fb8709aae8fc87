/** Weights that are others, in another order, or in part zero. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import {
  columns,
  fromBlocks,
  fromFile,
  instead,
  made,
  rows,
  rowsFrom,
  weight,
  zeroed,
} from "./mistakes.ts";

/** The numbers of another tensor. */
export const OTHER_TENSORS: Faults<EngineFault> = {
  "V made with K's weight": {
    make: () => instead({ "attn_v.weight": "attn_k.weight" }),
    ...seen("2", "v", "other-tensor"),
    detail: /attn_k/,
  },
  "K made with V's weight": {
    on: ["random"],
    make: () => instead({ "attn_k.weight": "attn_v.weight" }),
    ...seen("2", "k", "other-tensor"),
    detail: /attn_v/,
  },
  "k is shown as v": {
    make: () => made("v", (_, pass) => pass.of("k")),
    ...seen("2", "v", "other-tensor"),
  },
  "the next block's Q": {
    where: "not last",
    make: ({ model, layer }) => fromFile(model, "attn_q.weight", `blk.${layer + 1}.attn_q.weight`),
    ...seen("2", "q", "other-tensor"),
    detail: /blk\.\d+\.attn_q/,
  },
  "up is gate": {
    make: () => instead({ "ffn_up.weight": "ffn_gate.weight" }),
    ...seen("6", "ffn_up", "other-tensor"),
    detail: /ffn_gate/,
  },
  "gate is up": {
    on: ["random"],
    make: () => instead({ "ffn_gate.weight": "ffn_up.weight" }),
    ...seen("6", "ffn_gate", "other-tensor"),
  },
  "two blocks exchanged": {
    where: "not last",
    make: ({ model, layer }) => fromBlocks(model, () => layer + 1),
    ...seen("1", "attn_norm", "other-tensor"),
  },
  "blocks moved by one": {
    where: "everywhere",
    make: ({ model, shape: { layers } }) => fromBlocks(model, (layer) => (layer + 1) % layers),
    ...seen("1", "attn_norm", "other-tensor"),
  },
  "the last block's norm as output norm": {
    where: "outside",
    make: ({ model, shape: { layers } }) =>
      fromFile(model, "output_norm.weight", `blk.${layers - 1}.ffn_norm.weight`),
    ...seen("1", "output_norm", "other-tensor"),
    detail: /ffn_norm/,
  },
  "the two norms of a block exchanged": {
    make: () =>
      instead({ "attn_norm.weight": "ffn_norm.weight", "ffn_norm.weight": "attn_norm.weight" }),
    ...seen("1", "attn_norm", "other-tensor"),
    detail: /ffn_norm/,
  },
  "one norm for both halves of a block": {
    make: () => instead({ "ffn_norm.weight": "attn_norm.weight" }),
    ...seen("1", "ffn_norm", "other-tensor"),
  },
  "the attention output of the block before": {
    where: "not first",
    make: ({ model, layer }) =>
      fromFile(model, "attn_output.weight", `blk.${layer - 1}.attn_output.weight`),
    ...seen("5", "attn_out", "other-tensor"),
  },
  "the next block's ffn_down": {
    where: "not last",
    make: ({ model, layer }) =>
      fromFile(model, "ffn_down.weight", `blk.${layer + 1}.ffn_down.weight`),
    ...seen("6", "ffn_out", "other-tensor"),
  },
  "K and V exchanged": {
    make: () => instead({ "attn_k.weight": "attn_v.weight", "attn_v.weight": "attn_k.weight" }),
    ...seen("2", "k", "other-tensor"),
  },
  "the output matrix as embedding": {
    where: "outside",
    make: ({ model }) =>
      made("token_embd", (x) => {
        const width = x.length / model.ids.length;
        const { data } = model.engine.weights.get("output.weight")!;
        return x.length % model.ids.length === 0
          ? x.map((_, i) => data[model.ids[Math.floor(i / width)] * width + i % width])
          : x;
      }),
    ...seen("0", "token_embd", "output-tied", "other-tensor"),
  },
  "K's bias added to V": {
    on: ["random"],
    make: () => instead({ "attn_v.bias": "attn_k.bias" }),
    ...seen("2", "v", "other-tensor"),
  },
};

/** Rows and columns in another order. */
export const ORDERS: Faults<EngineFault> = {
  "rows rotated by one": {
    make: () => rows("attn_v.weight", (r, n) => (r + 1) % n),
    ...seen("2", "v", "reordered"),
  },
  "rows rotated by seven": {
    on: ["random"],
    make: () => rows("ffn_up.weight", (r, n) => (r + 7) % n),
    ...seen("6", "ffn_up", "reordered"),
  },
  "columns rotated by one": {
    make: () => columns("ffn_down.weight", (c, n) => (c + 1) % n),
    ...seen("6", "ffn_out", "reordered"),
  },
  "a row lost: those after it move up": {
    make: () => rows("ffn_gate.weight", (r) => r < 30 ? r : r + 1),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "a row doubled: those after it move down": {
    on: ["random"],
    make: () => rows("attn_v.weight", (r) => r <= 10 ? r : r - 1),
    ...seen("2", "v", "reordered"),
  },
  "two rows exchanged": {
    make: () => rows("ffn_up.weight", (r) => r === 12 ? 40 : r === 40 ? 12 : r),
    ...seen("6", "ffn_up", "reordered"),
  },
  "two columns exchanged": {
    make: () => columns("attn_output.weight", (c) => c === 12 ? 40 : c === 40 ? 12 : c),
    ...seen("5", "attn_out", "reordered"),
  },
  "rows backwards": {
    make: () => rows("ffn_gate.weight", (r, n) => n - 1 - r),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "columns of each head backwards": {
    make: ({ shape: { headWidth: d } }) =>
      columns("attn_output.weight", (c) => c - c % d + d - 1 - c % d),
    ...seen("5", "attn_out", "reordered"),
  },
  "halves of a matrix exchanged": {
    make: () => rows("ffn_up.weight", (r, n) => (r + n / 2) % n),
    ...seen("6", "ffn_up", "reordered"),
  },
  "a joint gate and up split row by row": {
    make: ({ model, layer }) => {
      const [gate, up] = ["gate", "up"]
        .map((name) => model.engine.weights.get(`blk.${layer}.ffn_${name}.weight`)!);
      const joint = new Float32Array([...gate.data, ...up.data]);
      return {
        weight: (name, right) => {
          const first = ["ffn_gate.weight", "ffn_up.weight"].indexOf(name);
          if (first < 0) return right;
          const data = rowsFrom(right.data, right.rows, right.columns, (r) => r);
          for (let r = 0; r < right.rows; r++) {
            const from = (2 * r + first) * right.columns;
            data.set(joint.subarray(from, from + right.columns), r * right.columns);
          }
          return { ...right, data };
        },
      };
    },
    ...seen("6", "ffn_gate", "reordered", "other-tensor"),
  },
  "shards of two devices dealt row by row": {
    make: () => rows("ffn_gate.weight", (r, n) => (r % 2) * n / 2 + Math.floor(r / 2)),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "shards of two devices joined in the wrong order of columns": {
    make: () => columns("ffn_down.weight", (c, n) => (c + n / 2) % n),
    ...seen("6", "ffn_out", "reordered"),
  },
  "heads of Q dealt to two devices": {
    make: ({ shape: { heads, headWidth: d } }) =>
      rows("attn_q.weight", (r) => {
        const head = Math.floor(r / d);
        return ((head % 2) * heads / 2 + Math.floor(head / 2)) * d + r % d;
      }),
    ...seen("2", "q", "head-grouping", "reordered"),
  },
  "rows of a matrix in two halves that alternate by 32": {
    on: ["tiny"],
    make: () =>
      rows("ffn_up.weight", (r, n) => {
        const block = Math.floor(r / 32);
        return ((block % 2) * n / 64 + Math.floor(block / 2)) * 32 + r % 32;
      }),
    ...seen("6", "ffn_up", "reordered"),
  },
  "an embedding one row further": {
    where: "outside",
    make: ({ model }) =>
      made("token_embd", (x, { start, count }) => {
        const width = x.length / count;
        const { data } = model.engine.weights.get("token_embd.weight")!;
        return start > 0
          ? x
          : x.map((_, i) => data[(model.ids[Math.floor(i / width)] + 1) * width + i % width]);
      }),
    ...seen("0", "token_embd", "reordered"),
  },
  "logits one row further": {
    where: "outside",
    make: () => rows("output.weight", (r, n) => (r + 1) % n),
    ...seen("8", "logits", "reordered"),
  },
  "numbers of each row of the embedding backwards": {
    where: "outside",
    on: ["random"],
    make: () =>
      made("token_embd", (x, { count }) => {
        const width = x.length / count;
        return x.map((_, i) => x[i - i % width + width - 1 - i % width]);
      }),
    ...seen("0", "token_embd", "reordered"),
  },
  "norm weights rotated by one": {
    make: () => weight("ffn_norm.weight", (w) => w.map((_, i) => w[(i + 1) % w.length])),
    ...seen("1", "ffn_norm", "reordered"),
  },
};

/** Zeros where numbers should be. */
export const ZEROS: Faults<EngineFault> = {
  "the last rows are zero": {
    make: () => zeroed("ffn_up.weight", (r, _, n) => r >= n - 24),
    ...seen("6", "ffn_up", "zeros"),
  },
  "a whole matrix is zero": {
    make: () => zeroed("attn_output.weight", () => true),
    ...seen("5", "attn_out", "zeros"),
  },
  "the last columns are zero": {
    make: () => zeroed("ffn_down.weight", (_r, c, _n, width) => c >= width - 20),
    ...seen("6", "ffn_out", "zeros"),
  },
  "the second device's columns are missing": {
    make: () => zeroed("attn_output.weight", (_r, c, _n, width) => c >= width / 2),
    ...seen("5", "attn_out", "zeros"),
  },
  "half of a head of K is zero": {
    make: ({ shape: { headWidth: d } }) => zeroed("attn_k.weight", (r) => r >= d / 2 && r < d),
    ...seen("2", "k", "zeros"),
  },
  "one row of the FFN is zero": {
    make: ({ draw, shape: { ffnWidth } }) => {
      const row = draw.integer(0, ffnWidth);
      return zeroed("ffn_gate.weight", (r) => r === row);
    },
    ...seen("6", "ffn_gate", "zeros"),
  },
  "a head of attention is left out": {
    make: ({ shape: { heads, headWidth }, draw }) => {
      const head = draw.integer(0, heads);
      return made(
        "head_out",
        (x) => x.map((v, i) => Math.floor(i / headWidth) % heads === head ? 0 : v),
      );
    },
    ...seen("5", "head_out", "zeros", "left-out"),
  },
  "the last rows of the vocabulary are zero": {
    where: "outside",
    make: () => zeroed("output.weight", (r, _, n) => r >= n - 64),
    ...seen("8", "logits", "zeros"),
  },
  "the end of a norm's weights is zero": {
    make: () => weight("attn_norm.weight", (w) => w.map((v, i) => i >= w.length - 16 ? 0 : v)),
    ...seen("1", "attn_norm", "zeros"),
  },
  "an embedding that is zero for one token": {
    where: "outside",
    make: ({ model }) =>
      made("token_embd", (x, { start, count }) => {
        const width = x.length / count;
        const [token] = model.ids.slice(9);
        return start > 0 ? x : x.map((v, i) => model.ids[Math.floor(i / width)] === token ? 0 : v);
      }),
    ...seen("0", "token_embd", "zeros"),
  },
  "the last token's output after the FFN is zero": {
    on: ["random"],
    make: () =>
      made(
        "ffn_out",
        (x, { start, count }) =>
          x.map((v, i) => start === 0 && i >= x.length - x.length / count ? 0 : v),
      ),
    ...seen("6", "ffn_out", "zeros"),
  },
};
