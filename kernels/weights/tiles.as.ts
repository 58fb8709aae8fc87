// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Packs rows of a file into tiles of eight rows: see tiles.ts. Rows that the last tile lacks are zeros.
 *
 * Numbers of less than eight bits lie as bytes or nibbles, four neighbouring columns of a row in a lane of 32 bits, four rows in a vector,
 * so that a dot product of bytes gives four rows' sums. Sixteen columns of eight rows are
 * - nibbles, 64 bytes: word 8·g + row has columns 4·g … 4·g + 3 in its low nibbles and eight columns further in its high ones (g = 0, 1),
 * - bytes, 128 bytes: word 8·g + row has columns 4·g … 4·g + 3 (g = 0 … 3).
 * Behind one or two such parts, as many as have a scale in common, lie eight f32 scales and, where the type has them, eight minimums:
 * a number is scale · (quant − OFFSET) + minimum. Products d·sc of K-quants are exact in f32 (11 + 8 bits).
 */
import { packPlain } from "./plain.as.ts";
import { F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, BF16, clear, fromHalf } from "./types.as.ts";

/** What is taken off the quants of a type, which are stored without a sign. */
export function offsetOf(id: i32): i32 {
  if (id == Q4_0) return 8;
  if (id == Q5_0) return 16;
  if (id == Q3_K) return 4;
  return id == Q6_K ? 32 : 0;
}

/** Whether the quants of a type lie as nibbles; else as bytes. */
export function hasNibbles(id: i32): bool {
  return id == Q4_0 || id == Q4_1 || id == Q4_K || id == Q2_K || id == Q3_K;
}

/** Whether a type has minimums. */
export function hasMinimums(id: i32): bool {
  return id == Q4_1 || id == Q5_1 || id == Q4_K || id == Q5_K || id == Q2_K;
}

/** Columns with a scale in common: 16 or 32. */
export function blockColumns(id: i32): i32 {
  return id == Q2_K || id == Q3_K || id == Q6_K ? 16 : 32;
}

/** Bytes of a block of quants, eight rows. */
export function quantBytes(id: i32): usize {
  return <usize> blockColumns(id) * (hasNibbles(id) ? 4 : 8);
}

/** Bytes of a block with its scales, minimums or sums. */
export function blockBytes(id: i32): usize {
  return quantBytes(id) + (id == Q8_0 ? 48 : hasMinimums(id) ? 64 : 32);
}

/** Bytes of a block in the file. */
function fileBytes(id: i32): usize {
  if (id == Q4_0) return 18;
  if (id == Q4_1) return 20;
  if (id == Q5_0) return 22;
  if (id == Q5_1) return 24;
  if (id == Q8_0) return 34;
  if (id == Q2_K) return 84;
  if (id == Q3_K) return 110;
  if (id == Q4_K) return 144;
  return id == Q5_K ? 176 : 210;
}

const NIBBLES: u64 = 0x0f0f0f0f0f0f0f0f;

/** Eight bytes of low and eight of high nibbles in eight. */
@inline
function both(low: u64, high: u64): u64 {
  return low | (high << 4);
}

/** Two neighbouring words of a row. */
@inline
function put(to: usize, words: u64): void {
  store<u32>(to, <u32> words);
  store<u32>(to, <u32> (words >> 32), 32);
}

/** Eight bits, each in the lowest bit of a byte of its own. */
@inline
function bitBytes(bits: u64): u64 {
  bits = (bits | (bits << 28)) & 0x0000000f0000000f;
  bits = (bits | (bits << 14)) & 0x0003000300030003;
  return (bits | (bits << 7)) & 0x0101010101010101;
}

/** Q4_0 and Q4_1: byte j of a block holds columns j and j + 16. */
function packLegacy4(from: usize, to: usize, columns: i32, minimum: bool): void {
  for (let column = 0; column < columns; column += 32) {
    store<f32>(to, fromHalf(load<u16>(from)), 128);
    from += 2;
    if (minimum) {
      store<f32>(to, fromHalf(load<u16>(from)), 160);
      from += 2;
    }
    const q0 = load<u64>(from), q1 = load<u64>(from, 8);
    put(to, both(q0 & NIBBLES, q1 & NIBBLES));
    put(to + 64, both((q0 >> 4) & NIBBLES, (q1 >> 4) & NIBBLES));
    from += 16;
    to += minimum ? 192 : 160;
  }
}

/** Q5_0 and Q5_1: nibbles as in Q4, after them 32 fifth bits. */
function packLegacy5(from: usize, to: usize, columns: i32, minimum: bool): void {
  for (let column = 0; column < columns; column += 32) {
    store<f32>(to, fromHalf(load<u16>(from)), 256);
    from += 2;
    if (minimum) {
      store<f32>(to, fromHalf(load<u16>(from)), 288);
      from += 2;
    }
    const high = load<u32>(from);
    const q0 = load<u64>(from, 4), q1 = load<u64>(from, 12);
    put(to, (q0 & NIBBLES) | (bitBytes(high & 255) << 4));
    put(to + 64, (q1 & NIBBLES) | (bitBytes((high >> 8) & 255) << 4));
    put(to + 128, ((q0 >> 4) & NIBBLES) | (bitBytes((high >> 16) & 255) << 4));
    put(to + 192, ((q1 >> 4) & NIBBLES) | (bitBytes(high >> 24) << 4));
    from += 20;
    to += minimum ? 320 : 288;
  }
}

/** Q8_0: signed bytes, and less the sum of a block's as i16, which x's offset is taken back with. */
function packSigned(from: usize, to: usize, columns: i32, row: i32): void {
  const ones = i8x16.splat(1);
  for (let column = 0; column < columns; column += 32) {
    store<f32>(to, fromHalf(load<u16>(from)), 256);
    put(to, load<u64>(from, 2));
    put(to + 64, load<u64>(from, 10));
    put(to + 128, load<u64>(from, 18));
    put(to + 192, load<u64>(from, 26));
    let sums = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(from, 2), ones, i32x4.splat(0));
    sums = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(from, 18), ones, sums);
    sums = i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
    const sum = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1);
    store<i16>(to - <usize> row * 2, <i16> -sum, 288);
    from += 34;
    to += 304;
  }
}

/** Q4_K and Q5_K: sub-blocks 2c and 2c + 1 share 32 bytes, one in the low nibbles, one in the high ones. */
function packK45(from: usize, to: usize, columns: i32, fifth: bool): void {
  for (let column = 0; column < columns; column += 256) {
    const d = fromHalf(load<u16>(from)), dmin = fromHalf(load<u16>(from, 2));
    let low = from + (fifth ? 48 : 16);
    for (let j = 0; j < 8; j++) {
      // ggml's packing of eight scales and eight minimums of 6 bits in 12 bytes.
      const at = from + 4 + j;
      let scale: u32, minimum: u32;
      if (j < 4) {
        scale = <u32> load<u8>(at) & 63;
        minimum = <u32> load<u8>(at, 4) & 63;
      } else {
        const last = <u32> load<u8>(at, 4);
        scale = (last & 15) | ((<u32> load<u8>(at - 4) >> 6) << 4);
        minimum = (last >> 4) | ((<u32> load<u8>(at) >> 6) << 4);
      }
      const shift = <u64> ((j & 1) << 2);
      const q0 = (load<u64>(low) >> shift) & NIBBLES, q1 = (load<u64>(low, 8) >> shift) & NIBBLES;
      const q2 = (load<u64>(low, 16) >> shift) & NIBBLES;
      const q3 = (load<u64>(low, 24) >> shift) & NIBBLES;
      if (fifth) {
        const bits: u64 = 0x0101010101010101;
        put(to, q0 | (((load<u64>(from, 16) >> <u64> j) & bits) << 4));
        put(to + 64, q1 | (((load<u64>(from, 24) >> <u64> j) & bits) << 4));
        put(to + 128, q2 | (((load<u64>(from, 32) >> <u64> j) & bits) << 4));
        put(to + 192, q3 | (((load<u64>(from, 40) >> <u64> j) & bits) << 4));
        to += 256;
      } else {
        put(to, both(q0, q1));
        put(to + 64, both(q2, q3));
        to += 128;
      }
      store<f32>(to, d * <f32> scale);
      store<f32>(to, -(dmin * <f32> minimum), 32);
      to += 64;
      if (j & 1) low += 32;
    }
    from += fifth ? 176 : 144;
  }
}

/** Q2_K: bits 2·k and up of byte l of a half of 128 columns are column 32·k + l. */
function packK2(from: usize, to: usize, columns: i32): void {
  const pairs: u64 = 0x0303030303030303;
  for (let column = 0; column < columns; column += 256) {
    const d = fromHalf(load<u16>(from, 80)), dmin = fromHalf(load<u16>(from, 82));
    for (let j = 0; j < 16; j++) {
      const at = from + 16 + ((j >> 3) << 5) + ((j & 1) << 4);
      const shift = <u64> (((j >> 1) & 3) << 1);
      put(to, both((load<u64>(at) >> shift) & pairs, (load<u64>(at, 8) >> shift) & pairs));
      const scales = <u32> load<u8>(from + j);
      store<f32>(to, d * <f32> (scales & 15), 64);
      store<f32>(to, -(dmin * <f32> (scales >> 4)), 96);
      to += 128;
    }
    from += 84;
  }
}

/** Q3_K: pairs of bits as in Q2_K, third bits (bit j of byte l: column 32·j + l), and scales of 6 bits less 32 in 12 bytes. */
function packK3(from: usize, to: usize, columns: i32): void {
  const pairs: u64 = 0x0303030303030303, bits: u64 = 0x0101010101010101;
  for (let column = 0; column < columns; column += 256) {
    const d = fromHalf(load<u16>(from, 108));
    for (let j = 0; j < 16; j++) {
      const third = from + ((j & 1) << 4), at = third + 32 + ((j >> 3) << 5);
      const shift = <u64> (((j >> 1) & 3) << 1), bit = <u64> (j >> 1);
      put(
        to,
        both(
          ((load<u64>(at) >> shift) & pairs) | (((load<u64>(third) >> bit) & bits) << 2),
          ((load<u64>(at, 8) >> shift) & pairs) | (((load<u64>(third, 8) >> bit) & bits) << 2),
        ),
      );
      const low = (<u32> load<u8>(from + (j & 7), 96) >> ((j >> 3) << 2)) & 15;
      const high = (<u32> load<u8>(from + (j & 3), 104) >> ((j >> 2) << 1)) & 3;
      store<f32>(to, d * <f32> (<i32> (low | (high << 4)) - 32), 64);
      to += 96;
    }
    from += 110;
  }
}

/** Q6_K: a half of 128 columns has 64 bytes of nibbles (columns l and l + 64) and 32 of pairs of bits (four columns each). */
function packK6(from: usize, to: usize, columns: i32): void {
  const pairs: u64 = 0x0303030303030303;
  for (let column = 0; column < columns; column += 256) {
    const d = fromHalf(load<u16>(from, 208));
    for (let j = 0; j < 16; j++) {
      const half = j >> 3, inHalf = j & 7;
      const low = from + (half << 6) + ((inHalf & 3) << 4);
      const high = from + 128 + (half << 5) + ((inHalf & 1) << 4);
      const shift = <u64> ((inHalf >> 2) << 2), highShift = <u64> ((inHalf >> 1) << 1);
      put(
        to,
        ((load<u64>(low) >> shift) & NIBBLES) | (((load<u64>(high) >> highShift) & pairs) << 4),
      );
      put(
        to + 64,
        ((load<u64>(low, 8) >> shift) & NIBBLES) |
          (((load<u64>(high, 8) >> highShift) & pairs) << 4),
      );
      store<f32>(to, d * <f32> load<i8>(from + j, 192), 128);
      to += 160;
    }
    from += 210;
  }
}

/**
 * Packs whole rows of a file into tiles, from the first row of a tile on.
 *
 * @param id the ggml type, by ggml's number
 * @param source the rows as they are in the file, at any address
 * @param destination ceil(rows / 8) tiles
 */
export function pack(id: i32, source: usize, destination: usize, rows: i32, columns: i32): void {
  if (id == F32 || id == F16 || id == BF16) {
    packPlain(id, source, destination, rows, columns);
    return;
  }
  const bytes = <usize> (columns / blockColumns(id)) * blockBytes(id);
  const perBlock = id >= Q2_K ? 256 : 32;
  const rowBytes = <usize> (columns / perBlock) * fileBytes(id);
  if (rows & 7) clear(destination + <usize> (rows >> 3) * bytes, bytes);
  for (let row = 0; row < rows; row++) {
    const to = destination + <usize> (row >> 3) * bytes + ((row & 7) << 2);
    if (id == Q4_0) packLegacy4(source, to, columns, false);
    else if (id == Q4_1) packLegacy4(source, to, columns, true);
    else if (id == Q5_0) packLegacy5(source, to, columns, false);
    else if (id == Q5_1) packLegacy5(source, to, columns, true);
    else if (id == Q8_0) packSigned(source, to, columns, row & 7);
    else if (id == Q2_K) packK2(source, to, columns);
    else if (id == Q3_K) packK3(source, to, columns);
    else if (id == Q4_K) packK45(source, to, columns, false);
    else if (id == Q5_K) packK45(source, to, columns, true);
    else packK6(source, to, columns);
    source += rowBytes;
  }
}
