/** Tensors as streams of numbers, seen in other orders. */
import { sizeOf } from "../../../base/shape.ts";
import { CAUSES } from "../../diagnosis/causes.ts";
import type { Weight } from "../weight_file.ts";

/** A matrix whose numbers are read a piece at a time; vectors have one row. */
export interface Numbers {
  readonly rows: number;
  readonly columns: number;
  /** Rows that are best read together: those of a head where they change places. */
  readonly together: number;
  /** Numbers from `first` on, row-major. */
  read(first: number, count: number): Promise<Float32Array>;
  /** The same with blocks read in other layouts, which are said in words. */
  readonly misread?: Weight["misread"];
}

/** Heads are read whole where their rows change places: not more numbers than this. */
const MOST_TOGETHER = 2 ** 21;

/** A weight as it is stored; undefined where its type is not read. */
export function numbersOf({ shape, read, misread }: Weight): Numbers | undefined {
  const columns = shape.at(-1) ?? 1;
  const rows = sizeOf(shape.slice(0, -1));
  return read && { rows, columns, together: 1, read, misread };
}

/** Which numbers of a head RoPE turns. */
export interface HeadLayout {
  /** Rows of a head. */
  readonly width: number;
  /** Of these, how many are turned, from the first on. */
  readonly rope: number;
}

/**
 * A matrix with the rows of each head in the other RoPE order; biases are a column of such rows. Undefined where its rows are no
 * whole heads.
 */
export function inOtherOrder(
  numbers: Numbers,
  to: "adjacent" | "half",
  heads: HeadLayout,
): Numbers | undefined {
  // A bias's only row is what its heads are in.
  const { rows, columns } = numbers.rows === 1 ? { rows: numbers.columns, columns: 1 } : numbers;
  const { width, rope } = heads;
  if (!(width > 0) || rows % width !== 0 || rope % 2 !== 0 || rope > width) return undefined;
  if (width * columns > MOST_TOGETHER) return undefined;
  const sources = CAUSES["qk-permuted"].undo[to](1, { headWidth: width, ropeWidth: rope });
  const head = width * columns;
  return {
    rows: numbers.rows,
    columns: numbers.columns,
    together: width,
    async read(first, count) {
      const from = Math.floor(first / head) * head;
      const to = Math.ceil((first + count) / head) * head;
      const stored = await numbers.read(from, to - from);
      const moved = new Float32Array(stored.length);
      for (let at = 0; at < stored.length; at += columns) {
        const row = at / columns % width;
        const source = at + (sources[row] - row) * columns;
        moved.set(stored.subarray(source, source + columns), at);
      }
      return moved.subarray(first - from, first - from + count);
    },
  };
}

/** Numbers that are read at once, at most: 4 MiB. */
export const PIECE = 2 ** 20;

/** Where to cut a tensor into pieces: at whole heads and whole blocks, where those fit. */
export function* pieces(
  { rows, columns, together }: Numbers,
  most = PIECE,
): Generator<[first: number, count: number]> {
  const total = rows * columns;
  const unit = together > 1 ? together * (rows === 1 ? 1 : columns) : 1;
  const piece = Math.max(unit, Math.floor(most / unit) * unit);
  for (let first = 0; first < total; first += piece) yield [first, Math.min(piece, total - first)];
}
