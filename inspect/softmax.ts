/** Sums of exponents, in 64-bit floats. The largest is taken out first, so that nothing overflows. */

/** exp(x) / Σ exp(x). Minus infinity gives 0. */
export function softmax(x: Float32Array | Float64Array): Float64Array {
  const most = largest(x);
  const powers = Float64Array.from(x, (value) => Math.exp(value - most));
  let total = 0;
  for (const power of powers) total += power;
  return powers.map((power) => power / total);
}

/** ln Σ exp(x). */
export function logSumExp(x: Float32Array | Float64Array): number {
  const most = largest(x);
  let total = 0;
  for (const value of x) total += Math.exp(value - most);
  return most + Math.log(total);
}

function largest(x: Float32Array | Float64Array): number {
  let most = -Infinity;
  for (const value of x) most = Math.max(most, value);
  return most;
}
