/** Small sums that several analyses need, in 64-bit floats. */

/** Shannon entropy of probabilities, in nats. */
export function entropy(probabilities: Iterable<number>): number {
  let sum = 0;
  for (const p of probabilities) if (p > 0) sum -= p * Math.log(p);
  return sum;
}

/** Places of the k largest values, the largest first, of equal ones the lower place; NaN counts as the smallest. */
export function largest(values: ArrayLike<number>, k: number): number[] {
  const best: number[] = [];
  const value = (i: number) => Number.isNaN(values[i]) ? -Infinity : values[i];
  for (let i = 0; i < values.length; i++) {
    if (best.length === k && !(values[i] > value(best[k - 1]))) continue;
    let at = best.length;
    while (at > 0 && value(best[at - 1]) < value(i)) at--;
    best.splice(at, 0, i);
    if (best.length > k) best.pop();
  }
  return best;
}

/** Σ(a − b)². */
export function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

/** Σ a·b over `b`'s length, from an offset in `a` on. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>, offset = 0): number {
  let sum = 0;
  for (let i = 0; i < b.length; i++) sum += a[offset + i] * b[i];
  return sum;
}
