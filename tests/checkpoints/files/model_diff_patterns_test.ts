/** `task model diff`: rows and columns in another order, zeros, factors, other tensors' numbers; in every type of weight. */
import { Random } from "../../../checkpoints/files/random.ts";
import type { DiffCause } from "../../../checkpoints/files/diff/diff.ts";
import { assertFound, type Change, edit, type Tensor } from "../../support/models/diff_samples.ts";

/** Types that tell apart what is exact and what is rounded. */
const TYPES = ["F16", "Q4_0"];

function rows(
  { shape: [count, columns], data }: Tensor,
  from: (row: number, rows: number) => number,
) {
  return data.map((_, i) => data[from(Math.floor(i / columns), count) * columns + i % columns]);
}

function columns({ shape, data }: Tensor, from: (column: number, columns: number) => number) {
  const count = shape.at(-1)!;
  return data.map((_, i) => data[i - i % count + from(i % count, count)]);
}

type Fault = readonly [
  name: string,
  change: (tensor: Tensor) => Float32Array,
  cause: DiffCause,
  detail: RegExp,
];

const FAULTS: Readonly<Record<string, Fault>> = {
  "rows rotated": [
    "blk.1.ffn_up.weight",
    (tensor) => rows(tensor, (r, n) => (r + 7) % n),
    "reordered",
    /^rows are rotated by 7: at 0 stands 7$/,
  ],
  "rows shifted from one on": [
    "blk.2.ffn_gate.weight",
    (tensor) => rows(tensor, (r, n) => r < 100 ? r : Math.min(n - 1, r + 2)),
    "reordered",
    /^rows are shifted by 2 from 100 on/,
  ],
  "two rows exchanged": [
    "blk.0.ffn_down.weight",
    (tensor) => rows(tensor, (r) => r === 3 ? 9 : r === 9 ? 3 : r),
    "reordered",
    /^rows 3 and 9 are exchanged$/,
  ],
  "rows reversed within heads": [
    "blk.0.attn_v.weight",
    (tensor) => rows(tensor, (r) => r - r % 32 + 31 - r % 32),
    "reordered",
    /^rows are in reverse order within each 32$/,
  ],
  "blocks of rows moved": [
    "blk.0.ffn_up.weight",
    (tensor) => rows(tensor, (r, n) => r < n / 2 ? r + n / 2 : r - n / 2),
    "reordered",
    /^the two halves of the rows are exchanged$/,
  ],
  "columns exchanged": [
    "blk.0.ffn_down.weight",
    (tensor) => columns(tensor, (c) => c < 32 ? c + 64 : c >= 64 && c < 96 ? c - 64 : c),
    "reordered",
    /^columns 0 to 31 and 64 to 95 are exchanged$/,
  ],
  "the last rows zero": [
    "blk.3.ffn_down.weight",
    ({ shape: [, n], data }) => data.map((v, i) => i >= data.length - 5 * n ? 0 : v),
    "zeros",
    /^rows \d+ to \d+ are zero$/,
  ],
  "columns zero": [
    "blk.3.ffn_down.weight",
    ({ shape: [, n], data }) => data.map((v, i) => i % n >= n - 32 ? 0 : v),
    "zeros",
    /^columns \d+ to \d+ are zero$/,
  ],
  "rows times two": [
    "blk.1.ffn_up.weight",
    ({ shape: [, n], data }) => data.map((v, i) => i >= 64 * n && i < 128 * n ? 2 * v : v),
    "scaled",
    /^rows 64 to 127 times (2|1\.9\d+ \(about 2\))$/,
  ],
  "a factor of √D": [
    "blk.1.ffn_up.weight",
    ({ data }) => data.map((v) => 16 * v),
    "scaled",
    /^A's times (16 \(√D, 16\)|1[56]\.\d+ \(about √D, 16\))$/,
  ],
  "a row of other numbers": [
    "blk.1.ffn_up.weight",
    ({ shape: [, n], data }) => {
      const draw = new Random(3);
      return data.map((v, i) => Math.floor(i / n) === 20 ? draw.normal(0.05) : v);
    },
    "unknown",
    /^row 20 has other numbers$/,
  ],
};

for (const [name, [tensor, change, cause, detail]] of Object.entries(FAULTS)) {
  Deno.test(`model diff: ${name}`, async () => {
    for (const type of TYPES) {
      const broken = edit(tensor, (each) => void (each.data = change(each)));
      await assertFound({ ...broken, type }, { [tensor]: cause }, detail);
    }
  });
}

Deno.test("model diff: K is V, and a norm is another layer's", async () => {
  const copied = (from: string, to: string): Change => ({
    tensors: (all) => void (all.get(to)!.data = all.get(from)!.data.slice()),
  });
  for (
    const [from, to] of [
      ["blk.2.attn_v.weight", "blk.2.attn_k.weight"],
      ["blk.3.ffn_down.weight", "blk.2.ffn_down.weight"],
      ["blk.4.attn_norm.weight", "blk.2.attn_norm.weight"],
      ["blk.2.ffn_up.weight", "blk.2.ffn_gate.weight"],
    ]
  ) {
    const detail = new RegExp(`^it holds the numbers of A's ${from.replaceAll(".", "\\.")}$`);
    await assertFound({ ...copied(from, to), type: "Q8_0" }, { [to]: "other-tensor" }, detail);
  }
});

Deno.test("model diff: a norm's numbers rotated, and some of them zero", async () => {
  const name = "blk.2.ffn_norm.weight";
  const norm = (change: (data: Float32Array) => Float32Array) =>
    edit(name, (tensor) => void (tensor.data = change(tensor.data)));
  await assertFound(
    norm((data) => data.map((_, i) => data[(i + 1) % data.length])),
    { [name]: "reordered" },
    /rotated by 1/,
  );
  await assertFound(
    norm((data) => data.map((v, i) => i >= 250 ? 0 : v)),
    { [name]: "zeros" },
    /^numbers 250 to 255 are zero$/,
  );
});
