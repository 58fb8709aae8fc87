/** From a tensor as an engine keeps it to the shape that our point has. */
import { sizeOf } from "../../../base/shape.ts";
import type { Point } from "../../../inspect/points/points.ts";
import { type StoredTensor, TensorFileError } from "../../files/npy.ts";
import { permuted } from "../../files/permute.ts";

/** Lengths of the pass that a tensor is of. */
export interface PassLengths {
  /** Positions of the pass, or those of them that the tensor has. */
  readonly T: number;
  /** Cached positions, the pass included. */
  readonly S: number;
}

/** Names that may stand for ours in an engine's list of axes. */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  head: ["kv_head"],
  position: ["query", "slot"],
};

/** One dimension of a point in one pass: how many numbers there may be. */
interface Dimension {
  readonly axis: string;
  readonly size: number;
  /** Keys and slots may be padded behind the last one; of the logits only the last rows may be there. */
  readonly allowed: "exactly" | "more" | "fewer";
}

/**
 * Brings a tensor to the axes of its point: permutes them where `axes` names them in another order, drops a batch of 1, parts
 * heads that are joined, and cuts off keys and slots behind the last position. Without `axes` they are in the point's order.
 *
 * @returns the tensor with the point's rank; over the same buffer where nothing moves
 * @throws {TensorFileError} when the shape cannot be that of the point
 */
export function toPointAxes(
  point: Point,
  tensor: StoredTensor,
  lengths: PassLengths,
  axes?: readonly string[],
): StoredTensor {
  const dimensions = dimensionsOf(point, lengths);
  const candidates = [dimensions, ...joinedHeads(dimensions)];
  const inOrder = axes ? byName(point, tensor, candidates, axes) : tensor;
  for (const candidate of candidates) {
    const shape = withRank(inOrder.shape, candidate.length);
    if (!shape || !candidate.every((dimension, i) => fits(dimension, shape[i]))) continue;
    return parted(cut(inOrder.data, shape, candidate), dimensions);
  }
  const expected = dimensions.map(({ axis, size, allowed }) =>
    `${axis} ${{ exactly: "", more: "≥ ", fewer: "≤ " }[allowed]}${size}`
  );
  const hint = axes ? "" : "; name its axes in manifest.json if they are in another order";
  const found = `shape [${tensor.shape.join(", ")}]`;
  const wanted = `where ${point.name} has [${expected.join(", ")}]`;
  throw new OtherShapeError(`${found} ${wanted}${hint}${wouldFit(inOrder.shape, dimensions)}`);
}

/** A tensor that is whole, and of another shape than its point's. */
export class OtherShapeError extends TensorFileError {}

/** With which sizes a model would have such a shape; nothing where the number of axes is another one. */
function wouldFit(shape: readonly number[], dimensions: readonly Dimension[]): string {
  const own = withRank(shape, dimensions.length);
  const joined = own === undefined || own[0] === 1
    ? withRank(shape, dimensions.length - 1)
    : undefined;
  const { size: width, axis } = dimensions.at(-1)!;
  const heads = joined && axis === "feature" && dimensions.length === 3 ? joined[1] / width : NaN;
  const sizes = Number.isInteger(heads) ? [joined![0], heads, width] : own ?? [];
  const other = dimensions.flatMap(({ axis, size }, i) =>
    sizes[i] === undefined || sizes[i] === size ? [] : [`${axis} ${sizes[i]} instead of ${size}`]
  );
  return other.length === 0 ? "" : `; it would fit ${other.join(", ")}`;
}

function dimensionsOf(point: Point, { T, S }: PassLengths): Dimension[] {
  return point.shape.map((dim, i): Dimension => {
    const axis = point.axes[i];
    if (dim === "T") return { axis, size: T, allowed: "exactly" };
    if (dim === "S") return { axis, size: S, allowed: "more" };
    if (dim === "R") return { axis, size: T, allowed: "fewer" };
    return { axis, size: dim, allowed: "exactly" };
  });
}

/** The same with heads and their features as one axis, where there are both. */
function joinedHeads(dimensions: readonly Dimension[]): Dimension[][] {
  const head = dimensions.findIndex(({ axis }) => axis === "head" || axis === "kv_head");
  const feature = dimensions.at(-1)!;
  if (head < 0 || feature.axis !== "feature") return [];
  const size = dimensions[head].size * feature.size;
  return [dimensions.toSpliced(-1, 1, { ...feature, size }).toSpliced(head, 1)];
}

/** With the axes in a candidate's order. */
function byName(
  point: Point,
  { shape, data }: StoredTensor,
  candidates: readonly Dimension[][],
  axes: readonly string[],
): StoredTensor {
  const fail = (problem: string) => new TensorFileError(`axes [${axes.join(", ")}] ${problem}`);
  if (axes.length !== shape.length) throw fail(`for the shape [${shape.join(", ")}]`);
  const kept = axes.flatMap((axis, i) => axis === "batch" && shape[i] === 1 ? [] : [i]);
  const names = kept.map((i) => axes[i]);
  for (const candidate of candidates) {
    const order = candidate.map(({ axis }) =>
      names.findIndex((name) => name === axis || SYNONYMS[name]?.includes(axis))
    );
    if (order.length !== names.length || new Set(order).size !== order.length) continue;
    if (order.includes(-1)) continue;
    const sizes = kept.map((i) => shape[i]);
    return { shape: order.map((i) => sizes[i]), data: permuted(data, sizes, order) };
  }
  throw fail(`where ${point.name} has [${point.axes.join(", ")}]`);
}

/** A shape of that rank, with leading ones dropped or added; undefined where there are none to drop. */
function withRank(shape: readonly number[], rank: number): readonly number[] | undefined {
  const extra = shape.length - rank;
  if (extra <= 0) return [...new Array<number>(-extra).fill(1), ...shape];
  return shape.slice(0, extra).every((size) => size === 1) ? shape.slice(extra) : undefined;
}

function fits({ size, allowed }: Dimension, found: number): boolean {
  if (allowed === "more") return found >= size;
  return allowed === "fewer" ? found >= 1 && found <= size : found === size;
}

/** Without what is padded behind the last key or slot. */
function cut(
  data: StoredTensor["data"],
  shape: readonly number[],
  dimensions: readonly Dimension[],
): StoredTensor {
  const axis = dimensions.findIndex(({ size, allowed }, i) =>
    allowed === "more" && shape[i] > size
  );
  if (axis < 0) return { shape, data };
  const inner = sizeOf(shape.slice(axis + 1));
  const [from, to] = [shape[axis] * inner, dimensions[axis].size * inner];
  const outer = sizeOf(shape.slice(0, axis));
  const out = data.slice(0, outer * to);
  for (let i = 0; i < outer; i++) out.set(data.subarray(i * from, i * from + to), i * to);
  return { shape: shape.with(axis, dimensions[axis].size), data: out };
}

/** With heads apart: the place axis keeps the size that it has, the others are the point's. */
function parted({ shape, data }: StoredTensor, dimensions: readonly Dimension[]): StoredTensor {
  if (shape.length === dimensions.length) return { shape, data };
  return { shape: [shape[0], ...dimensions.slice(1).map(({ size }) => size)], data };
}
