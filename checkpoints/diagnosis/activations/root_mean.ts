/** Root mean squares of rows, and other sums of squares, in 64-bit floats. */

/** Σx² of a row. */
export function squareSum(x: Float32Array, row: number, columns: number): number {
  let sum = 0;
  for (let i = row * columns; i < (row + 1) * columns; i++) sum += x[i] * x[i];
  return sum;
}

/** Σ(a − b)². */
export function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

/** √(mean(x²) + ε) of each row. */
export function rootMeans(x: Float32Array, columns: number, epsilon: number): Float32Array {
  return Float32Array.from(
    { length: x.length / columns },
    (_, row) => Math.sqrt(squareSum(x, row, columns) / columns + epsilon),
  );
}

/** RMSNorm without a weight. */
export function rootMean(x: Float32Array, columns: number, epsilon: number): Float32Array {
  const roots = rootMeans(x, columns, epsilon);
  return x.map((value, i) => value / roots[Math.floor(i / columns)]);
}
