// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Tiles of plain floats, [column][8 rows], filled up with zeros to a multiple of four columns. Those of 16 bits have the rows in the
 * order 0, 4, 1, 5, 2, 6, 3, 7: a vector's low halves are then the rows 0 to 3, its high halves 4 to 7.
 *
 * A tile of F16 begins with 16 bytes, of which the first word says how its numbers are stored. Where all are smaller than 64 (FAST), they
 * are 2¹⁰ times themselves, which is exact: no number is subnormal then, and its sign, exponent and mantissa, moved to where f32 has them,
 * are a normal number 2⁻¹⁰² times as large. Otherwise (RAW) they are as in the file.
 */
import { clear, F16, F32, fromHalf } from "./types.as.ts";

/** A tile of F16 whose numbers are 2¹⁰ times themselves. */
export const FAST: u32 = 0;
/** A tile of F16 with numbers of any size, infinities and NaN. */
export const RAW: u32 = 1;

/** Bytes of a plain tile before its numbers. */
export function headBytes(id: i32): usize {
  return id == F16 ? 16 : 0;
}

/** Bytes of a column of a plain tile. */
export function columnBytes(id: i32): usize {
  return id == F32 ? 32 : 16;
}

/** Place of a row among the halves of a column. */
function place(row: i32): usize {
  return ((row & 3) << 1) + (row >> 2);
}

/** The first word of a tile of F16, from its rows in the file. */
function kindOf(source: usize, count: i32): u32 {
  let most = i32x4.splat(0), i = 0;
  const magnitude = i16x8.splat(0x7fff);
  for (; i + 8 <= count; i += 8) {
    most = i16x8.max_s(most, v128.and(v128.load(source + (<usize> i << 1)), magnitude));
  }
  most = i16x8.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  most = i16x8.max_s(most, v128.shuffle<i32>(most, most, 1, 0, 3, 2));
  let largest = max<i32>(i16x8.extract_lane_s(most, 0), i16x8.extract_lane_s(most, 1));
  for (; i < count; i++) {
    largest = max<i32>(largest, <i32> (load<u16>(source + (<usize> i << 1)) & 0x7fff));
  }
  return largest < 0x5400 ? FAST : RAW; // 64
}

/** 2¹⁰ times a half that is smaller than 64, as bits. */
function scaled(bits: u32): u32 {
  if (bits & 0x7c00) return bits + (10 << 10);
  // A subnormal number is its mantissa times 2⁻²⁴.
  const mantissa = bits & 0x3ff;
  if (!mantissa) return bits;
  return (bits & 0x8000) | ((reinterpret<u32>(<f32> mantissa) >> 13) - (126 << 10));
}

/** The same of eight. */
function scaled8(bits: v128): v128 {
  const exponents = v128.and(bits, i16x8.splat(0x7c00));
  const small = i16x8.eq(exponents, i16x8.splat(0));
  const normal = i16x8.add(bits, v128.andnot(i16x8.splat(10 << 10), small));
  if (!v128.any_true(v128.and(small, i16x8.ne(v128.and(bits, i16x8.splat(0x3ff)), exponents)))) {
    return normal;
  }
  const mantissas = v128.and(bits, i16x8.splat(0x3ff));
  const low = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(mantissas));
  const high = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(mantissas));
  const less = i32x4.splat(126 << 10);
  const made = i16x8.narrow_i32x4_u(
    i32x4.sub(i32x4.shr_u(low, 13), less),
    i32x4.sub(i32x4.shr_u(high, 13), less),
  );
  const fixed = v128.or(v128.and(bits, i16x8.splat(<i16> 0x8000)), made);
  const zero = i16x8.eq(mantissas, i16x8.splat(0));
  return v128.bitselect(fixed, normal, v128.andnot(small, zero));
}

/** Four columns of eight rows of f32. */
function transpose4(source: usize, stride: usize, to: usize): void {
  const a = v128.load(source), b = v128.load(source + stride);
  const c = v128.load(source + 2 * stride), d = v128.load(source + 3 * stride);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ab2 = v128.shuffle<i32>(a, b, 2, 6, 3, 7), cd2 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(to, v128.shuffle<i64>(ab, cd, 1, 3), 32);
  v128.store(to, v128.shuffle<i64>(ab2, cd2, 0, 2), 64);
  v128.store(to, v128.shuffle<i64>(ab2, cd2, 1, 3), 96);
}

/** Rows `row` and `row` + 4 of eight columns of halves: the words of four columns, then of the next four. */
@inline
function pairLow(source: usize, stride: usize, times: bool): v128 {
  const a = v128.load(source), b = v128.load(source + 4 * stride);
  const both = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  return times ? scaled8(both) : both;
}

@inline
function pairHigh(source: usize, stride: usize, times: bool): v128 {
  const a = v128.load(source), b = v128.load(source + 4 * stride);
  const both = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  return times ? scaled8(both) : both;
}

@inline
function words4(a: v128, b: v128, c: v128, d: v128, to: usize): void {
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ab2 = v128.shuffle<i32>(a, b, 2, 6, 3, 7), cd2 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(to, v128.shuffle<i64>(ab, cd, 1, 3), 16);
  v128.store(to, v128.shuffle<i64>(ab2, cd2, 0, 2), 32);
  v128.store(to, v128.shuffle<i64>(ab2, cd2, 1, 3), 48);
}

/** Eight columns of eight rows of halves. */
function transpose8(source: usize, stride: usize, to: usize, times: bool): void {
  const second = source + stride, third = second + stride, fourth = third + stride;
  words4(
    pairLow(source, stride, times),
    pairLow(second, stride, times),
    pairLow(third, stride, times),
    pairLow(fourth, stride, times),
    to,
  );
  words4(
    pairHigh(source, stride, times),
    pairHigh(second, stride, times),
    pairHigh(third, stride, times),
    pairHigh(fourth, stride, times),
    to + 64,
  );
}

/** Packs whole rows of plain floats: see `pack`. */
export function packPlain(id: i32, source: usize, to: usize, rows: i32, columns: i32): void {
  const wide = id == F32;
  const size: usize = wide ? 4 : 2, stride = <usize> columns * size;
  const bytes = headBytes(id) + <usize> ((columns + 3) & -4) * columnBytes(id);
  for (let row = 0; row < rows; row += 8, source += 8 * stride, to += bytes) {
    const count = min(8, rows - row);
    let times = false;
    if (count < 8 || columns & 3) clear(to, bytes);
    if (id == F16) {
      const kind = kindOf(source, count * columns);
      store<u32>(to, kind);
      times = kind == FAST;
    }
    const numbers = to + headBytes(id);
    let column = 0;
    if (count == 8) {
      const step = wide ? 4 : 8;
      for (; column + step <= columns; column += step) {
        const at = source + <usize> column * size,
          there = numbers + <usize> column * columnBytes(id);
        if (wide) {
          transpose4(at, stride, there);
          transpose4(at + 4 * stride, stride, there + 16);
        } else {
          transpose8(at, stride, there, times);
        }
      }
    }
    for (; column < columns; column++) {
      const there = numbers + <usize> column * columnBytes(id);
      for (let i = 0; i < count; i++) {
        const at = source + <usize> i * stride + <usize> column * size;
        if (wide) {
          store<u32>(there + (<usize> i << 2), load<u32>(at));
        } else {
          const bits = <u32> load<u16>(at);
          store<u16>(there + (place(i) << 1), <u16> (times ? scaled(bits) : bits));
        }
      }
    }
  }
}

/** One row of a plain tile as f32. */
export function readPlain(id: i32, tile: usize, row: i32, columns: i32, out: usize): void {
  const numbers = tile + headBytes(id);
  const fast = id == F16 && load<u32>(tile) == FAST;
  for (let column = 0; column < columns; column++, out += 4) {
    const there = numbers + <usize> column * columnBytes(id);
    if (id == F32) {
      store<u32>(out, load<u32>(there + (<usize> row << 2)));
      continue;
    }
    const bits = <u32> load<u16>(there + (place(row) << 1));
    if (id != F16) store<u32>(out, bits << 16);
    else store<f32>(out, fromHalf(bits) * (fast ? reinterpret<f32>(0x3a800000) : <f32> 1)); // 2⁻¹⁰
  }
}
