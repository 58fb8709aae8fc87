/** A trace's numbers, however they are given. */
import type { Heatmap, Matrix, Numbers, PackedNumbers } from "../figure.ts";
import { unpacked } from "../numbers.ts";

/** A list of numbers or, on a category axis, words. Gaps are NaN. */
export function listOf(values: Numbers | readonly string[]): readonly (number | string)[] {
  if (isPacked(values)) return Array.from(unpacked(values));
  return values.map((value) => value ?? NaN);
}

/** A matrix by rows. Gaps are null or not finite: see {@linkcode isNumber}. */
export function matrixOf(matrix: Matrix): readonly ArrayLike<number | null>[] {
  if (!isPacked(matrix)) return matrix;
  const values = unpacked(matrix);
  const [rows, columns] = (matrix.shape ?? `1, ${values.length}`).split(",").map(Number);
  return Array.from({ length: rows }, (_, r) => values.subarray(r * columns, (r + 1) * columns));
}

/** Whether there is a number, and not a gap. */
export function isNumber(value: number | null): value is number {
  return Number.isFinite(value);
}

function isPacked(values: Matrix | Numbers | readonly string[]): values is PackedNumbers {
  return "bdata" in values;
}

/** Borders of a heatmap's cells, one more than there are cells: halfway between the centres. */
export function cellEdges(
  { z, x, y }: Heatmap,
): { readonly x: readonly number[]; readonly y: readonly number[] } {
  const rows = matrixOf(z);
  const columns = Math.max(0, ...rows.map(({ length }) => length));
  return {
    x: edges(x ?? Array.from({ length: columns }, (_, i) => i)),
    y: edges(y ?? Array.from(rows, (_, i) => i)),
  };
}

function edges(centres: readonly number[]): number[] {
  if (centres.length < 2) return centres.flatMap((centre) => [centre - 0.5, centre + 0.5]);
  const between = centres.slice(1).map((centre, i) => (centres[i] + centre) / 2);
  const [first, last] = [centres[0], centres.at(-1)!];
  return [2 * first - between[0], ...between, 2 * last - between.at(-1)!];
}
