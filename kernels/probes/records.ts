/**
 * Step records of the processor's probes (probes.as.ts). As in all records (engine/cpu/records.ts) words from 2 on are addresses of inputs,
 * from 12 on of outputs, and from 24 on constants.
 */

/** Words of a record. */
const WORDS = 64;
const INPUTS = 2;
const OUTPUTS = 12;
const CONSTANTS = 24;

/** A record of a step. */
function recordOf(
  operation: number,
  inputs: readonly number[],
  outputs: readonly number[],
  constants: readonly number[],
): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(WORDS);
  words[0] = operation;
  words.set(inputs, INPUTS);
  words.set(outputs, OUTPUTS);
  words.set(constants, CONSTANTS);
  return words;
}

/** Positions that are multiplied together. */
export const PRODUCT_POSITIONS = 8;

/** Rows that are multiplied together. */
export const PRODUCT_ROWS = 4;

/** Products of f32 matrices: y += x · Wᵀ. */
export interface ProductRecord {
  /** Address of x, [positions / 8, columns, 8]. */
  readonly x: number;
  /** Address of W, [rows / 4, columns, 4]. */
  readonly w: number;
  /** Address of y, [positions / 8, rows, 8]. */
  readonly y: number;
  /** A multiple of 8. */
  readonly positions: number;
  /** A multiple of 4. */
  readonly rows: number;
  readonly columns: number;
}

/** Operation 30: words 24 rows, 25 columns, 26 blocks of eight positions. */
export function productRecord({ x, w, y, positions, rows, columns }: ProductRecord) {
  return recordOf(30, [x, w], [y], [rows, columns, positions / PRODUCT_POSITIONS]);
}

/** Reads memory. */
export interface ReadRecord {
  readonly data: number;
  /** Address of 16 bytes for each piece: the exclusive or of its vectors. */
  readonly sums: number;
  readonly pieces: number;
  /** Of a piece, a multiple of 512. */
  readonly bytes: number;
  /** Places of a piece that are read at the same time. */
  readonly streams: typeof READ_STREAMS[number];
}

/** Variants of the read. */
export const READ_STREAMS = [1, 4] as const;

/** Operation 31: words 24 pieces, 25 bytes of a piece, 26 streams. */
export function readRecord({ data, sums, pieces, bytes, streams }: ReadRecord) {
  return recordOf(31, [data], [sums], [pieces, bytes, streams]);
}
