/** Differences in few places only: what a damaged block leaves. */
import { runsText } from "../../../files/patterns/runs.ts";
import { dot } from "../../../../inspect/analyses/numbers.ts";
import type { Variant } from "../operation.ts";

/** What is left of a difference when all that is wrong is mended: rounding. */
const ROUNDING = 1e-6;
/** Sizes of blocks in ggml's types, in columns. */
const BLOCKS = [32, 64, 128, 256];
/** Positions that a fit needs for each number that it fits. */
const POSITIONS = 1.5;
/** What a fit must explain, as a share. */
const FITS = 0.99;

/**
 * The columns in which two arrays [T, width] differ, where that is in few of them; and there at nearly all positions, since a
 * wrong weight is wrong at each.
 *
 * @param most how many there may be
 */
export function wrongColumns(
  ours: Float32Array,
  theirs: Float32Array,
  width: number,
  most: number,
): number[] | undefined {
  const errors = new Float64Array(width);
  const positions = new Uint32Array(width);
  let total = 0;
  ours.forEach((value, i) => {
    const error = (value - theirs[i]) ** 2;
    errors[i % width] += error;
    if (value !== theirs[i]) positions[i % width]++;
    total += error;
  });
  if (!(total > 0)) return undefined;
  const ranked = [...errors.keys()].sort((a, b) => errors[b] - errors[a]);
  let [count, left] = [0, total];
  while (left > ROUNDING * total && count < most) left -= errors[ranked[count++]];
  const wrong = ranked.slice(0, count).sort((a, b) => a - b);
  const everywhere = 0.9 * ours.length / width;
  return left <= ROUNDING * total && wrong.every((column) => positions[column] >= everywhere)
    ? wrong
    : undefined;
}

/** Whether a run of columns lies within one block of some size that is smaller than a row. */
export function fitsBlock(first: number, last: number, columns: number): boolean {
  return BLOCKS.some((size) =>
    size < columns && Math.floor(first / size) === Math.floor(last / size)
  );
}

/** Columns of a row that are wrong; undefined where that cannot be told. */
export interface Run {
  readonly first?: number;
  readonly last?: number;
}

/** What wrong rows are: blocks that were damaged where they are wrong in a block only; whole rows of other numbers have no name. */
export function damage(
  rows: readonly number[],
  runs: readonly Run[],
  columns: number,
): Pick<Variant, "cause" | "what"> {
  const inBlocks = runs.every(({ first, last }) =>
    first !== undefined && fitsBlock(first, last!, columns)
  );
  if (!inBlocks) {
    const have = rows.length === 1 ? "has" : "have";
    return { cause: "unknown", what: `only ${runsText(rows, "rows")} ${have} other numbers` };
  }
  const [{ first, last }] = runs;
  const more = rows.length > 1 ? ` and ${rows.length - 1} more` : "";
  return { cause: "dequant-block", what: `row ${rows[0]}${more}, columns ${first} to ${last}` };
}

/** What a change of one row of a weight makes of its outputs. */
export interface RowChange {
  /** The columns that are changed. */
  readonly first: number;
  readonly last: number;
  /** The difference that it makes, [T]. */
  readonly difference: ArrayLike<number>;
}

/**
 * Explains a difference by a change of one row of a weight in a block of its columns, by least squares. Undefined where none does,
 * or where there are fewer positions than the block has numbers: anything could be.
 *
 * @param difference [T], of one output
 * @param x [T, columns]
 */
export function rowChange(difference: Float64Array, x: Float32Array): RowChange | undefined {
  const T = difference.length;
  const columns = x.length / T;
  for (const size of BLOCKS) {
    if (size * POSITIONS > T || size >= columns) break;
    for (let first = 0; first + size <= columns; first += size) {
      const run = Array.from(
        { length: size },
        (_, i) => Float64Array.from({ length: T }, (_, t) => x[t * columns + first + i]),
      );
      const fit = projection(difference, run);
      if (isExplained(difference, fit)) return { first, last: first + size - 1, difference: fit };
    }
  }
}

function isExplained(difference: Float64Array, fit: Float64Array): boolean {
  return norm(difference.map((value, t) => value - fit[t])) <= (1 - FITS) * norm(difference);
}

/** The part of a vector that lies in the span of others: by Gram–Schmidt, those that add nothing left out. */
function projection(vector: Float64Array, span: readonly Float64Array[]): Float64Array {
  const basis: Float64Array[] = [];
  for (const each of span) {
    const rest = each.slice();
    for (const b of basis) subtract(rest, b, dot(rest, b));
    const left = norm(rest);
    if (left > 1e-6 * norm(each)) basis.push(rest.map((value) => value / left));
  }
  const fit = new Float64Array(vector.length);
  for (const b of basis) subtract(fit, b, -dot(vector, b));
  return fit;
}

function norm(a: Float64Array): number {
  return Math.sqrt(dot(a, a));
}

function subtract(from: Float64Array, b: Float64Array, times: number): void {
  for (let i = 0; i < from.length; i++) from[i] -= times * b[i];
}
