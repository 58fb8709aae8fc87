/** The numbers of a page as bytes: each tensor once, rounded to what the page has room for, deflated, in base64. */
import { unpackNumbers } from "./page/numbers.js";

/** Bytes of a number: a 32-bit float; one without its last 8 bits; a 16-bit float. */
export type NumberWidth = 4 | 3 | 2;

/** Where a tensor lies among the numbers of a page. */
export interface StoredTensor {
  /** Of its first number. */
  readonly at: number;
  /** Of what the page holds: positions that it does not hold are not counted. */
  readonly shape: readonly number[];
  /** What each dimension counts. */
  readonly axes: readonly string[];
}

/** A tensor on its way into a page. */
export interface PageTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
  readonly axes: readonly string[];
}

/** Lays tensors one behind another; what is there already, as a cache that holds just this pass, is not stored again. */
export function layOut(tensors: ReadonlyMap<string, PageTensor>): {
  readonly numbers: Float32Array<ArrayBuffer>;
  readonly directory: Record<string, StoredTensor>;
} {
  const directory: Record<string, StoredTensor> = {};
  const stored: { readonly at: number; readonly data: Float32Array }[] = [];
  let size = 0;
  for (const [name, { data, shape, axes }] of tensors) {
    let place = stored.find((other) => equal(other.data, data));
    if (!place) {
      place = { at: size, data };
      stored.push(place);
      size += data.length;
    }
    directory[name] = { at: place.at, shape, axes };
  }
  const numbers = new Float32Array(size);
  for (const { at, data } of stored) numbers.set(data, at);
  return { numbers, directory };
}

function equal(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}

/** Bytes of numbers, in the planes that `page/numbers.js` reads. */
export function packNumbers(numbers: Float32Array, width: NumberWidth): Uint8Array<ArrayBuffer> {
  const words = width === 2 ? halves(numbers) : new Uint32Array(numbers.slice().buffer);
  const out = new Uint8Array(numbers.length * width);
  for (const [i, word] of words.entries()) {
    const rounded = width === 3 ? withoutLastByte(word) : word;
    for (let plane = 0; plane < width; plane++) {
      out[plane * numbers.length + i] = rounded >>> 8 * (width - 1 - plane);
    }
  }
  return out;
}

/** Numbers as a page of that width gives them back. */
export function rounded(numbers: Float32Array, width: NumberWidth): Float32Array {
  return unpackNumbers(packNumbers(numbers, width), width);
}

/** Whether 16-bit floats reach as far as these numbers. */
export function fitHalves(numbers: Float32Array): boolean {
  return numbers.every((value) => !Number.isFinite(value) || Math.abs(value) < 65_504);
}

/** Deflated bytes in base64, as the page inflates them with `DecompressionStream`. */
export async function deflated(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer()).toBase64();
}

function halves(numbers: Float32Array): Uint16Array {
  return new Uint16Array(Float16Array.from(numbers).buffer);
}

/** The upper 24 bits of a 32-bit float, rounded to the nearest, of two equally near ones to the even. */
function withoutLastByte(bits: number): number {
  const exponent = bits >>> 23 & 255;
  if (exponent === 255) return bits >>> 8; // infinities and NaN
  return (bits + 0x7f + (bits >>> 8 & 1)) >>> 8;
}
