/** Whether one matrix is another one transposed. */
import { type Numbers, pieces } from "./numbers.ts";

/** Rows that are looked at: a transposed matrix is nowhere right but on its diagonal. */
const SAMPLED_ROWS = 16;

/**
 * The NMSE of some rows of `a` [m, n] against the same columns of `b` [n, m], in one pass over `b`.
 *
 * @returns Infinity where the shapes are not each other's reverse
 */
export async function transposedNmse(
  a: Numbers,
  b: Numbers,
  signal?: AbortSignal,
): Promise<number> {
  if (a.rows !== b.columns || a.columns !== b.rows || a.rows < 2 || a.columns < 2) return Infinity;
  const count = Math.min(SAMPLED_ROWS, a.rows);
  const sampled = Array.from({ length: count }, (_, i) => Math.floor(i * a.rows / count));
  const columns = sampled.map(() => new Float32Array(b.rows));
  for (const [first, length] of pieces(b)) {
    signal?.throwIfAborted();
    const piece = await b.read(first, length);
    sampled.forEach((column, i) => {
      // The first place of this column in the piece, then one in every row.
      const start = (column - first % b.columns + b.columns) % b.columns;
      for (let at = start; at < length; at += b.columns) {
        columns[i][Math.floor((first + at) / b.columns)] = piece[at];
      }
    });
  }
  let [dd, aa] = [0, 0];
  for (const [i, row] of sampled.entries()) {
    const numbers = await a.read(row * a.columns, a.columns);
    numbers.forEach((value, at) => {
      dd += (columns[i][at] - value) ** 2;
      aa += value * value;
    });
  }
  return dd === 0 ? 0 : dd / aa;
}
