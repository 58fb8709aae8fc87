/** Orders that rows or columns may be in as a whole. */

/** The order of the numbers of a matrix [rows, columns] that is transposed: in place p of [columns, rows] stands number `order[p]`. */
export function transposedOrder(rows: number, columns: number): Int32Array {
  return Int32Array.from(
    { length: rows * columns },
    (_, place) => place % rows * columns + Math.floor(place / rows),
  );
}

/**
 * Orders that all of n rows or columns may follow: reversed, laid out as another matrix, the same within heads, rotated.
 *
 * @param headWidth rows of a head
 */
export function* wholeOrders(n: number, headWidth: number): Generator<Int32Array> {
  const of = (rule: (c: number) => number) => Int32Array.from({ length: n }, (_, c) => rule(c));
  yield of((c) => n - 1 - c);
  for (let parts = 2; parts <= n / 2; parts++) {
    if (n % parts === 0) yield transposedOrder(parts, n / parts);
  }
  const d = headWidth;
  if (n % d === 0 && n > d) {
    yield of((c) => c - c % d + d - 1 - c % d);
    if (d % 2 === 0 && d > 2) {
      yield of((c) => c - c % d + c % 2 * (d / 2) + Math.floor(c % d / 2));
      yield of((c) => c - c % d + c % (d / 2) * 2 + Math.floor(c % d / (d / 2)));
    }
  }
  for (let by = 1; by < n; by++) yield of((c) => (c + by) % n);
}
