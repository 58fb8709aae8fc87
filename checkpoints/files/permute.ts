/** Axes of tensors in another order. */
import { sizeOf } from "../../base/shape.ts";

/**
 * A tensor with its axes in another order.
 *
 * @param data row-major, of `shape`
 * @param order for each axis of the result, which one of `shape` it is
 * @returns a new row-major array; the same where the order is that of `shape`
 */
export function permuted<A extends Float32Array | Float64Array>(
  data: A,
  shape: readonly number[],
  order: readonly number[],
): A {
  if (order.every((axis, i) => axis === i)) return data;
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const sizes = order.map((axis) => shape[axis]);
  const steps = order.map((axis) => strides[axis]);
  const out = data.slice() as A;
  const at = new Array<number>(sizes.length).fill(0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = data[from];
    // The next place in the order of the result, as an odometer goes on.
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++at[axis] < sizes[axis]) break;
      from -= steps[axis] * sizes[axis];
      at[axis] = 0;
    }
  }
  return out;
}
