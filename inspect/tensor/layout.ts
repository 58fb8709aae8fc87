/** How tensors lie over their buffers. */
import { sizeOf } from "../../base/shape.ts";

/** Numbers in nested arrays, as deep as the tensor has axes; a plain number where it has none. */
export type Nested = number | Nested[];

/** Named axes over a buffer. */
export interface Layout {
  /** The size along each axis. */
  readonly shape: readonly number[];
  /** The name of each axis: `position`, `head`, `feature`. */
  readonly axes: readonly string[];
  /** Distance in the buffer of neighbours along each axis. */
  readonly strides: readonly number[];
}

/** What the places along an axis stand for, where they do not just count from 0. */
export type Labels = Readonly<Record<string, readonly number[]>>;

/** Strides of a tensor whose numbers lie one behind another, the last axis fastest. */
export function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, i) => sizeOf(shape.slice(i + 1)));
}

/**
 * Where the numbers over some axes lie, the last axis fastest, relative to the tensor's first number. Along axes that the
 * tensor lacks, or has only one place of, the places are all the same: so a tensor is repeated to a larger `shape`.
 */
export function offsets(
  layout: Layout,
  axes: readonly string[],
  shape: readonly number[] = axes.map((axis) => layout.shape[layout.axes.indexOf(axis)]),
): Int32Array {
  let found = new Int32Array(1);
  for (const [n, axis] of axes.entries()) {
    const i = layout.axes.indexOf(axis);
    const stride = i < 0 || layout.shape[i] === 1 ? 0 : layout.strides[i];
    const next = new Int32Array(found.length * shape[n]);
    let at = 0;
    for (const start of found) {
      for (let place = 0; place < shape[n]; place++) next[at++] = start + place * stride;
    }
    found = next;
  }
  return found;
}

/** `head 9, query 12`. */
export function describe({ axes, shape }: Pick<Layout, "axes" | "shape">): string {
  return axes.map((axis, i) => `${axis} ${shape[i]}`).join(", ");
}

/** Parts a row-major list by a shape. */
export function nest(items: readonly Nested[], shape: readonly number[]): Nested {
  if (shape.length === 0) return items[0];
  const [size, ...rest] = shape;
  const each = size === 0 ? 0 : items.length / size;
  return Array.from({ length: size }, (_, i) => nest(items.slice(i * each, (i + 1) * each), rest));
}
