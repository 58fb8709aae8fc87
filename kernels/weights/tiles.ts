/**
 * Tiles: how matrices lie in the memory of the CPU's kernels. A tile is eight rows, with the numbers that are used together next to each
 * other; packing changes no number. tiles.as.ts beside this file makes them.
 */

/** The tiles of one ggml type. */
export interface Tiles {
  /** What the kernels know the type by: ggml's own number. */
  readonly id: number;
  /** Columns must be a multiple of this. */
  readonly blockSize: number;
  /** Bytes of one block in the file. */
  readonly blockBytes: number;
  /** Bytes of eight rows of so many columns, a multiple of 16. */
  tileBytes(columns: number): number;
}

/** Floats: [column][8 rows], filled up to a multiple of four columns. */
function plain(id: number, bytes: number, head = 0): Tiles {
  return {
    id,
    blockSize: 1,
    blockBytes: bytes,
    tileBytes: (columns) => head + Math.ceil(columns / 4) * 32 * bytes,
  };
}

/** Blocks, of which a row has one for each `size` columns, with so many bytes for eight rows. */
function blocks(
  id: number,
  blockSize: number,
  blockBytes: number,
  size: 16 | 32,
  bytes: number,
): Tiles {
  return { id, blockSize, blockBytes, tileBytes: (columns) => columns / size * bytes };
}

/** By the name of the ggml type. */
export const TILES: ReadonlyMap<string, Tiles> = new Map([
  ["F32", plain(0, 4)],
  ["F16", plain(1, 2, 16)], // a tile says first how its numbers are stored
  ["BF16", plain(30, 2)],
  ["Q4_0", blocks(2, 32, 18, 32, 128 + 32)], // nibbles and scales
  ["Q4_1", blocks(3, 32, 20, 32, 128 + 64)], // and minimums
  ["Q5_0", blocks(6, 32, 22, 32, 256 + 32)], // bytes
  ["Q5_1", blocks(7, 32, 24, 32, 256 + 64)],
  ["Q8_0", blocks(8, 32, 34, 32, 256 + 32 + 16)], // signed bytes, scales, sums
  ["Q2_K", blocks(10, 256, 84, 16, 64 + 64)],
  ["Q3_K", blocks(11, 256, 110, 16, 64 + 32)],
  ["Q4_K", blocks(12, 256, 144, 32, 128 + 64)],
  ["Q5_K", blocks(13, 256, 176, 32, 256 + 64)],
  ["Q6_K", blocks(14, 256, 210, 16, 128 + 32)],
]);
