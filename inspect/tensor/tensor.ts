/** Small views of captured tensors, for recomputations of three lines in a notebook. */
import { softmax } from "../softmax.ts";
import { sizeOf } from "../../base/shape.ts";
import {
  describe,
  type Labels,
  type Layout,
  nest,
  type Nested,
  offsets,
  rowMajor,
} from "./layout.ts";

export type { Labels, Nested } from "./layout.ts";

/** How a {@linkcode TensorView} lies over its numbers. */
export interface ViewOptions {
  /** Distance in `data` of neighbours along each axis; row-major without it. */
  readonly strides?: readonly number[];
  /** Where in `data` the first number lies. */
  readonly offset?: number;
  /** Shown with the tensor. */
  readonly name?: string;
  /**
   * For an axis that does not count from 0 on: what its places stand for, in ascending order. Where only positions 3 and 7
   * were captured, `{ position: [3, 7] }` makes `at({ position: 7 })` the second row.
   */
  readonly labels?: Labels;
}

/** The largest numbers of each row and where they are, in nested arrays like those of {@linkcode TensorView.toArray}. */
export interface TopK {
  /** Places along the axis, as `at` takes them. */
  readonly indices: Nested;
  /** The numbers there, the largest first. */
  readonly values: Nested;
}

/** Something that cannot be done with a tensor: its axes and shape, and what was asked. */
export class TensorError extends RangeError {
  /** The class's name. */
  override readonly name = "TensorError";
  /** The tensor's axes. */
  readonly axes: readonly string[];
  /** The tensor's size along each axis. */
  readonly shape: readonly number[];

  /**
   * Thrown by the methods of {@linkcode TensorView}.
   *
   * @param asked what was asked: `take head 9`, `matmul`
   * @param problem why that cannot be done
   */
  constructor(
    readonly asked: string,
    tensor: Pick<Layout, "axes" | "shape">,
    problem: string,
  ) {
    super(`Cannot ${asked} (tensor [${describe(tensor)}]): ${problem}`);
    this.axes = tensor.axes;
    this.shape = tensor.shape;
  }
}

/**
 * A tensor with named axes over a buffer. `at`, `slice` and `rename` are views of the same numbers; what computes makes a new
 * buffer, with sums in 64-bit floats and results in 32-bit ones. Places along an axis count from 0 (or are its labels), negative
 * ones from its end. All methods throw {@linkcode TensorError} for axes that are not there and sizes that do not fit.
 *
 * ```ts
 * import { TensorView } from "./tensor.ts";
 * const x = new TensorView(Float32Array.of(3, 4, 6, 8), [2, 2], ["position", "feature"]);
 * x.at({ position: -1 }).norm().item(); // 10
 * x.div(x.norm("feature")).toArray(); // about [[0.6, 0.8], [0.6, 0.8]]
 * ```
 */
export class TensorView implements Layout {
  /** The buffer; it may hold more than the view shows. */
  readonly data: Float32Array;
  /** The size along each axis. */
  readonly shape: readonly number[];
  /** The name of each axis, the slowest first. */
  readonly axes: readonly string[];
  /** Distance in `data` of neighbours along each axis. */
  readonly strides: readonly number[];
  /** Where in `data` the first number lies. */
  readonly offset: number;
  /** What the numbers are: `blk.3.attn_probs`. Results of computations have none. */
  readonly name?: string;
  /** What places stand for, of axes that do not count from 0 on. */
  readonly labels: Labels;

  /** Puts a view over numbers, without a copy. */
  constructor(
    data: Float32Array,
    shape: readonly number[],
    axes: readonly string[],
    options: ViewOptions = {},
  ) {
    this.data = data;
    this.shape = shape;
    this.axes = axes;
    this.strides = options.strides ?? rowMajor(shape);
    this.offset = options.offset ?? 0;
    this.name = options.name;
    this.labels = options.labels ?? {};
    if (axes.length !== shape.length || new Set(axes).size !== axes.length) {
      throw this.#error(
        "make a view",
        `${axes.length} axes for ${shape.length} sizes, or one twice`,
      );
    }
    const last = shape.reduce((sum, size, i) => sum + (size - 1) * this.strides[i], this.offset);
    if (this.size > 0 && last >= data.length) {
      throw this.#error("make a view", `the buffer has only ${data.length} numbers`);
    }
    for (const [axis, labels] of Object.entries(this.labels)) {
      if (labels.length !== shape[this.#axis(axis, "label")]) {
        throw this.#error("make a view", `${labels.length} labels for ${axis}`);
      }
    }
  }

  /** How many numbers. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Chooses one place along some axes, which disappear: `at({ head: 2, query: -1 })`. */
  at(places: Readonly<Record<string, number>>): TensorView {
    let offset = this.offset;
    for (const [axis, place] of Object.entries(places)) {
      const i = this.#axis(axis, "take a place");
      offset += this.#place(i, place) * this.strides[i];
    }
    const axes = this.axes.filter((axis) => !Object.hasOwn(places, axis));
    const kept = axes.map((axis) => this.axes.indexOf(axis));
    return new TensorView(this.data, kept.map((i) => this.shape[i]), axes, {
      strides: kept.map((i) => this.strides[i]),
      offset,
      name: this.name,
      labels: pick(this.labels, axes),
    });
  }

  /**
   * Keeps a range of some axes, from the first place (included) to the second (not included) or the end:
   * `slice({ key: [0, 4], query: [-2] })`. Ranges that reach too far are cut, as in `Array.slice`.
   */
  slice(ranges: Readonly<Record<string, readonly [from: number, to?: number]>>): TensorView {
    const { strides, name } = this;
    const shape = [...this.shape];
    const labels = { ...this.labels };
    let offset = this.offset;
    for (const [axis, [first, end]] of Object.entries(ranges)) {
      const i = this.#axis(axis, "slice");
      const from = this.#edge(i, first);
      const to = end === undefined ? shape[i] : this.#edge(i, end);
      shape[i] = Math.max(0, to - from);
      offset += from * strides[i];
      if (labels[axis]) labels[axis] = labels[axis].slice(from, to);
    }
    return new TensorView(this.data, shape, this.axes, { strides, offset, name, labels });
  }

  /** Gives axes other names: `rename({ position: "key" })`. */
  rename(names: Readonly<Record<string, string>>): TensorView {
    for (const axis of Object.keys(names)) this.#axis(axis, "rename");
    const { strides, offset, name } = this;
    const renamed = (axis: string) => Object.hasOwn(names, axis) ? names[axis] : axis;
    const labels = Object.entries(this.labels).map(([axis, each]) => [renamed(axis), each]);
    return new TensorView(this.data, this.shape, this.axes.map(renamed), {
      strides,
      offset,
      name,
      labels: Object.fromEntries(labels),
    });
  }

  /**
   * Parts an axis into several, the last of them the fastest: `split("row", { head: 8, feature: 64 })` gives each head its numbers.
   */
  split(axis: string, parts: Readonly<Record<string, number>>): TensorView {
    const i = this.#axis(axis, "split");
    const sizes = Object.values(parts);
    if (sizeOf(sizes) !== this.shape[i]) {
      throw this.#error(
        `split ${axis} into ${sizes.join(" × ")}`,
        `it has ${this.shape[i]} places`,
      );
    }
    const insert = <T>(list: readonly T[], items: readonly T[]) => list.toSpliced(i, 1, ...items);
    const axes = insert(this.axes, Object.keys(parts));
    return new TensorView(this.data, insert(this.shape, sizes), axes, {
      strides: insert(this.strides, rowMajor(sizes).map((stride) => stride * this.strides[i])),
      offset: this.offset,
      labels: pick(this.labels, this.axes.filter((each) => each !== axis)),
    });
  }

  /** Joins its last axes, from one of them on, into one: `join("head", "feature")` puts the heads of a row side by side. */
  join(from: string, name: string): TensorView {
    const i = this.#axis(from, "join");
    const shape = [...this.shape.slice(0, i), sizeOf(this.shape.slice(i))];
    const axes = [...this.axes.slice(0, i), name];
    return new TensorView(this.toFloat32Array(), shape, axes, {
      labels: pick(this.labels, this.axes.slice(0, i)),
    });
  }

  /** Sum over one axis, or over everything. */
  sum(axis?: string): TensorView {
    return this.#reduce("sum", axis, sum);
  }

  /** Mean over one axis, or over everything. */
  mean(axis?: string): TensorView {
    return this.#reduce("mean", axis, (values) => sum(values) / values.length);
  }

  /** Euclidean length along one axis, or of everything. */
  norm(axis?: string): TensorView {
    return this.#reduce("norm", axis, (values) => Math.sqrt(sum(values.map((x) => x * x))));
  }

  /** Softmax along an axis, the last one if none is named. Minus infinity gives 0. */
  softmax(axis: string = this.#lastAxis("softmax")): TensorView {
    this.#axis(axis, "softmax");
    const result = this.map((value) => value);
    const along = offsets(result, [axis]);
    const values = new Float64Array(along.length);
    for (const start of offsets(result, this.axes.filter((each) => each !== axis))) {
      along.forEach((at, i) => values[i] = result.data[start + at]);
      const shares = softmax(values);
      along.forEach((at, i) => result.data[start + at] = shares[i]);
    }
    return result;
  }

  /**
   * Product that sums over one axis: this tensor's last with the other's first, or those that `over` names (one name for both,
   * or two). Other axes that both have go along (`head` in probs · values). The result has this tensor's other axes, then
   * the rest of the other's.
   */
  matmul(
    other: TensorView,
    options: { readonly over?: string | readonly [string, string] } = {},
  ): TensorView {
    const asked = `matmul by [${describe(other)}]`;
    const { over = [this.#lastAxis(asked), other.#firstAxis(asked)] } = options;
    const [mine, theirs] = typeof over === "string" ? [over, over] : over;
    const size = this.shape[this.#axis(mine, asked)];
    if (other.shape[other.#axis(theirs, asked)] !== size) {
      throw this.#error(asked, `${mine} and the other's ${theirs} differ in size`);
    }
    const rows = this.axes.filter((axis) => axis !== mine);
    const rest = other.axes.filter((axis) => axis !== theirs);
    const columns = rest.filter((axis) => !rows.includes(axis));
    for (const axis of rest) if (rows.includes(axis)) this.#checkSame(asked, other, axis);

    const shape = [...this.#sizes(rows), ...other.#sizes(columns)];
    const out = new Float32Array(sizeOf(shape));
    const rowStarts = offsets(this, rows);
    // Its summed axis may bear the name of one of the rows, which it does not go along with.
    const others: Layout = {
      shape: other.shape,
      strides: other.strides,
      axes: other.axes.map((axis) => axis === theirs ? "" : axis),
    };
    const otherStarts = offsets(others, rows, this.#sizes(rows));
    const columnStarts = offsets(other, columns);
    const [along, otherAlong] = [offsets(this, [mine]), offsets(other, [theirs])];
    let at = 0;
    for (const [row, rowStart] of rowStarts.entries()) {
      for (const columnStart of columnStarts) {
        const start = this.offset + rowStart;
        const otherStart = other.offset + otherStarts[row] + columnStart;
        let sum = 0;
        for (let i = 0; i < size; i++) {
          sum += this.data[start + along[i]] * other.data[otherStart + otherAlong[i]];
        }
        out[at++] = sum;
      }
    }
    const labels = { ...pick(other.labels, columns), ...pick(this.labels, rows) };
    return new TensorView(out, shape, [...rows, ...columns], { labels });
  }

  /** Sum, number by number. Axes are matched by name; one that is missing, or has one place only, is repeated. */
  add(other: TensorView | number): TensorView {
    return this.#combine("add", other, (a, b) => a + b);
  }

  /** Difference, matched as in {@linkcode TensorView.add}. */
  sub(other: TensorView | number): TensorView {
    return this.#combine("subtract", other, (a, b) => a - b);
  }

  /** Product, number by number, matched as in {@linkcode TensorView.add}. */
  mul(other: TensorView | number): TensorView {
    return this.#combine("multiply by", other, (a, b) => a * b);
  }

  /** Quotient, matched as in {@linkcode TensorView.add}. */
  div(other: TensorView | number): TensorView {
    return this.#combine("divide by", other, (a, b) => a / b);
  }

  /** A function of each number. */
  map(change: (value: number) => number): TensorView {
    const { shape, axes, labels } = this;
    // Several times as fast as an array that is made of the other one.
    const data = this.toFloat32Array().map((value) => change(value));
    return new TensorView(data, shape, axes, { labels });
  }

  /**
   * The k largest numbers along the last axis, the largest first, of equal ones that with the lower index. Fewer where the axis
   * is shorter.
   */
  topk(k: number): TopK {
    if (!Number.isInteger(k) || k < 1) {
      throw this.#error(`take the top ${k}`, "give an integer, 1 or more");
    }
    const axis = this.#lastAxis(`take the top ${k}`);
    const shape = this.shape.slice(0, -1);
    const values = this.toFloat32Array();
    const width = this.shape[shape.length];
    const rows = Array.from({ length: sizeOf(shape) }, (_, row) => {
      const numbers = values.subarray(row * width, (row + 1) * width);
      // NaN compares with nothing: put last.
      const rank = Float64Array.from(numbers, (value) => Number.isNaN(value) ? -Infinity : value);
      const best = [...rank.keys()].sort((a, b) => rank[a] === rank[b] ? a - b : rank[b] - rank[a]);
      return best.slice(0, k).map((i) => ({
        index: this.labels[axis]?.[i] ?? i,
        value: numbers[i],
      }));
    });
    return {
      indices: nest(rows.map((row) => row.map(({ index }) => index)), shape),
      values: nest(rows.map((row) => row.map(({ value }) => value)), shape),
    };
  }

  /** The number of a tensor that has only one. */
  item(): number {
    if (this.size !== 1) throw this.#error("take the item", `it has ${this.size} numbers`);
    return this.data[this.offset];
  }

  /** The numbers in nested arrays; a plain number where there is no axis. */
  toArray(): Nested {
    return nest([...this.toFloat32Array()], this.shape);
  }

  /** The numbers one behind another, the last axis fastest: the buffer itself where they lie so already, else a copy. */
  toFloat32Array(): Float32Array {
    const { data, offset, size, shape, strides } = this;
    const dense = rowMajor(shape).every((stride, i) => shape[i] === 1 || stride === strides[i]);
    if (dense || size === 0) return data.subarray(offset, offset + size);
    return Float32Array.from(offsets(this, this.axes), (at) => data[offset + at]);
  }

  /** One line: name, axes, range, mean and the first numbers. */
  toString(): string {
    const values = this.toFloat32Array();
    const title = `${this.name ?? "tensor"} [${describe(this)}]`;
    const shown = (value: number) => `${Number(value.toPrecision(5))}`;
    const first = [...values.subarray(0, SHOWN)].map(shown).join(", ");
    if (values.length <= 1) return `${title}: ${first || "empty"}`;
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const mean = sum(values) / values.length;
    const more = values.length > SHOWN ? ", …" : "";
    return `${title} ${shown(low)} to ${shown(high)}, mean ${shown(mean)}: ${first}${more}`;
  }

  /** What `console.log` shows: the line of `toString`. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  /** What a notebook cell shows: the same line. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return { "text/plain": this.toString() };
  }

  #reduce(
    asked: string,
    axis: string | undefined,
    combine: (values: Float64Array) => number,
  ): TensorView {
    if (axis !== undefined) this.#axis(axis, asked);
    const kept = axis === undefined ? [] : this.axes.filter((each) => each !== axis);
    const along = offsets(this, axis === undefined ? this.axes : [axis]);
    const values = new Float64Array(along.length);
    const out = Float32Array.from(offsets(this, kept), (start) => {
      along.forEach((at, i) => values[i] = this.data[this.offset + start + at]);
      return combine(values);
    });
    return new TensorView(out, this.#sizes(kept), kept, { labels: pick(this.labels, kept) });
  }

  #combine(
    doing: string,
    other: TensorView | number,
    combine: (a: number, b: number) => number,
  ): TensorView {
    if (typeof other === "number") return this.map((value) => combine(value, other));
    const asked = `${doing} [${describe(other)}]`;
    const axes = [...this.axes, ...other.axes.filter((axis) => !this.axes.includes(axis))];
    const [mine, theirs] = [this.#sizes(axes), other.#sizes(axes)];
    const shape = axes.map((axis, i) => {
      if (mine[i] !== 1 && theirs[i] !== 1) this.#checkSame(asked, other, axis);
      return mine[i] === 1 ? theirs[i] : mine[i];
    });
    const otherOffsets = offsets(other, axes, shape);
    const out = Float32Array.from(
      offsets(this, axes, shape),
      (at, i) => combine(this.data[this.offset + at], other.data[other.offset + otherOffsets[i]]),
    );
    const labels = Object.entries({ ...other.labels, ...this.labels })
      .filter(([axis, each]) => each.length === shape[axes.indexOf(axis)]);
    return new TensorView(out, shape, axes, { labels: Object.fromEntries(labels) });
  }

  /** Refuses to go along an axis whose places are not the same in both tensors. */
  #checkSame(asked: string, other: TensorView, axis: string): void {
    const [[mine], [theirs]] = [this.#sizes([axis]), other.#sizes([axis])];
    if (mine !== theirs) throw this.#error(asked, `${axis} differs in size`);
    const [labels, others] = [this.labels[axis], other.labels[axis]];
    if (labels && others && labels.some((label, i) => label !== others[i])) {
      throw this.#error(asked, `${axis} is ${list(labels)} here and ${list(others)} there`);
    }
  }

  /** Places along each axis; 1 where there is no such axis. */
  #sizes(axes: readonly string[]): number[] {
    return axes.map((axis) => this.shape[this.axes.indexOf(axis)] ?? 1);
  }

  #axis(axis: string, asked: string): number {
    const i = this.axes.indexOf(axis);
    if (i < 0) throw this.#error(asked, `it has no axis ${JSON.stringify(axis)}`);
    return i;
  }

  #firstAxis(asked: string): string {
    if (this.axes.length === 0) throw this.#error(asked, "it has no axis");
    return this.axes[0];
  }

  #lastAxis(asked: string): string {
    return this.axes.at(-1) ?? this.#firstAxis(asked);
  }

  /** The index of a place along an axis. */
  #place(i: number, place: number): number {
    const [axis, size] = [this.axes[i], this.shape[i]];
    const labels = this.labels[axis];
    const index = place < 0 ? size + place : labels ? labels.indexOf(place) : place;
    if (!Number.isInteger(index) || index < 0 || index >= size) {
      const there = labels ? `is ${list(labels)}` : `goes from 0 to ${size - 1}`;
      throw this.#error(`take ${axis} ${place}`, `${axis} ${there}`);
    }
    return index;
  }

  /** The index at which a range along an axis begins or ends. */
  #edge(i: number, place: number): number {
    const [axis, size] = [this.axes[i], this.shape[i]];
    if (!Number.isInteger(place)) {
      throw this.#error(`slice ${axis} at ${place}`, "give integers");
    }
    if (place < 0) return Math.max(0, size + place);
    const found = this.labels[axis]?.findIndex((label) => label >= place) ?? Math.min(size, place);
    return found < 0 ? size : found;
  }

  #error(asked: string, problem: string): TensorError {
    return new TensorError(asked, this, problem);
  }
}

/** Numbers that `toString` shows. */
const SHOWN = 6;

function sum(values: Float64Array | Float32Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function pick(labels: Labels, axes: readonly string[]): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([axis]) => axes.includes(axis)));
}

function list(labels: readonly number[]): string {
  return labels.slice(0, 8).join(", ") + (labels.length > 8 ? ", …" : "");
}
