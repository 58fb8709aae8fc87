/**
 * The numbers of an explain page: how its bytes become the tensors of the pass. Also imported where the page is built and tested.
 *
 * A number has `width` bytes: 4 (a 32-bit float), 3 (one without its last 8 bits) or 2 (a 16-bit float). The bytes stand in planes,
 * all first bytes, then all second ones, the high byte first: so they deflate best.
 */

/** The largest relative error of a number that was rounded to so many bytes. */
export const ROUNDING = { 4: 2 ** -24, 3: 2 ** -16, 2: 2 ** -11 };

/**
 * Numbers from their planes.
 *
 * @param {Uint8Array} bytes
 * @param {number} width bytes of a number
 * @returns {Float32Array}
 */
export function unpackNumbers(bytes, width) {
  const count = bytes.length / width;
  const out = new Float32Array(count);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < count; i++) {
    let word = 0;
    for (let plane = 0; plane < width; plane++) word = word << 8 | bytes[plane * count + i];
    if (width === 2) out[i] = fromHalf(word);
    else bits[i] = width === 3 ? word << 8 : word;
  }
  return out;
}

/** A 16-bit float: sign, 5 bits of exponent, 10 of fraction (IEEE 754). */
function fromHalf(word) {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = word >> 10 & 31;
  const fraction = word & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** A page: what it says of the pass, and its tensors. */
export class Page {
  /**
   * @param data what `data.ts` makes, without the numbers
   * @param {Float32Array} numbers all of them, one tensor behind another
   */
  constructor(data, numbers) {
    this.data = data;
    this.numbers = numbers;
    this.steps = data.steps;
    /** Absolute positions whose vectors are in the page, ascending. */
    this.positions = data.positions;
    this.tokens = data.tokens;
    this.byName = new Map(data.steps.map((step, index) => [step.name, index]));
  }

  /** A tensor: its numbers, its shape and axes in the page (only the positions that it holds). */
  tensor(name) {
    const { at, shape, axes } = this.data.tensors[name];
    const size = shape.reduce((product, dim) => product * dim, 1);
    return { data: this.numbers.subarray(at, at + size), shape, axes };
  }

  has(name) {
    return Object.hasOwn(this.data.tensors, name);
  }

  /** The row of a position among those that the page holds. */
  row(position) {
    return this.positions.indexOf(position);
  }

  /** How many numbers a tensor has at one position. */
  width(name) {
    const { shape, axes } = this.data.tensors[name];
    const size = shape.reduce((product, dim) => product * dim, 1);
    return size / shape[axes.includes("key") ? 1 : 0];
  }

  /** The numbers of a tensor at one position, one behind another; of attention [head, key]. */
  vector(name, position) {
    const { data, shape, axes } = this.tensor(name);
    const place = axes[0] === "slot" ? position : this.row(position);
    if (axes.includes("key")) {
      const [heads, queries, keys] = shape;
      const out = new Float32Array(heads * keys);
      for (let head = 0; head < heads; head++) {
        const from = (head * queries + place) * keys;
        out.set(data.subarray(from, from + keys), head * keys);
      }
      return out;
    }
    const width = data.length / shape[0];
    return data.subarray(place * width, (place + 1) * width);
  }
}
