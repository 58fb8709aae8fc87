/** Differences in few places only: what a damaged block leaves. */

/** Rows of a weight that are wrong: at most this share, and at least one is allowed. */
const FEW = 0.03;
/** Sizes of blocks in ggml's types, in columns. */
const BLOCKS = [32, 64, 128, 256];

/** Outputs [T, rows] of which few columns differ. */
export interface DamagedColumns {
  readonly first: number;
  readonly last: number;
  readonly columns: readonly number[];
  /** Ours with those columns as the other side has them. */
  readonly mended: Float32Array;
}

/** Which of the columns of [T, width] differ, where only few of them do. */
export function damagedColumns(
  ours: Float32Array,
  theirs: Float32Array,
  width: number,
): DamagedColumns | undefined {
  const errors = new Float64Array(width);
  let total = 0;
  ours.forEach((value, i) => {
    const error = (value - theirs[i]) ** 2;
    errors[i % width] += error;
    total += error;
  });
  const ranked = [...errors.keys()].sort((a, b) => errors[b] - errors[a]);
  const most = Math.max(1, Math.floor(FEW * width), width >= 32 && width <= 4096 ? 32 : 0);
  const columns: number[] = [];
  let left = total;
  while (left > 1e-6 * total && columns.length < most) {
    columns.push(ranked[columns.length]);
    left -= errors[columns.at(-1)!];
  }
  if (!(total > 0) || left > 1e-6 * total || columns.length > width / 4) return undefined;
  columns.sort((a, b) => a - b);
  const wrong = new Set(columns);
  const mended = ours.map((value, i) => wrong.has(i % width) ? theirs[i] : value);
  return { first: columns[0], last: columns.at(-1)!, columns, mended };
}

/** A run of columns of one row of a weight. */
export interface DamagedRun {
  readonly first: number;
  readonly last: number;
  /** How much of the difference a change in this run explains, 0 to 1. */
  readonly explained: number;
}

/**
 * The run of columns in which a change of one row of a weight explains a difference: least squares of difference = X[:, run] · δ. With
 * fewer positions than columns anything could be explained, so that undefined is given.
 *
 * @param difference [T]
 * @param x [T, columns]
 */
export function damagedRun(
  difference: Float64Array,
  x: Float32Array,
  columns: number,
): DamagedRun | undefined {
  const T = difference.length;
  let best: DamagedRun | undefined;
  for (const size of BLOCKS) {
    if (size * 1.5 > T || size > columns) break;
    for (let first = 0; first + size <= columns; first += size) {
      const explained = projected(difference, x, columns, first, size);
      // A larger block explains more by itself.
      if (explained > (best?.explained ?? 0) + 0.02) {
        best = { first, last: first + size - 1, explained };
      }
    }
    if (best && best.explained > 0.999) return best;
  }
  return best;
}

/** The share of a vector that lies in the span of some columns of x: by Gram–Schmidt, columns that add nothing left out. */
function projected(
  difference: Float64Array,
  x: Float32Array,
  columns: number,
  first: number,
  size: number,
): number {
  const T = difference.length;
  const basis: Float64Array[] = [];
  const rest = difference.slice();
  const norm = (v: Float64Array) => Math.sqrt(v.reduce((sum, n) => sum + n * n, 0));
  for (let c = first; c < first + size; c++) {
    const v = Float64Array.from({ length: T }, (_, t) => x[t * columns + c]);
    const length = norm(v);
    for (const b of basis) {
      let dot = 0;
      for (let t = 0; t < T; t++) dot += v[t] * b[t];
      for (let t = 0; t < T; t++) v[t] -= dot * b[t];
    }
    const left = norm(v);
    if (left <= 1e-6 * length || left === 0) continue;
    for (let t = 0; t < T; t++) v[t] /= left;
    basis.push(v);
    let dot = 0;
    for (let t = 0; t < T; t++) dot += rest[t] * v[t];
    for (let t = 0; t < T; t++) rest[t] -= dot * v[t];
  }
  return 1 - norm(rest) / norm(difference);
}
