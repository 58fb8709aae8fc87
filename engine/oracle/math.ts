/**
 * The operations of a Llama in 64-bit floats, each as its formula says and no faster than it has to
 * be. Matrices are row-major Float64Arrays; T is the positions of the pass, S those up to its end.
 */

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

/** Each row of `x` [T, D] times `weight` [D], number by number. */
export function scaleColumns(x: Float64Array, weight: Float32Array): Float64Array {
  return x.map((value, i) => value * weight[i % weight.length]);
}

/** Each row of `x` [T, D] plus `bias` [D]. */
export function addBias(x: Float64Array, bias: Float32Array): Float64Array {
  return x.map((value, i) => value + bias[i % bias.length]);
}

/** Sum of two arrays of one shape. */
export function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]);
}

/** SwiGLU (arXiv 2002.05202): silu(gate) · up, with silu(z) = z / (1 + e^−z). */
export function swiglu(gate: Float64Array, up: Float64Array): Float64Array {
  return gate.map((z, i) => z / (1 + Math.exp(-z)) * up[i]);
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

/**
 * Scaled attention scores; key s is visible to the query at position t when s ≤ t, the others are
 * −∞ (Attention Is All You Need, arXiv 1706.03762; grouped queries, arXiv 2305.13245).
 *
 * @param q [T, H, d]
 * @param keys [S, Hkv, d], of which the last T are at the queries' own positions
 * @returns [H, T, S]
 */
export function attentionScores(q: Float64Array, keys: Float64Array, shape: {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly attentionScale: number;
}): Float64Array {
  const { heads, kvHeads, headWidth, attentionScale } = shape;
  const T = q.length / (heads * headWidth);
  const S = keys.length / (kvHeads * headWidth);
  const scores = new Float64Array(heads * T * S).fill(-Infinity);
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    for (let t = 0; t < T; t++) {
      for (let s = 0; s <= S - T + t; s++) {
        const atQ = (t * heads + h) * headWidth;
        const atK = (s * kvHeads + kvHead) * headWidth;
        scores[(h * T + t) * S + s] = attentionScale * dot(q, atQ, keys, atK, headWidth);
      }
    }
  }
  return scores;
}

/**
 * Each head's mix of values.
 *
 * @param probs [H, T, S]
 * @param values [S, Hkv, d]
 * @returns [T, H, d]
 */
export function mixValues(probs: Float64Array, values: Float64Array, shape: {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
}): Float64Array {
  const { heads, kvHeads, headWidth } = shape;
  const S = values.length / (kvHeads * headWidth);
  const T = probs.length / (heads * S);
  const mixed = new Float64Array(T * heads * headWidth);
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    for (let t = 0; t < T; t++) {
      const out = (t * heads + h) * headWidth;
      for (let s = 0; s < S; s++) {
        const prob = probs[(h * T + t) * S + s];
        const value = (s * kvHeads + kvHead) * headWidth;
        for (let i = 0; i < headWidth; i++) mixed[out + i] += prob * values[value + i];
      }
    }
  }
  return mixed;
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
