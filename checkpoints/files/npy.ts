/**
 * NumPy's `.npy` files: one tensor each. Format: numpy.lib.format, versions 1 to 3
 * (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
 */
import { sizeOf } from "../../base/shape.ts";
import { WholeFile } from "../../inspect/tables/output.ts";
import { permuted } from "./permute.ts";

/** A tensor out of a file. */
export interface StoredTensor {
  readonly shape: readonly number[];
  /** Row-major, whatever the file's order. */
  readonly data: Float32Array | Float64Array;
}

/** A file that holds no tensor that we read. */
export class TensorFileError extends Error {
  override readonly name = "TensorFileError";
}

/** `\x93NUMPY` as one character per byte. */
const MAGIC = "\x93NUMPY";
/** The header ends on a multiple of this, so that the numbers can be mapped. */
const ALIGNMENT = 64;

/** Readers of the types of numbers that a file may have. */
const TYPES: Readonly<Record<string, (bytes: ArrayBuffer) => Float32Array | Float64Array>> = {
  f2: (bytes) => Float32Array.from(new Float16Array(bytes)),
  f4: (bytes) => new Float32Array(bytes),
  f8: (bytes) => new Float64Array(bytes),
};

/**
 * Reads a `.npy` file: 16-, 32- or 64-bit floats of either byte order, in C or Fortran order.
 *
 * @throws {TensorFileError} for anything else, and for a file that is shorter or longer than its shape says
 */
export async function readNpy(path: string): Promise<StoredTensor> {
  return decodeNpy(await Deno.readFile(path));
}

/** As {@linkcode readNpy}, from the file's bytes. */
export function decodeNpy(bytes: Uint8Array): StoredTensor {
  const text = (from: number, to: number) =>
    String.fromCharCode(...bytes.subarray(from, Math.min(to, bytes.length)));
  if (text(0, MAGIC.length) !== MAGIC) throw new TensorFileError("no .npy file");
  const version = bytes[6];
  const wide = version >= 2; // the header's length takes 4 bytes
  const start = wide ? 12 : 10;
  if (!(version >= 1 && version <= 3)) throw new TensorFileError(`.npy version ${version}`);
  if (bytes.length < start) throw new TensorFileError("it ends within its header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  // Names of fields make headers long; plain floats have none.
  if (length > 0xffff) throw new TensorFileError(`a header of ${length} bytes`);
  if (start + length > bytes.length) throw new TensorFileError("it ends within its header");
  const { order, type, fortran, shape } = parseHeader(text(start, start + length));

  const data = bytes.slice(start + length);
  const expected = sizeOf(shape) * Number(type.slice(1));
  checkLength(shape, expected, data.length);
  if (order === ">") swap(data, Number(type.slice(1)));
  const numbers = TYPES[type](data.buffer);
  if (!fortran) return { shape, data: numbers };
  // Fortran order is the row-major order of the reversed shape.
  return { shape, data: permuted(numbers, shape.toReversed(), shape.map((_, i) => i).reverse()) };
}

/**
 * Writes a tensor as a `.npy` file, which appears when it is whole.
 *
 * @param shape of the numbers
 * @param data row-major
 * @throws {RangeError} when there are more or fewer numbers than the shape says
 * @throws {OutputError} when the file cannot be written
 */
export async function writeNpy(
  path: string,
  shape: readonly number[],
  data: Float32Array | Float64Array,
): Promise<void> {
  if (data.length !== sizeOf(shape)) {
    throw new RangeError(`Cannot write ${data.length} numbers as [${shape.join(", ")}]`);
  }
  const file = await WholeFile.create(path);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  await file.write([npyHeader(shape, data), bytes]);
  await file.finish();
}

/** What stands in front of the numbers: version 1, as NumPy writes it. */
function npyHeader(shape: readonly number[], data: Float32Array | Float64Array): Uint8Array {
  const type = `<f${data.BYTES_PER_ELEMENT}`;
  const tuple = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  const dictionary = `{'descr': '${type}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const start = MAGIC.length + 4;
  const end = Math.ceil((start + dictionary.length + 1) / ALIGNMENT) * ALIGNMENT;
  const header = `${dictionary.padEnd(end - start - 1)}\n`;
  const length = String.fromCharCode(header.length & 0xff, header.length >> 8);
  const text = `${MAGIC}\x01\x00${length}${header}`;
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** A Python dictionary with the keys descr, fortran_order and shape. */
function parseHeader(header: string) {
  const descr = header.match(/'descr'\s*:\s*(?:'([^']*)'|\[)/);
  const [, order = "", type = ""] = descr?.[1]?.match(/^([<>|=]?)([a-z]\d+)$/) ?? [];
  const fortran = header.match(/'fortran_order'\s*:\s*(True|False)/)?.[1];
  const sizes = header.match(/'shape'\s*:\s*\(([\d\s,L]*)\)/)?.[1];
  if (!descr || fortran === undefined || sizes === undefined) {
    throw new TensorFileError("a damaged .npy header");
  }
  if (!Object.hasOwn(TYPES, type)) {
    const found = descr[1] === undefined ? "records" : `type ${JSON.stringify(descr[1])}`;
    throw new TensorFileError(`numbers of ${found}; write float32 (or float16, float64)`);
  }
  const shape = (sizes.match(/\d+/g) ?? []).map(Number);
  return { order, type, fortran: fortran === "True", shape };
}

/**
 * Checks that a file has exactly the bytes that its shape asks for.
 *
 * @throws {TensorFileError}
 */
export function checkLength(shape: readonly number[], expected: number, found: number): void {
  if (found === expected) return;
  throw new TensorFileError(
    `shape [${shape.join(", ")}] needs ${expected} bytes of numbers, the file has ${found}`,
  );
}

function swap(bytes: Uint8Array, width: number): void {
  for (let at = 0; at < bytes.length; at += width) bytes.subarray(at, at + width).reverse();
}
