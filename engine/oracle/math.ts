/**
 * Operations on rows in 64-bit floats, each as its formula says and no faster than it has to be. Matrices are row-major Float64Arrays; T
 * is the positions of the pass.
 */

/**
 * Each row less its mean: with the root mean square of what is left this is LayerNorm (arXiv 1607.06450).
 *
 * @param x [n, width]
 * @returns the same shape
 */
export function centerRows(x: Float64Array, width: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    let sum = 0;
    for (let i = row; i < row + width; i++) sum += x[i];
    for (let i = row; i < row + width; i++) out[i] = x[i] - sum / width;
  }
  return out;
}

/**
 * The root mean square of each row, ε included: √(mean(x²) + ε) (RMSNorm, arXiv 1910.07467).
 *
 * @param x [T, D]
 * @returns [T, 1]
 */
export function rootMeanSquare(x: Float64Array, width: number, epsilon: number): Float64Array {
  const rms = new Float64Array(x.length / width);
  for (let t = 0; t < rms.length; t++) {
    let sum = 0;
    for (let i = t * width; i < (t + 1) * width; i++) sum += x[i] * x[i];
    rms[t] = Math.sqrt(sum / width + epsilon);
  }
  return rms;
}

/** Each row of `x` [T, D] divided by its number in `divisors` [T, 1]. */
export function divideRows(x: Float64Array, divisors: Float64Array): Float64Array {
  const width = x.length / divisors.length;
  return x.map((value, i) => value / divisors[Math.floor(i / width)]);
}

/** Each row of `x` [T, D] times `weight` [D], number by number; one [d] is repeated along rows of a multiple of d. */
export function scaleColumns(x: Float64Array, weight: Float32Array): Float64Array {
  return x.map((value, i) => value * weight[i % weight.length]);
}

/** Each row of `x` [T, D] plus `bias` [D], repeated as {@linkcode scaleColumns} repeats a weight. */
export function addBias(x: Float64Array, bias: Float32Array): Float64Array {
  return x.map((value, i) => value + bias[i % bias.length]);
}

/** Sum of two arrays of one shape. */
export function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]);
}

/** Every number times `factor`. */
export function scale(x: Float64Array, factor: number): Float64Array {
  return x.map((value) => value * factor);
}

/** Every number kept within ±limit. */
export function clamp(x: Float64Array, limit: number): Float64Array {
  return x.map((value) => Math.min(Math.max(value, -limit), limit));
}

/** Every number drawn softly within ±limit: limit · tanh(x / limit) (logit soft-capping, arXiv 2408.00118). */
export function cap(x: Float64Array, limit: number): Float64Array {
  return x.map((value) => limit * Math.tanh(value / limit));
}

/** What a score is at most that is masked: −∞, or what stands for it in 32 bits. */
const MASKED = -1e30;

/**
 * Softmax of each row of `width` numbers. Masks, numbers of −1e30 or less, become exactly 0, also where a row has nothing else; a row with
 * NaN or +∞ becomes NaN.
 */
export function softmaxRows(x: Float64Array, width: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    let max = -Infinity;
    for (let i = row; i < row + width; i++) max = Math.max(max, x[i]);
    if (max <= MASKED) continue;
    let sum = 0;
    for (let i = row; i < row + width; i++) sum += out[i] = Math.exp(x[i] - max);
    for (let i = row; i < row + width; i++) out[i] /= sum;
  }
  return out;
}

/**
 * Some rows of a matrix product: out[t, firstRow + r] = x[t] · weights[r].
 *
 * @param x [T, columns]
 * @param weights [n, columns]
 * @param out [T, rows]
 */
export function multiplyRows(
  x: Float64Array,
  weights: Float32Array,
  columns: number,
  out: Float64Array,
  firstRow: number,
): void {
  const positions = x.length / columns;
  const rows = out.length / positions;
  const row = new Float64Array(columns);
  for (let r = 0; r < weights.length / columns; r++) {
    row.set(weights.subarray(r * columns, (r + 1) * columns)); // 64-bit once, not once per position
    let t = 0;
    for (; t + 3 < positions; t += 4) {
      // Four positions at a time: five times as fast as one, with the same order of additions.
      const [at0, at1, at2, at3] = [t, t + 1, t + 2, t + 3].map((each) => each * columns);
      let sum0 = 0;
      let sum1 = 0;
      let sum2 = 0;
      let sum3 = 0;
      for (let i = 0; i < columns; i++) {
        const weight = row[i];
        sum0 += weight * x[at0 + i];
        sum1 += weight * x[at1 + i];
        sum2 += weight * x[at2 + i];
        sum3 += weight * x[at3 + i];
      }
      out[t * rows + firstRow + r] = sum0;
      out[(t + 1) * rows + firstRow + r] = sum1;
      out[(t + 2) * rows + firstRow + r] = sum2;
      out[(t + 3) * rows + firstRow + r] = sum3;
    }
    for (; t < positions; t++) {
      out[t * rows + firstRow + r] = dot(row, 0, x, t * columns, columns);
    }
  }
}

/** a[atA ..] · b[atB ..] over `length` numbers. */
export function dot(
  a: Float64Array,
  atA: number,
  b: Float64Array,
  atB: number,
  length: number,
): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[atA + i] * b[atB + i];
  return sum;
}

/** Index of the largest number in a row; of equal ones the first. */
export function argmax(row: Float64Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  return best;
}

/** `a` followed by `b`. */
export function concat(a: Float64Array, b: Float64Array): Float64Array {
  const joined = new Float64Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
