/**
 * Interventions as people write them: `["blk.3.head_out", zero({ head: 2 })]`. A list of such pairs changes a run or a generation
 * and leaves no trace afterwards.
 */
import { sizeOf } from "../../base/shape.ts";
import { type Edit, EditError, type EditRows, type Selection } from "../../engine/plan/edits.ts";
import type { Axis, Point, ResolvedPoint } from "../points/points.ts";
import { mask, maskFinitely, unmask } from "../points/visible_keys.ts";
import type { Run } from "./run.ts";
import { TensorView } from "../tensor/tensor.ts";
import { describe } from "../tensor/layout.ts";

/** One number or several; negative ones count from the end. */
export type Indices = number | readonly number[];

/** Which numbers an edit touches; everything where an axis is left out. */
export interface Where {
  /** Heads (of `k`, `v`: key/value heads). */
  readonly head?: Indices;
  /** Absolute positions; negative ones count from the prompt's end. Of attention, the queries'. */
  readonly position?: Indices;
  /** Features. */
  readonly feature?: Indices;
  /** Keys of attention rows. */
  readonly key?: Indices;
}

/** What an edit needs to know about the run that it changes. */
export interface EditContext {
  /** What is changed: its name, axes and shape. */
  readonly point: Point;
  /** Positions of the prompt; negative ones count from its end. */
  readonly promptLength: number;
  /** Positions that the sequence can have; those of the prompt without it. */
  readonly capacity?: number;
  /** Which sequence of the batch, from 0. */
  readonly sequence: number;
}

/** A change of a value; made by `zero`, `scale`, `add`, `patch` and `meanAblate`. */
export interface Change {
  /** What it touches, as it was written. */
  readonly where: Where;
  /**
   * The engine's edit of one point in one sequence.
   *
   * @param where what it touches, in absolute numbers
   * @throws {EditError} for what does not fit the point or the sequence
   */
  edits(context: EditContext, where: Selection): Edit;
}

/**
 * Any function of the values: gets a view, returns new numbers, or changes the view's `data` and returns nothing. `start` is the
 * absolute position of the view's first row. Attention scores are −∞ at keys that a query does not see, also if they are changed; −∞ (or
 * any score of −1e30 or less) hides a visible key too.
 */
export type ChangeFunction = (value: TensorView, start: number) => TensorView | Float32Array | void;

/** Edits of a run, made in this order; the point may be a glob. */
export type EditList = readonly (readonly [point: string, change: Change | ChangeFunction])[];

/** Sets values to zero: `zero({ head: 2 })`. */
export function zero(where: Where = {}): Change {
  return scale(0, where);
}

/** Multiplies values. */
export function scale(factor: number, where: Where = {}): Change {
  return {
    where,
    edits: ({ point }, where) => ({ kind: "linear", point: point.name, where, scale: factor }),
  };
}

/** Adds a vector to each row (steering), times `factor`: of all heads' features together, or of the one head that is named. */
export function add(vector: ArrayLike<number> | TensorView, where: Where = {}, factor = 1): Change {
  const numbers = Float32Array.from(
    vector instanceof TensorView ? vector.toFloat32Array() : vector,
    (x) => x * factor,
  );
  return {
    where,
    edits: ({ point }, where) => ({
      kind: "linear",
      point: point.name,
      where,
      scale: 1,
      vector: spread(point, numbers, where),
    }),
  };
}

/**
 * Replaces rows with another run's at the same positions (activation patching); of attention, where positions are the queries',
 * the visible keys' numbers. The other run may be another model's of the same shape; it must have captured the point at the
 * positions that are patched.
 *
 * The run that is changed refuses it with an {@linkcode EditError} when the other one has not captured what is patched, has
 * rows of another shape, or has another length while no position is named.
 */
export function patch(source: Run, where: Where = {}): Change {
  return {
    where,
    edits(context, where) {
      const { point, promptLength } = context;
      const tensor = sourceTensor(source, context);
      const axis = point.axes.includes("key") ? "query" : "position";
      const captured = tensor.labels[axis] ?? upTo(tensor.shape[tensor.axes.indexOf(axis)]);
      if (!where.positions && captured.length !== promptLength) {
        throw new EditError(
          point.name,
          `the other run has ${captured.length} positions, this one ${promptLength}; name the positions`,
        );
      }
      const positions = where.positions ?? upTo(promptLength);
      const missing = positions.find((position) => !captured.includes(position));
      if (missing !== undefined) {
        throw new EditError(point.name, `the other run has not captured it at position ${missing}`);
      }
      // Without positions nothing is chosen, and nothing changes.
      const rows = positions.length > 0 ? rowsAt(tensor, axis, positions) : undefined;
      if (rows) maskFinitely(point.kind, rows.data);
      return { kind: "linear", point: point.name, where: { ...where, positions }, scale: 0, rows };
    },
  };
}

/** Replaces rows with their mean over the positions at which another run captured the point (mean ablation). */
export function meanAblate(source: Run, where: Where = {}): Change {
  return {
    where,
    edits(context, where) {
      const { point } = context;
      if (point.axes.includes("key")) {
        throw new EditError(point.name, "attention rows of several lengths have no mean");
      }
      const mean = sourceTensor(source, context).mean(point.axes[0]);
      const vector = Float32Array.from(mean.toFloat32Array());
      return { kind: "linear", point: point.name, where, scale: 0, vector };
    },
  };
}

/**
 * Looks at the form of a list of edits, since notebook cells are not type-checked.
 *
 * @throws {TypeError}
 */
export function checkEditList(list: EditList): void {
  if (Array.isArray(list) && list.every((pair) => Array.isArray(pair) && pair.length === 2)) return;
  throw new TypeError(
    'Cannot make these edits: give a list of pairs, edit: [["blk.3.head_out", zero()]]',
  );
}

/**
 * Turns edits as people write them into the engine's.
 *
 * @throws {EditError} for what is no change, or does not fit the point or the sequence
 * @throws {TypeError} for what is no list of edits
 */
export function resolveEdits(
  list: EditList,
  resolve: (pattern: string) => readonly ResolvedPoint[],
  context: Omit<EditContext, "point">,
): Edit[] {
  checkEditList(list);
  return list.flatMap(([pattern, change]) =>
    resolve(pattern).map(({ point, name, rowOrder, factor }): Edit => {
      if (rowOrder !== "file" || factor !== 1) {
        const difference = rowOrder !== "file"
          ? "in another row order than the file's"
          : `${factor} times the point's own`;
        throw new EditError(
          name,
          `the numbers of that name are ${difference}; edit ${point.name}`,
        );
      }
      if (typeof change === "function") return functionEdit(point, change);
      if (typeof change?.edits !== "function") {
        throw new EditError(
          name,
          `${JSON.stringify(change)} is no change: give zero(), scale(), … or a function`,
        );
      }
      const whole = { ...context, point };
      return change.edits(whole, selection(whole, change.where));
    })
  );
}

/**
 * The numbers that an edit leaves: those that were given or returned, or the value's own where its data was changed.
 *
 * @throws {EditError} for something else than numbers, or another shape
 */
export function editedNumbers(value: TensorView, given: unknown): Float32Array<ArrayBuffer> {
  const refuse = (problem: string) => new EditError(value.name!, problem);
  if (given === undefined) return Float32Array.from(value.toFloat32Array());
  if (given instanceof TensorView) {
    if (describe(given) !== describe(value)) {
      throw refuse(`it is [${describe(value)}]; [${describe(given)}] was given`);
    }
    return Float32Array.from(given.toFloat32Array());
  }
  if (!Array.isArray(given) && !ArrayBuffer.isView(given)) {
    throw refuse(
      given instanceof Promise
        ? "its function is async; here it must give the numbers at once"
        : `${given} was given: give numbers, or change the value's data and return nothing`,
    );
  }
  const numbers = Float32Array.from(given as ArrayLike<number>);
  if (numbers.length !== value.size) {
    throw refuse(
      `it has ${value.size} numbers (${value.shape.join(" × ")}), ${numbers.length} were given`,
    );
  }
  return numbers;
}

function functionEdit(point: Point, change: ChangeFunction): Edit {
  return {
    kind: "function",
    point: point.name,
    apply(tensor, start) {
      unmask(point.kind, { ...tensor, start });
      const view = new TensorView(tensor.data, tensor.shape, point.axes, { name: point.name });
      const given: unknown = change(view, start);
      if (given instanceof Promise) given.catch(() => {}); // it is refused whatever becomes of it
      const data = editedNumbers(view, given);
      mask(point.kind, { ...tensor, data, start });
      return data;
    },
  };
}

/** Absolute indices of what is selected. */
function selection(
  { point, promptLength, capacity = promptLength }: EditContext,
  where: Where,
): Selection {
  const attention = point.axes.includes("key");
  const headAxis = point.axes.find((axis) => axis === "head" || axis === "kv_head");
  const parts = ["position", ...headAxis ? ["head"] : [], attention ? "key" : "feature"];
  for (const [part, indices] of Object.entries(where)) {
    if (indices === undefined || parts.includes(part)) continue;
    const problem = `there is no ${part} to choose, but ${parts.join(", ")}`;
    throw new EditError(point.name, problem);
  }

  const size = (axis: Axis) => point.shape[point.axes.indexOf(axis)] as number;
  const absolute = (what: keyof Where, count: number, fromEnd = count) => {
    const indices = where[what];
    if (indices === undefined) return undefined;
    return (typeof indices === "number" ? [indices] : [...indices]).map((index) => {
      const at = index < 0 ? index + fromEnd : index;
      if (Number.isInteger(at) && at >= 0 && at < count) return at;
      throw new EditError(
        point.name,
        `there is no ${what} ${index}; they go from 0 to ${count - 1}`,
      );
    });
  };
  return {
    heads: headAxis && absolute("head", size(headAxis)),
    positions: absolute("position", capacity, promptLength),
    features: attention
      ? absolute("key", capacity, promptLength)
      : absolute("feature", size("feature")),
  };
}

/** A vector for all heads' features: as it is, or of the one head that is selected. */
function spread(point: Point, vector: Float32Array, where: Selection): Float32Array {
  const sizes = point.shape.slice(1) as number[];
  const whole = sizeOf(sizes);
  const width = sizes.at(-1)!;
  if (vector.length === whole || sizes.length < 2 || vector.length !== width || !where.heads) {
    return vector;
  }
  const all = new Float32Array(whole);
  for (const head of where.heads) all.set(vector, head * width);
  return all;
}

/**
 * What a run captured of a point, in a sequence of the same number or its only one.
 *
 * @throws {EditError} when that is nothing, or of another shape
 */
function sourceTensor(source: Run, { point, sequence }: EditContext): TensorView {
  const count = source.sequences.length;
  const used = count === 1 ? 0 : sequence;
  if (used >= count) {
    throw new EditError(
      point.name,
      `the other run has ${count} sequences, none for number ${used} of this one`,
    );
  }
  if (source.pieces(point.name, used).length === 0) {
    throw new EditError(point.name, "the other run has not captured it");
  }
  const tensor = source.tensor(point.name, { sequence: used });
  checkRows(point, tensor);
  return tensor;
}

/**
 * Checks that a tensor of a run has a model's own number of heads and features.
 *
 * @throws {EditError} when another model made it, of another shape
 */
export function checkRows(point: Point, tensor: TensorView): void {
  const isFixed = (_: unknown, i: number) => typeof point.shape[i] === "number";
  const [own, other] = [point.shape, tensor.shape].map((shape) => shape.filter(isFixed).join(", "));
  if (own !== other) {
    throw new EditError(point.name, `rows of the other run are [${other}], this model's [${own}]`);
  }
}

/** Rows of a tensor from the first to the last of some positions; those between that are not among them stay zero. */
function rowsAt(tensor: TensorView, axis: string, positions: readonly number[]): EditRows {
  const first = Math.min(...positions);
  const end = Math.max(...positions) + 1;
  const keys = tensor.axes.includes("key") ? end : undefined;
  const rows = positions.map((position) => {
    const row = tensor.at({ [axis]: position });
    return (keys ? row.slice({ key: [0, keys] }) : row).toFloat32Array();
  });
  const data = new Float32Array((end - first) * rows[0].length);
  positions.forEach((position, i) => data.set(rows[i], (position - first) * rows[0].length));
  return { data, firstPosition: first, keys };
}

/** 0, 1, … */
function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
