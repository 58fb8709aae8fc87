/** How many numbers a tensor of a shape has; 1 without axes. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
