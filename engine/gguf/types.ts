import { sizeOf } from "../../base/shape.ts";

/** A run of equal numbers wider than a byte inside a block: [byte offset, width in bytes, count]. */
export type WideField = readonly [offset: number, width: 2 | 4 | 8, count: number];

/** How ggml stores one kind of tensor: blocks of `blockSize` numbers in `blockBytes` bytes. */
export interface GgmlType {
  /** The number that GGUF files carry (`enum ggml_type`). */
  readonly id: number;
  /** The name that people use: `Q4_K`. */
  readonly name: string;
  /** Numbers per block, always along the first axis (a row's columns). */
  readonly blockSize: number;
  /** Bytes per block. */
  readonly blockBytes: number;
  /** What has to change places when a big-endian file is read. */
  readonly wide: readonly WideField[];
}

/** Bytes of a tensor, the columns first in its shape. */
export function tensorBytes({ type, shape }: {
  readonly type: GgmlType;
  readonly shape: readonly number[];
}): number {
  return sizeOf(shape) / type.blockSize * type.blockBytes;
}

/**
 * Every type that a GGUF file may name. Numbers and layouts: `enum ggml_type` in ggml.h and the
 * `block_*` structures of ggml-common.h (llama.cpp v0.5.0). Q4_0_4_4 and its relatives left the
 * format at the end of 2024 but are in published files; types 4 and 5 are older than GGUF.
 */
export const GGML_TYPES: readonly GgmlType[] = [
  type(0, "F32", 1, 4, [0, 4, 1]),
  type(1, "F16", 1, 2, [0, 2, 1]),
  type(2, "Q4_0", 32, 18, [0, 2, 1]),
  type(3, "Q4_1", 32, 20, [0, 2, 2]),
  type(6, "Q5_0", 32, 22, [0, 2, 1], [2, 4, 1]),
  type(7, "Q5_1", 32, 24, [0, 2, 2], [4, 4, 1]),
  type(8, "Q8_0", 32, 34, [0, 2, 1]),
  type(9, "Q8_1", 32, 36, [0, 2, 2]),
  type(10, "Q2_K", 256, 84, [80, 2, 2]),
  type(11, "Q3_K", 256, 110, [108, 2, 1]),
  type(12, "Q4_K", 256, 144, [0, 2, 2]),
  type(13, "Q5_K", 256, 176, [0, 2, 2]),
  type(14, "Q6_K", 256, 210, [208, 2, 1]),
  type(15, "Q8_K", 256, 292, [0, 4, 1], [260, 2, 16]),
  type(16, "IQ2_XXS", 256, 66, [0, 2, 33]),
  type(17, "IQ2_XS", 256, 74, [0, 2, 33]),
  type(18, "IQ3_XXS", 256, 98, [0, 2, 1], [66, 4, 8]),
  type(19, "IQ1_S", 256, 50, [0, 2, 1], [34, 2, 8]),
  type(20, "IQ4_NL", 32, 18, [0, 2, 1]),
  type(21, "IQ3_S", 256, 110, [0, 2, 1]),
  type(22, "IQ2_S", 256, 82, [0, 2, 1]),
  type(23, "IQ4_XS", 256, 136, [0, 2, 2]),
  type(24, "I8", 1, 1),
  type(25, "I16", 1, 2, [0, 2, 1]),
  type(26, "I32", 1, 4, [0, 4, 1]),
  type(27, "I64", 1, 8, [0, 8, 1]),
  type(28, "F64", 1, 8, [0, 8, 1]),
  type(29, "IQ1_M", 256, 56, [48, 2, 4]),
  type(30, "BF16", 1, 2, [0, 2, 1]),
  type(31, "Q4_0_4_4", 32, 18, [0, 2, 1]),
  type(32, "Q4_0_4_8", 32, 18, [0, 2, 1]),
  type(33, "Q4_0_8_8", 32, 18, [0, 2, 1]),
  type(34, "TQ1_0", 256, 54, [52, 2, 1]),
  type(35, "TQ2_0", 256, 66, [64, 2, 1]),
  type(36, "IQ4_NL_4_4", 32, 18, [0, 2, 1]),
  type(37, "IQ4_NL_4_8", 32, 18, [0, 2, 1]),
  type(38, "IQ4_NL_8_8", 32, 18, [0, 2, 1]),
  type(39, "MXFP4", 32, 17),
  type(40, "NVFP4", 64, 36),
  type(41, "Q1_0", 128, 18, [0, 2, 1]),
  type(42, "Q2_0", 64, 18, [0, 2, 1]),
];

const BY_ID = new Map(GGML_TYPES.map((entry) => [entry.id, entry]));

/** The type with this number, or undefined where ggml has none. */
export function ggmlType(id: number): GgmlType | undefined {
  return BY_ID.get(id);
}

/** Turns whole big-endian blocks of a type into little-endian ones, or back, in place. */
export function swapBlocks(type: GgmlType, bytes: Uint8Array): void {
  for (const [offset, width, count] of type.wide) {
    for (let block = offset; block < bytes.length; block += type.blockBytes) {
      for (let field = block; field < block + width * count; field += width) {
        swapField(bytes, field, width);
      }
    }
  }
}

function swapField(bytes: Uint8Array, offset: number, width: number): void {
  for (let low = offset, high = offset + width - 1; low < high; low++, high--) {
    const byte = bytes[low];
    bytes[low] = bytes[high];
    bytes[high] = byte;
  }
}

function type(
  id: number,
  name: string,
  blockSize: number,
  blockBytes: number,
  ...wide: WideField[]
): GgmlType {
  return Object.freeze({ id, name, blockSize, blockBytes, wide });
}
