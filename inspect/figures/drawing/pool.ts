/** Long axes in small figures: neighbours share a cell, and the cell shows the largest of their numbers. */

/** How places along an axis become cells. */
export interface Pooling {
  /** Places in the axis. */
  readonly places: number;
  /** Neighbours that share a cell; the last cell may have fewer. */
  readonly size: number;
  readonly cells: number;
}

/** The smallest cells that are at most so many. */
export function pooling(places: number, most: number): Pooling {
  return pooledBy(places, Math.max(1, Math.ceil(places / Math.max(1, Math.floor(most)))));
}

/** Cells of a size. */
export function pooledBy(places: number, size: number): Pooling {
  return { places, size, cells: Math.ceil(places / size) };
}

/** One row of a matrix of which only a part is there. */
export interface PartialRow {
  /** The column of the first value. */
  readonly first: number;
  readonly values: Float32Array;
}

/** A pooled matrix. */
export interface Pooled {
  /** [row cells, column cells], row-major; NaN where a cell has no number. */
  readonly values: Float32Array<ArrayBuffer>;
  /** Numbers of the rows that were NaN or infinite, and count as missing. */
  readonly notFinite: number;
}

/**
 * Max pooling: each cell of the matrix is the largest of its finite numbers. What no row covers is missing, not zero.
 *
 * @param rows in the order of the matrix; undefined for one that is not there
 */
export function maxPool(
  rows: Iterable<PartialRow | undefined>,
  vertical: Pooling,
  horizontal: Pooling,
): Pooled {
  const { cells } = horizontal;
  const values = new Float32Array(vertical.cells * cells).fill(NaN);
  let notFinite = 0;
  let row = 0;
  for (const partial of rows) {
    const into = Math.floor(row++ / vertical.size) * cells;
    if (!partial) continue;
    // Counted along, since a division per number would take most of the time.
    let cell = into + Math.floor(partial.first / horizontal.size);
    let left = horizontal.size - partial.first % horizontal.size;
    for (const value of partial.values) {
      if (value - value !== 0) notFinite++;
      else if (!(values[cell] >= value)) values[cell] = value;
      if (--left === 0) {
        left = horizontal.size;
        cell++;
      }
    }
  }
  return { values, notFinite };
}

/**
 * The same for any numbers, by place: which of the numbers that share a cell it shows, so that their hovers can be found too.
 *
 * @param value NaN and infinities are missing
 * @param by the largest number, or the one of largest magnitude with its sign
 * @returns `row × columns + column` of each cell [row cells, column cells]; −1 where it has no number
 */
export function chosenPlaces(
  value: (row: number, column: number) => number,
  vertical: Pooling,
  horizontal: Pooling,
  by: "largest" | "magnitude",
): Int32Array {
  const chosen = new Int32Array(vertical.cells * horizontal.cells).fill(-1);
  const best = new Float64Array(chosen.length).fill(-Infinity);
  for (let row = 0; row < vertical.places; row++) {
    const first = Math.floor(row / vertical.size) * horizontal.cells;
    for (let column = 0; column < horizontal.places; column++) {
      const own = value(row, column);
      if (!Number.isFinite(own)) continue;
      const rank = by === "magnitude" ? Math.abs(own) : own;
      const cell = first + Math.floor(column / horizontal.size);
      if (chosen[cell] >= 0 && rank <= best[cell]) continue;
      chosen[cell] = row * horizontal.places + column;
      best[cell] = rank;
    }
  }
  return chosen;
}
