/** Cases of kernels over packed weights. */
import type { Kernel, Operation } from "../../kernels/kernel.ts";
import { ACTIVATIONS } from "../../kernels/elementwise/activations.ts";
import { canNorm } from "../../kernels/products/products.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import {
  COLUMNS,
  type Draft,
  FEW,
  KINDS,
  type Maker,
  MANY,
  type Order,
  passOf,
  SPARE_SLOTS,
} from "./case.ts";
import { branchGaps, numbersReader, packMatrices, randomBlocks, turns } from "./data.ts";

/** Columns that whole blocks fill. */
export const BLOCK_COLUMNS: Readonly<Record<number, readonly number[]>> = {
  1: COLUMNS,
  32: [32, 64, 96, 256, 576, 1024, 4096, 11008],
  256: [256, 512, 768, 4096, 11008],
};

/** Rows of a matrix, to be gone through in a circle. */
const ROWS = [65, 1, 130, 7, 64, 9, 8, 63, 2, 3];
/** Products with more multiplications than this take too long in the twin. */
export const MOST_WORK = 4e6;

/** Rows of a product's matrices, by epilogue. */
function matrixRows(kernel: Kernel, rows: number): number[] {
  if (kernel.epilogue === "glu") return [rows, rows];
  // Queries, keys and values end inside of tiles.
  if (kernel.epilogue === "qkv") return [rows, Math.ceil(rows / 3), Math.ceil(rows / 3)];
  return [rows];
}

const NORM_TAPS = new Set(["norm", "rms", "pre"]);

/** As many heads as fit; widths that are no multiple of eight among them. */
function headsOf(columns: number): number {
  return [9, 8, 7, 5].find((heads) => columns % heads === 0) ?? 1;
}

function* linear(order: Order): Generator<Draft> {
  const { kernel, packing, full, noise } = order;
  if (kernel.epilogue === "qkv_rope") return yield* qkvRope(order);
  const { normed } = kernel;
  const many = kernel.positions === "many";
  const all = BLOCK_COLUMNS[packing.blockSize].filter((columns) => !normed || canNorm(columns));
  const columnsList = full
    ? all
    : packing.blockSize === 1
    ? [normed ? 72 : 65, 136]
    : all.slice(2, 3);
  // One that is compiled in, for each weight type: the most common one where little time is.
  const place = [...PACKINGS.keys()].indexOf(packing.name);
  const activation = full ? place % ACTIVATIONS.length : 0;
  let i = 0;
  for (const columns of columnsList) {
    for (const kind of KINDS) {
      const shape = full ? { rows: ROWS[i % 10], tokens: many ? MANY[i % 11] : FEW[i * 3 % 10] } : {
        rows: 19,
        // The processor's kernels for quants take up to fifteen for few.
        tokens: many ? 17 : 2,
      };
      i++;
      // As in the engine: rows of x that matvec reads by fours begin at multiples of four.
      const tokens = Math.min(
        !many && columns % 4 ? 1 : shape.tokens,
        Math.ceil(MOST_WORK / columns / shape.rows),
      );
      const split = matrixRows(kernel, shape.rows);
      const total = split.reduce((sum, count) => sum + count, 0);
      const packed = packMatrices(
        packing,
        columns,
        split,
        randomBlocks(packing, total * columns, noise, kind),
      );
      const one = split.length === 1;
      const heads = kernel.constants.heads ? headsOf(columns) : 1;
      const inputs = [noise.numbers(tokens * columns, kind)];
      if (kernel.bindings[2].kind === "input") inputs.push(noise.numbers(tokens * total, kind));
      yield {
        name: `${columns} columns, ${split.join(" + ")} rows, ${tokens} positions`,
        kind,
        pass: passOf(tokens, i % 3),
        constants: {
          ...(split.length === 3
            ? { columns, rows: total, out_row: split[0], out_rows: split[1] }
            : { columns, rows: split[0], out_row: 0, out_rows: split[0] }),
          ...{ heads, epsilon: 1e-5, head_width: 0, rope_width: 0, half_style: 0, rope_start: 0 },
          activation,
        },
        inputs,
        weights: normed
          ? [...packed.readers, numbersReader(noise.numbers(columns, kind), columns)]
          : packed.readers,
        packed,
        parts: one && kind === "real" ? Math.min(3, total) : 1,
        outputs: [
          ...(split.length === 3
            ? split.map((rows) => tokens * rows)
            : kernel.bindings.filter(({ kind, name }) =>
              (kind === "output" || kind === "tap") && !NORM_TAPS.has(name)
            ).map(() => tokens * split[0] * heads)),
          ...(normed ? [tokens * columns, tokens, tokens * columns] : []),
        ],
      };
    }
  }
}

/** Heads, key/value heads and their width. */
const QKV_HEADS: readonly (readonly [number, number, number])[] = [
  [3, 1, 6],
  [4, 2, 16],
  [1, 1, 2],
  [9, 3, 64],
  [2, 2, 10],
];

/** q, k and v with RoPE and the cache: both styles, whole heads and parts of them. */
function* qkvRope({ packing, full, noise }: Order): Generator<Draft> {
  const all = BLOCK_COLUMNS[packing.blockSize].filter(canNorm);
  const columnsList = full ? all.slice(0, 5) : all.slice(1, 2);
  for (const [i, columns] of columnsList.entries()) {
    for (const half_style of [0, 1]) {
      const [heads, kvHeads, head_width] = QKV_HEADS[(2 * i + half_style + (full ? 0 : 1)) % 5];
      const tokens = Math.min(FEW[(i * 3 + half_style) % 10], 7);
      const start = (i + 1) % 3;
      const split = [heads, kvHeads, kvHeads].map((count) => count * head_width);
      const total = split.reduce((sum, count) => sum + count, 0);
      const packed = packMatrices(
        packing,
        columns,
        split,
        randomBlocks(packing, total * columns, noise, "real"),
      );
      const rope_width = head_width >= 8 && i % 2 ? head_width / 2 : head_width;
      const rope_start = half_style ? head_width - rope_width : 0;
      const table = turns(noise, start + tokens, rope_width);
      const [q, k, v] = split.map((rows) => tokens * rows);
      const slots = (start + tokens + SPARE_SLOTS) * split[1];
      yield {
        name: `${columns} columns, ${heads}/${kvHeads} heads of ${head_width}, ${tokens} positions`,
        pass: passOf(tokens, start),
        constants: {
          ...{ columns, rows: total, out_row: split[0], out_rows: split[1] },
          ...{ heads: 0, epsilon: 1e-5, head_width, rope_width, half_style, rope_start },
        },
        inputs: [noise.numbers(tokens * columns), table],
        weights: [...packed.readers, numbersReader(noise.numbers(columns), columns)],
        packed,
        outputs: [q, slots, slots, q, k, v, k, tokens * columns, tokens, tokens * columns],
      };
    }
  }
}

/** Rows by ids, or by the positions of passes after some others, of branches too. */
function* embedding({ kernel, packing, full, noise }: Order): Generator<Draft> {
  const all = BLOCK_COLUMNS[packing.blockSize];
  const ofPositions = kernel.operation === "embed_positions";
  let i = 0;
  for (const columns of full ? all : [all.at(-5)!]) {
    const tokens = full ? MANY[i % 11] : 24;
    const start = ofPositions ? i % 4 : 0;
    const rows = ofPositions ? start + tokens + i % 3 : full ? ROWS[i % 10] : 20;
    const packed = packMatrices(
      packing,
      columns,
      [rows],
      randomBlocks(packing, rows * columns, noise, "real"),
    );
    const parts = full ? Math.min(1 + i++ % 3, rows) : 2;
    const ids = () => Float32Array.from({ length: tokens }, () => noise.bits() % rows);
    yield {
      name: `${columns} columns, ${rows} rows, ${tokens} positions`,
      pass: passOf(tokens, start),
      constants: { columns, rows, out_row: 0, out_rows: rows },
      inputs: ofPositions ? kernel.branches ? [branchGaps({ tokens, start })] : [] : [ids()],
      weights: packed.readers,
      packed,
      parts,
      outputs: [tokens * columns],
    };
  }
}

/** Makers by operation. */
export const PRODUCT_CASES = {
  embed: embedding,
  embed_positions: embedding,
  linear,
  head_result: linear,
} satisfies Partial<Record<Operation, Maker>>;
