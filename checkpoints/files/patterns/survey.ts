/** What can be said of each row and each column of two matrices, in one pass over both. */
import { type Numbers, pieces } from "../diff/numbers.ts";
import { type Rows, signsOf } from "./order.ts";

/** All rows, or all columns, of a and of b. */
export interface Lines {
  readonly count: number;
  /** Of each Σa², Σab, Σb² and Σ(b − a)². */
  readonly aa: Float64Array;
  readonly ab: Float64Array;
  readonly bb: Float64Array;
  readonly dd: Float64Array;
  /** By which lines are found again: as far from each other as those that they stand for, about. */
  readonly a: Rows;
  readonly b: Rows;
}

/** Both of them. */
export interface Survey {
  readonly rows: Lines;
  readonly columns: Lines;
}

/**
 * Numbers that a line is drawn together to, each the sum of many with signs (a count sketch: Charikar, Chen, Farach-Colton 2002). The
 * squared distance of two of them is that of the lines within about √(2 / 32).
 */
const SKETCH = 32;

/** Surveys two matrices of the same shape. */
export async function surveyOf(a: Numbers, b: Numbers, signal?: AbortSignal): Promise<Survey> {
  const { columns: width } = a;
  const rows = new Sums(a.rows, width);
  const columns = new Sums(width, a.rows);
  for (const [first, count] of pieces(a.together > b.together ? a : b)) {
    signal?.throwIfAborted();
    const [x, y] = [await a.read(first, count), await b.read(first, count)];
    let [row, column] = [Math.floor(first / width), first % width];
    for (let i = 0; i < count; i++) {
      rows.add(row, column, x[i], y[i]);
      columns.add(column, row, x[i], y[i]);
      if (++column === width) [row, column] = [row + 1, 0];
    }
  }
  return { rows: rows.lines(), columns: columns.lines() };
}

/** Sums of lines while their numbers come by. */
class Sums {
  readonly #aa: Float64Array;
  readonly #ab: Float64Array;
  readonly #bb: Float64Array;
  readonly #dd: Float64Array;
  readonly #a: Float64Array;
  readonly #b: Float64Array;
  /** Of each place in a line, where it is added and with which sign. */
  readonly #bins: Uint8Array;
  readonly #signs: Int8Array;

  constructor(readonly count: number, length: number) {
    [this.#aa, this.#ab, this.#bb, this.#dd] = Array.from(
      { length: 4 },
      () => new Float64Array(count),
    );
    [this.#a, this.#b] = [new Float64Array(count * SKETCH), new Float64Array(count * SKETCH)];
    const draws = signsOf(6 * length);
    this.#signs = draws.subarray(0, length);
    this.#bins = Uint8Array.from({ length }, (_, place) => {
      let bin = 0;
      for (let bit = 1; bit < 6; bit++) bin = 2 * bin + Number(draws[bit * length + place] > 0);
      return bin;
    });
  }

  add(line: number, place: number, x: number, y: number): void {
    this.#aa[line] += x * x;
    this.#ab[line] += x * y;
    this.#bb[line] += y * y;
    this.#dd[line] += (y - x) ** 2;
    const at = line * SKETCH + this.#bins[place];
    this.#a[at] += this.#signs[place] * x;
    this.#b[at] += this.#signs[place] * y;
  }

  lines(): Lines {
    const rows = (data: Float64Array): Rows => ({ count: this.count, length: SKETCH, data });
    return {
      count: this.count,
      aa: this.#aa,
      ab: this.#ab,
      bb: this.#bb,
      dd: this.#dd,
      a: rows(this.#a),
      b: rows(this.#b),
    };
  }
}
