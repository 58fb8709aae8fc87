/** Numbers on their way into a figure: short as text, packed where they are many. */

/**
 * A number with 4 significant digits, which is more than a picture or a hover shows and a quarter of the text. NaN and infinities,
 * which JSON does not have, are gaps.
 */
export function short(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(4)) : null;
}

/** A matrix [rows, columns] of {@linkcode short} numbers, from rows. */
export function shortMatrix(rows: readonly ArrayLike<number>[]): (number | null)[][] {
  return rows.map((row) => Array.from(row, short));
}

/**
 * Many numbers as Plotly's typed array: 4 bytes each (5.3 of text), exact.
 *
 * @param shape [rows, columns] of a matrix
 */
export function packed(values: Float32Array, shape?: readonly [number, number]): PackedNumbers {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return {
    dtype: "f4",
    bdata: encodeBase64(bytes),
    ...(shape ? { shape: shape.join(", ") } : {}),
  };
}

/** The numbers of `packed`. */
export function unpacked({ dtype, bdata }: PackedNumbers): Float32Array | Uint8Array {
  const bytes = Uint8Array.fromBase64(bdata);
  return dtype === "u1" ? bytes : new Float32Array(bytes.buffer);
}

/** Bytes in base64. */
export function encodeBase64(bytes: Uint8Array): string {
  return bytes.toBase64();
}

/** Plotly's typed arrays: little-endian bytes in base64. */
export interface PackedNumbers {
  /** Type of a number. */
  readonly dtype: "f4" | "u1";
  /** The bytes. */
  readonly bdata: string;
  /** `"rows, columns"` of a matrix. */
  readonly shape?: string;
}
