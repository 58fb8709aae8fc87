/** Weights of a file that are others, in another order, in part zero, scaled or rounded. */
import { type Bench, type BrokenFile, type Faults, seen } from "../fault.ts";
import { TYPED_WEIGHTS, WRONG_READINGS } from "../block_layouts.ts";
import { bf16, byRow, e4m3, int8 } from "../engines/mistakes.ts";
import {
  all,
  bytesChanged,
  copied,
  exchanged,
  type FileFault,
  mapped,
  reordered,
  retyped,
} from "../../models/broken_files.ts";

/** A weight of the drawn block. */
const own = ({ layer }: Bench, name: string) => `blk.${layer}.${name}.weight`;

/** Numbers of a weight changed by their rows and columns. */
function numbers(
  name: string,
  change: (w: number, row: number, column: number, rows: number, columns: number) => number,
): FileFault {
  return mapped(
    name,
    (data, [columns, rows = 1]) =>
      data.map((w, i) => change(w, Math.floor(i / columns), i % columns, rows, columns)),
  );
}

/** Columns in another order. */
function columns(name: string, from: (column: number, columns: number) => number): FileFault {
  return mapped(
    name,
    (data, [width]) => data.map((_, i) => data[i - i % width + from(i % width, width)]),
  );
}

export const FILE_TENSORS: Faults<BrokenFile> = {
  "another layer's ffn_down": {
    where: "not last",
    make: ({ layer }) => copied(`blk.${layer + 1}.ffn_down.weight`, `blk.${layer}.ffn_down.weight`),
    ...seen("6", "ffn_out", "other-tensor"),
  },
  "another layer's Q": {
    where: "not last",
    make: ({ layer }) => copied(`blk.${layer + 1}.attn_q.weight`, `blk.${layer}.attn_q.weight`),
    ...seen("2", "q", "other-tensor"),
  },
  "K and V exchanged": {
    make: (bench) => exchanged(own(bench, "attn_k"), own(bench, "attn_v")),
    ...seen("2", "k", "other-tensor"),
  },
  "V is K": {
    make: (bench) => copied(own(bench, "attn_k"), own(bench, "attn_v")),
    ...seen("2", "v", "other-tensor"),
  },
  "up is gate": {
    make: (bench) => copied(own(bench, "ffn_gate"), own(bench, "ffn_up")),
    ...seen("6", "ffn_up", "other-tensor"),
  },
  "two blocks exchanged": {
    where: "not last",
    make: ({ layer, model }) =>
      all(
        ...[...model.engine.weights.keys()]
          .filter((name) => name.startsWith(`blk.${layer}.`))
          .map((name) => exchanged(name, name.replace(/\d+/, `${layer + 1}`))),
      ),
    ...seen("1", "attn_norm", "other-tensor"),
  },
  "blocks moved by one": {
    where: "first",
    make: ({ model, shape: { layers } }) =>
      all(
        ...[...model.engine.weights.keys()].filter((name) => name.startsWith("blk.")).map((name) =>
          copied(name.replace(/\d+/, (layer) => `${(Number(layer) + 1) % layers}`), name)
        ),
      ),
    ...seen("1", "attn_norm", "other-tensor"),
  },
  "the two norms of a block exchanged": {
    make: (bench) => exchanged(own(bench, "attn_norm"), own(bench, "ffn_norm")),
    ...seen("1", "attn_norm", "other-tensor"),
  },
  "the last block's norm as output norm": {
    where: "outside",
    make: ({ shape: { layers } }) =>
      copied(`blk.${layers - 1}.ffn_norm.weight`, "output_norm.weight"),
    ...seen("1", "output_norm", "other-tensor"),
  },
};

export const FILE_ORDERS: Faults<BrokenFile> = {
  "rows rotated by one": {
    make: (bench) => reordered(own(bench, "attn_v"), (r, n) => (r + 1) % n),
    ...seen("2", "v", "reordered"),
  },
  "rows moved up from the thirtieth on": {
    make: (bench) => reordered(own(bench, "ffn_up"), (r, n) => r < 30 ? r : Math.min(r + 1, n - 1)),
    ...seen("6", "ffn_up", "reordered"),
  },
  "two rows exchanged": {
    make: (bench) => reordered(own(bench, "ffn_gate"), (r) => r === 12 ? 40 : r === 40 ? 12 : r),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "rows backwards": {
    make: (bench) => reordered(own(bench, "ffn_gate"), (r, n) => n - 1 - r),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "halves of a matrix exchanged": {
    make: (bench) => reordered(own(bench, "ffn_up"), (r, n) => (r + n / 2) % n),
    ...seen("6", "ffn_up", "reordered"),
  },
  "shards of two devices dealt row by row": {
    make: (bench) => reordered(own(bench, "ffn_gate"), (r, n) => (r % 2) * n / 2 + (r >> 1)),
    ...seen("6", "ffn_gate", "reordered"),
  },
  "columns rotated by one": {
    make: (bench) => columns(own(bench, "ffn_down"), (c, n) => (c + 1) % n),
    ...seen("6", "ffn_out", "reordered"),
  },
  "columns of each head backwards": {
    make: (bench) => {
      const d = bench.shape.headWidth;
      return columns(own(bench, "attn_output"), (c) => c - c % d + d - 1 - c % d);
    },
    ...seen("5", "attn_out", "reordered"),
  },
  "halves of columns exchanged": {
    on: ["tiny"],
    make: (bench) => columns(own(bench, "ffn_down"), (c, n) => (c + n / 2) % n),
    ...seen("6", "ffn_out", "reordered"),
  },
  "rows of the embedding one further": {
    where: "outside",
    make: () => reordered("token_embd.weight", (r, n) => Math.min(n - 1, r + 1)),
    ...seen("0", "token_embd", "reordered"),
  },
  "rows of the output matrix one further from an added token on": {
    where: "outside",
    make: () => reordered("output.weight", (r) => r < 100 ? r : r - 1),
    ...seen("8", "logits", "reordered"),
  },
  "rows of the embedding backwards": {
    where: "outside",
    make: () => reordered("token_embd.weight", (r, n) => n - 1 - r),
    ...seen("0", "token_embd", "reordered"),
  },
  "norm weights backwards": {
    make: (bench) => mapped(own(bench, "ffn_norm"), (w) => w.toReversed()),
    ...seen("1", "ffn_norm", "reordered"),
  },
};

export const FILE_ZEROS: Faults<BrokenFile> = {
  "the last rows are zero": {
    make: (bench) => numbers(own(bench, "ffn_up"), (w, r, _c, n) => r >= n - 24 ? 0 : w),
    ...seen("6", "ffn_up", "zeros"),
  },
  "a whole matrix is zero": {
    make: (bench) => numbers(own(bench, "ffn_down"), () => 0),
    ...seen("6", "ffn_out", "zeros"),
  },
  "the last columns are zero": {
    make: (bench) => numbers(own(bench, "ffn_down"), (w, _r, c, _n, m) => c >= m - 20 ? 0 : w),
    ...seen("6", "ffn_out", "zeros"),
  },
  "the second half of columns is zero": {
    make: (bench) => numbers(own(bench, "attn_output"), (w, _r, c, _n, m) => c >= m / 2 ? 0 : w),
    ...seen("5", "attn_out", "zeros"),
  },
  "a head of V is zero": {
    make: (bench) => {
      const d = bench.shape.headWidth;
      return numbers(own(bench, "attn_v"), (w, r) => r < d ? 0 : w);
    },
    ...seen("2", "v", "zeros"),
  },
  "the end of the file is zero": {
    where: "outside",
    make: () => bytesChanged("output.weight", (bytes) => bytes.fill(0, bytes.length >> 1)),
    ...seen("8", "logits", "zeros"),
  },
  "the end of a norm is zero": {
    make: (bench) => mapped(own(bench, "attn_norm"), (w) => w.map((v, i) => i < 48 ? v : 0)),
    ...seen("1", "attn_norm", "zeros"),
  },
};

export const FILE_NUMBERS: Faults<BrokenFile> = {
  "a weight of half the size": {
    make: (bench) => mapped(own(bench, "attn_output"), (w) => w.map((v) => v / 2)),
    ...seen("5", "attn_out", "scaled"),
  },
  "the embedding times the root of its width": {
    where: "outside",
    make: ({ shape: { width } }) =>
      mapped("token_embd.weight", (w) => w.map((v) => v * Math.sqrt(width))),
    ...seen("0", "token_embd", "scaled"),
  },
  "Q times the attention scale": {
    make: (bench) =>
      mapped(own(bench, "attn_q"), (w) => w.map((v) => v / Math.sqrt(bench.shape.headWidth))),
    ...seen("2", "q", "scaled"),
    // Biases stay.
    on: ["tiny"],
  },
  "the output matrix divided by 16": {
    where: "outside",
    make: () => mapped("output.weight", (w) => w.map((v) => v / 16)),
    ...seen("8", "logits", "scaled"),
  },
  "norm weights times 8": {
    make: (bench) => mapped(own(bench, "ffn_norm"), (w) => w.map((v) => 8 * v)),
    ...seen("1", "ffn_norm", "scaled"),
  },
  "a weight with the wrong sign": {
    make: (bench) => mapped(own(bench, "ffn_up"), (w) => w.map((v) => -v)),
    ...seen("6", "ffn_up", "scaled"),
  },
  "a weight in an 8-bit float": {
    on: ["tiny"],
    make: (bench) => mapped(own(bench, "attn_v"), (w) => w.map(e4m3)),
    ...seen("2", "v", "rounded"),
  },
  "a weight in 8-bit integers by row": {
    on: ["tiny"],
    make: (bench) => mapped(own(bench, "ffn_up"), (w, [, rows]) => byRow(w, rows, int8)),
    ...seen("6", "ffn_up", "rounded"),
  },
  "a weight in 4 bits by row": {
    on: ["tiny"],
    make: (bench) =>
      mapped(own(bench, "ffn_gate"), (w, [, rows]) =>
        byRow(w, rows, (row) => {
          const scale = Math.max(...row.map(Math.abs)) / 7;
          return row.map((v) => Math.round(v / scale) * scale);
        })),
    ...seen("6", "ffn_gate", "rounded"),
  },
  "norm weights in bf16": {
    on: ["tiny"],
    make: (bench) => mapped(own(bench, "attn_norm"), (w) => w.map(bf16)),
    ...seen("1", "attn_norm", "rounded"),
  },
  "16-bit floats said to be bf16": {
    on: ["tiny"],
    make: (bench) => retyped(own(bench, "attn_v"), "BF16"),
    ...seen("2", "v", "block-layout"),
  },
  "16-bit floats in the other byte order": {
    on: ["tiny"],
    make: (bench) =>
      bytesChanged(own(bench, "attn_k"), (bytes) => {
        for (let i = 0; i < bytes.length; i += 2) {
          [bytes[i], bytes[i + 1]] = [bytes[i + 1], bytes[i]];
        }
      }),
    ...seen("2", "k", "block-layout", "nan"),
  },
  "a weight that begins 64 bytes too late": {
    on: ["tiny"],
    make: (bench) => bytesChanged(own(bench, "ffn_up"), (bytes) => bytes.copyWithin(0, 64)),
    ...seen("6", "ffn_up", "reordered", "unknown"),
  },
  "noise in a weight": {
    make: (bench) =>
      mapped(own(bench, "attn_output"), (w) => w.map((v) => v + bench.draw.normal(0.05))),
    ...seen("5", "attn_out", "unknown"),
  },
  "weights of another training step": {
    make: (bench) =>
      mapped(own(bench, "ffn_gate"), (w) => w.map((v) => v * (1 + bench.draw.normal(0.3)))),
    ...seen("6", "ffn_gate", "unknown"),
  },
};

export const FILE_BLOCKS: Faults<BrokenFile> = Object.fromEntries(
  Object.entries(WRONG_READINGS).map(([name, { type, change, also = [] }]) => {
    const [tensor, checkpoint, point] = TYPED_WEIGHTS[type];
    return [name, {
      on: ["mixed"],
      make: (bench) =>
        bytesChanged(own(bench, tensor), (bytes) => bytes.set(change(bytes.slice()))),
      ...seen(checkpoint, point, "block-layout", ...also),
    }];
  }),
);
