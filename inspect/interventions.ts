/**
 * Interventions as people write them: `["blk.3.head_out", zero({ head: 2 })]`. A list of such pairs changes a run or a generation
 * and leaves no trace afterwards.
 */
import { type Edit, EditError, type Selection } from "../engine/edits.ts";
import type { Point, ResolvedPoint } from "./points.ts";
import type { Run } from "./run.ts";
import { TensorView } from "./tensor.ts";

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
  readonly point: Point;
  /** Ids of the sequence, as far as they are known before the run: the prompt. */
  readonly promptLength: number;
  readonly sequence: number;
}

/** A change of a value; made by `zero`, `scale`, `add`, `patch` and `meanAblate`. */
export interface Change {
  readonly where: Where;
  edits(context: EditContext, where: Selection): Edit;
}

/** Any function of the values: gets a view, returns new numbers, or changes the view's `data` and returns nothing. */
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
 * Replaces rows with another run's at the same positions (activation patching). The other run may be another model's of the same
 * shape; it must have captured the point.
 *
 * @throws {EditError} when the other run has not captured the point, or has another length while no position is named
 */
export function patch(source: Run, where: Where = {}): Change {
  return {
    where,
    edits(context, where) {
      const { point, promptLength, sequence } = context;
      const rows = sourceRows(source, context);
      if (!where.positions && rows.count !== promptLength) {
        throw new EditError(
          point.name,
          `the run that is patched in has ${rows.count} positions, this one ${promptLength}; name the positions`,
        );
      }
      const missing = where.positions?.find((at) =>
        at < rows.first || at >= rows.first + rows.count
      );
      if (missing !== undefined) {
        throw new EditError(
          point.name,
          `the run that is patched in has no position ${missing} (sequence ${sequence})`,
        );
      }
      return {
        kind: "linear",
        point: point.name,
        where,
        scale: 0,
        rows: { data: rows.data, firstPosition: rows.first },
      };
    },
  };
}

/** Replaces rows with their mean over the positions of a run that captured the point (mean ablation). */
export function meanAblate(source: Run, where: Where = {}): Change {
  return {
    where,
    edits(context, where) {
      const { data, count } = sourceRows(source, context);
      const width = data.length / count;
      const mean = new Float64Array(width);
      for (let i = 0; i < data.length; i++) mean[i % width] += data[i] / count;
      return {
        kind: "linear",
        point: context.point.name,
        where,
        scale: 0,
        vector: Float32Array.from(mean),
      };
    },
  };
}

/** Turns edits as people write them into the engine's. */
export function resolveEdits(
  list: EditList,
  resolve: (pattern: string) => readonly ResolvedPoint[],
  context: Omit<EditContext, "point">,
): Edit[] {
  return list.flatMap(([pattern, change]) =>
    resolve(pattern).map(({ point, rowOrder, name }): Edit => {
      if (rowOrder !== "file") {
        throw new EditError(
          name,
          `its rows are in another order than the file's; edit ${point.name}`,
        );
      }
      if (typeof change === "function") return functionEdit(point, change);
      return change.edits(
        { ...context, point },
        selection(point, change.where, context.promptLength),
      );
    })
  );
}

function functionEdit(point: Point, change: ChangeFunction): Edit {
  return {
    kind: "function",
    point: point.name,
    apply(tensor, start) {
      const view = new TensorView(tensor.data, tensor.shape, point.axes);
      const result = change(view, start);
      return result instanceof TensorView ? Float32Array.from(result.toFloat32Array()) : result;
    },
  };
}

/** Absolute indices of what is selected. */
function selection(point: Point, where: Where, promptLength: number): Selection {
  const attention = point.axes.includes("key");
  const axis = (name: string) => point.axes.findIndex((each) => each === name);
  const size = (at: number) => at < 0 ? 0 : point.shape[at] as number;
  const headAxis = axis("head") >= 0 ? axis("head") : axis("kv_head");
  const refuse = (what: string) => {
    throw new EditError(
      point.name,
      `it has no ${what} axis; its axes are ${point.axes.join(", ")}`,
    );
  };
  if (where.head !== undefined && headAxis < 0) refuse("head");
  if (where.key !== undefined && !attention) refuse("key");
  if (where.feature !== undefined && axis("feature") < 0) refuse("feature");
  return {
    heads: absolute(where.head, size(headAxis)),
    positions: absolute(where.position, promptLength),
    features: attention
      ? absolute(where.key, promptLength)
      : absolute(where.feature, size(axis("feature"))),
  };
}

function absolute(indices: Indices | undefined, size: number): number[] | undefined {
  if (indices === undefined) return undefined;
  return (typeof indices === "number" ? [indices] : [...indices]).map((i) => i < 0 ? i + size : i);
}

/** A vector for all heads' features: as it is, or of the one head that is selected. */
function spread(point: Point, vector: Float32Array, where: Selection): Float32Array {
  const sizes = point.shape.slice(1) as number[];
  const whole = sizes.reduce((product, size) => product * size, 1);
  const width = sizes.at(-1)!;
  if (vector.length === whole || sizes.length < 2 || vector.length !== width || !where.heads) {
    return vector;
  }
  const all = new Float32Array(whole);
  for (const head of where.heads) all.set(vector, head * width);
  return all;
}

function sourceRows(
  source: Run,
  { point, sequence }: EditContext,
): { data: Float32Array; first: number; count: number } {
  if (point.axes.includes("key")) {
    throw new EditError(point.name, "attention rows are replaced by a function");
  }
  const used = source.sequences.length === 1 ? 0 : sequence;
  const pieces = source.pieces(point.name, used);
  if (pieces.length === 0) {
    throw new EditError(point.name, "the run that is patched in has not captured it");
  }
  if (pieces.some(({ positions }) => positions)) {
    throw new EditError(point.name, "the run that is patched in captured only some positions");
  }
  const tensor = source.tensor(point.name, { sequence: used });
  return {
    data: Float32Array.from(tensor.toFloat32Array()),
    first: pieces[0].start,
    count: tensor.shape[0],
  };
}
