/** One weight in two files that store it in different types: what rounding makes of it is expected, what is there is measured. */
import { sizeOf } from "../../../base/shape.ts";
import { dequantize, isDequantizable } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../../../engine/gguf/reader.ts";
import {
  expectedSquares,
  isCoarser,
  isPlain,
  plainlyRounded,
  runWidth,
} from "./expected_rounding.ts";

/**
 * How many times the expected square a run's mean squared error may be. A number is off by half a step at most, three times the
 * expected square, and by as much more from rounded scales and minimums: 9 in all. 5.1 was measured of llama.cpp's plain types without importance matrices, of
 * weights near the smallest 16-bit scale; other numbers in a block of Q2_K, the coarsest, have 20 to 60, in one of Q8_0 50,000.
 */
export const RUN_LIMIT = 12;
/** The same of the mean over a row's runs. 2.4 was measured. */
export const ROW_LIMIT = 4;
/**
 * The same of runs and rows that an importance matrix may have given up, each error weighted by what it is multiplied by. A scale that is
 * chosen for one number alone, of code 1, is off by half of itself at most. 33 was measured of runs; the row's is a margin of two.
 */
export const GIVEN_UP = { run: 120, row: 8, factors: [0.45, 1.6] } as const;

/**
 * How far rounding may scale all weights beyond what plain rounding does: so many times the relative square of its errors r, r more
 * where most numbers are lost, and a little in any case. A fifth of that was measured on the embedded model and SmolLM2, without importance matrices.
 */
const SHRINKING = 1.5;
const SCALE_LIMIT = 2e-3;

/** Rows that tell of a scale, about, spread over a weight. */
const ROWS_FOR_SCALE = 512;

/** Numbers that are read at a time, about. */
const PIECE = 2 ** 20;
/** Runs, and rows, beyond their limits that are looked at with the activations: those that are farthest. */
const MOST_RUNS = 256;
const MOST_ROWS = 16;
/** Errors below this have no meaning; keeps quotients of nothing apart from those of something. */
const NOTHING = 1e-36;

/** Numbers of a row whose error is beyond what is usual. */
export interface Excess {
  readonly row: number;
  /** The first of its columns. */
  readonly column: number;
  /** Mean square of the errors as a multiple of what is expected. */
  readonly ratio: number;
  /** How large the numbers are in the file that has them coarser, as a factor of what they are in the other one. */
  readonly factor: number;
  /** Squared error of each number. */
  readonly squares: Float32Array;
  /** Expected square of each number's error. */
  readonly expected: Float32Array;
}

/** What two files have of one weight, [rows, columns]. */
export interface WeightRounding {
  readonly name: string;
  readonly types: readonly [ours: string, theirs: string];
  readonly rows: number;
  readonly columns: number;
  /** Numbers for which one variance holds. */
  readonly width: number;
  /**
   * Variance of a number's error, [rows, runs of a row]: what is expected, or what is there as far as that is within its limit. Of
   * blocks that an importance matrix gave up there is more than expected.
   */
  readonly variances: Float32Array;
  /** The run that is farthest beyond its limit and whose numbers are in another order: no rounding does that. */
  readonly disordered?: Excess;
  /** Other runs beyond the limit. Quantizers that know which columns matter may have given the rest up. */
  readonly runs: readonly Excess[];
  /** Rows beyond the limit. */
  readonly wrongRows: readonly Excess[];
  /** By how much the errors scale all weights, by how much those of plain rounding would, and how much more it may be. */
  readonly scale: { readonly slope: number; readonly plain: number; readonly limit: number };
  /** Largest of the runs' ratios within the limit, and where; the same of rows. */
  readonly usual: { readonly run: Place; readonly row: Place };
}

/** A ratio and where it is. */
interface Place {
  readonly ratio: number;
  readonly row: number;
  readonly column: number;
}

/** Numbers of a weight in both files, some rows at a time. */
export async function* bothRows(
  [ours, theirs]: readonly [GgufFile, GgufFile],
  [a, b]: readonly [TensorInfo, TensorInfo],
): AsyncGenerator<{ first: number; ours: Float32Array; theirs: Float32Array }> {
  const columns = a.shape[0];
  const rows = sizeOf(a.shape.slice(1));
  const step = Math.max(1, Math.floor(PIECE / columns));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    yield {
      first,
      ours: await readRows(ours, a, first, count),
      theirs: await readRows(theirs, b, first, count),
    };
  }
}

/** Some rows of a weight as numbers. */
export async function readRows(
  file: GgufFile,
  tensor: TensorInfo,
  first: number,
  count: number,
): Promise<Float32Array> {
  const rowBytes = tensor.bytes / sizeOf(tensor.shape.slice(1));
  return dequantize(tensor.type, await file.readTensor(tensor, first * rowBytes, count * rowBytes));
}

/** Whether something is known of what the types cost. */
export function isKnown({ type }: TensorInfo): boolean {
  return isDequantizable(type) && runWidth(type.name) !== undefined;
}

/** Reads a weight of both files once; undefined where all numbers are the same. */
export async function weightRounding(
  files: readonly [GgufFile, GgufFile],
  tensors: readonly [TensorInfo, TensorInfo],
): Promise<WeightRounding | undefined> {
  const scan = new Scan(tensors);
  for await (const { first, ours, theirs } of bothRows(files, tensors)) {
    scan.add(first, ours, theirs);
  }
  return scan.differs ? scan.result() : undefined;
}

class Scan {
  differs = false;
  readonly #name: string;
  readonly #types: readonly [string, string];
  readonly #rows: number;
  readonly #columns: number;
  readonly #width: number;
  readonly #variances: Float32Array;
  readonly #usual: { run: Place; row: Place };
  readonly #slope = new Slope();
  readonly #plain = new Slope();
  #disordered: Excess | undefined;
  readonly #runs = new Farthest(MOST_RUNS);
  readonly #wrongRows = new Farthest(MOST_ROWS);

  constructor([a, b]: readonly [TensorInfo, TensorInfo]) {
    this.#name = a.name;
    this.#types = [a.type.name, b.type.name];
    this.#columns = a.shape[0];
    this.#rows = sizeOf(a.shape.slice(1));
    this.#width = Math.min(runWidth(a.type.name)!, runWidth(b.type.name)!);
    this.#variances = new Float32Array(this.#rows * Math.ceil(this.#columns / this.#width));
    const none = { ratio: 0, row: 0, column: 0 };
    this.#usual = { run: none, row: none };
  }

  add(first: number, ours: Float32Array, theirs: Float32Array): void {
    const [columns, width] = [this.#columns, this.#width];
    const perRow = Math.ceil(columns / width);
    // Where there is no error, none is to be expected.
    if (ours.every((value, i) => value === theirs[i])) return;
    const { least: expected, most } = this.#expected(ours, theirs);
    const [a, b] = this.#types;
    const [coarse, fine] = isCoarser(b, a) ? [theirs, ours] : [ours, theirs];
    const here = ours.length / columns;
    const some = Math.min(here, Math.ceil(ROWS_FOR_SCALE * here / this.#rows));
    const [count, runs] = [some * columns, some * perRow];
    const exact = fine.subarray(0, count);
    const plain = plainlyRounded(isCoarser(b, a) ? b : a, exact);
    const own = expected.subarray(0, runs);
    this.#slope.add(coarse.subarray(0, count), exact, own, width, columns);
    this.#plain.add(plain, exact, own, width, columns);
    for (let row = 0, at = 0; at < ours.length; row++) {
      const start = at;
      let total = 0;
      for (let run = row * perRow; run < (row + 1) * perRow; run++) {
        const from = at;
        const end = Math.min(at + width, start + columns);
        let sum = 0;
        for (; at < end; at++) {
          const error = ours[at] - theirs[at];
          sum += error * error;
        }
        if (sum !== 0) this.differs = true;
        const mean = sum / (end - from);
        const found = mean / (expected[run] + NOTHING);
        const ratio = Number.isNaN(found) ? Infinity : found;
        total += ratio;
        const place = { row: first + row, column: from - start, ratio };
        if (ratio > RUN_LIMIT) {
          this.#note(place, coarse.subarray(from, end), fine.subarray(from, end), expected[run]);
        } else if (ratio > this.#usual.run.ratio) this.#usual.run = place;
        this.#variances[first * perRow + run] = Math.max(
          most[run],
          expected[run] * Math.min(RUN_LIMIT, ratio),
        );
      }
      const place = { row: first + row, column: 0, ratio: total / perRow };
      if (place.ratio > ROW_LIMIT) {
        const both = [coarse, fine].map((side) => side.subarray(start, at));
        const own = expected.subarray(row * perRow, (row + 1) * perRow);
        this.#wrongRows.add(place.ratio, () => excess(place, both, own, width));
      } else if (place.ratio > this.#usual.row.ratio) this.#usual.row = place;
    }
  }

  /** By run: what both types cost, from the numbers of the file that has it cheaper, so that none excuses itself; and of the other. */
  #expected(ours: Float32Array, theirs: Float32Array) {
    const perRow = Math.ceil(this.#columns / this.#width);
    const least = new Float32Array(ours.length / this.#columns * perRow);
    const most = least.slice();
    for (const type of this.#types) {
      if (type === "F32") continue;
      const [a, b] = [ours, theirs].map((side) => expectedSquares(type, side, this.#columns));
      const own = a.length;
      const [c, d] = isPlain(type)
        ? [ours, theirs].map((side) => expectedSquares(type, side, this.#columns, "largest"))
        : [a, b];
      const times = least.length / own;
      for (let run = 0; run < least.length; run++) {
        const from = times === 1 ? run : Math.floor(run / times);
        least[run] += Math.min(a[from], b[from]);
        most[run] += Math.max(c[from], d[from]);
      }
    }
    return { least, most };
  }

  #note(place: Place, coarse: Float32Array, fine: Float32Array, expected: number): void {
    const found = () => excess(place, [coarse, fine], Float32Array.of(expected), fine.length);
    if (place.ratio > (this.#disordered?.ratio ?? 0)) {
      if (isDisordered(coarse, fine, Math.sqrt(12 * expected))) this.#disordered = found();
    }
    this.#runs.add(place.ratio, found);
  }

  result(): WeightRounding {
    const relative = this.#slope.count / this.#slope.norm;
    return {
      name: this.#name,
      types: this.#types,
      rows: this.#rows,
      columns: this.#columns,
      width: this.#width,
      variances: this.#variances,
      disordered: this.#disordered,
      runs: this.#runs.all,
      wrongRows: this.#wrongRows.all,
      scale: {
        slope: this.#slope.value,
        plain: this.#plain.value,
        limit: SHRINKING * relative * (1 + relative) + SCALE_LIMIT,
      },
      usual: this.#usual,
    };
  }
}

/** By how much the errors of rounded numbers scale them, each run weighted by what is expected of it. */
class Slope {
  count = 0;
  norm = 0;
  #product = 0;

  get value(): number {
    return this.norm > 0 ? this.#product / this.norm : 0;
  }

  add(
    rounded: Float32Array,
    exact: Float32Array,
    expected: Float32Array,
    width: number,
    columns: number,
  ): void {
    this.count += rounded.length;
    for (let start = 0, run = 0; start < rounded.length; start += columns) {
      for (let from = start; from < start + columns; from += width, run++) {
        let [product, norm] = [0, 0];
        const end = Math.min(from + width, start + columns);
        for (let i = from; i < end; i++) {
          product += (rounded[i] - exact[i]) * rounded[i];
          norm += rounded[i] * rounded[i];
        }
        if (!(norm < Infinity)) continue;
        this.#product += product / (expected[run] + NOTHING);
        this.norm += norm / (expected[run] + NOTHING);
      }
    }
  }
}

/** The largest excesses of many. */
class Farthest {
  readonly all: Excess[] = [];
  readonly #most: number;
  #least = 0;

  constructor(most: number) {
    this.#most = most;
  }

  add(ratio: number, make: () => Excess): void {
    const { all } = this;
    if (all.length === this.#most) {
      if (ratio <= all[this.#least].ratio) return;
      all[this.#least] = make();
    } else all.push(make());
    if (all.length < this.#most) return;
    this.#least = all.reduce((least, { ratio }, i) => ratio < all[least].ratio ? i : least, 0);
  }
}

function excess(
  place: Place,
  [coarse, fine]: readonly Float32Array[],
  expected: Float32Array,
  width: number,
): Excess {
  let [product, norm] = [0, 0];
  coarse.forEach((value, i) => {
    product += value * fine[i];
    norm += fine[i] * fine[i];
  });
  return {
    ...place,
    factor: product / norm,
    squares: coarse.map((value, i) => (value - fine[i]) ** 2),
    expected: coarse.map((_, i) => expected[Math.floor(i / width)]),
  };
}

/** Whether two numbers that are more than a step apart are the other way round in the other file. */
function isDisordered(a: Float32Array, b: Float32Array, step: number): boolean {
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < a.length; j++) {
      if (a[j] - a[i] > step && b[j] < b[i]) return true;
    }
  }
  return false;
}
