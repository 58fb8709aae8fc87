// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Reads tiles back as f32: one row, or a whole tile. */
import { blockBytes, blockColumns, hasMinimums, hasNibbles, offsetOf, quantBytes } from "./tiles.as.ts";
import { BF16, F16, F32, Q8_0 } from "./types.as.ts";
import { FAST, readPlain } from "./plain.as.ts";

/** Whether a type is of plain floats. */
export function isPlain(id: i32): bool {
  return id == F32 || id == F16 || id == BF16;
}

/** The address of the tile with that row, from a weight descriptor. */
export function tileAt(descriptor: usize, tile: i32): usize {
  return <usize> load<u32>(descriptor) + <usize> tile * <usize> load<u32>(descriptor, 16);
}

/** Row `row` of a matrix as f32, exactly, to `out`. */
export function read_row(descriptor: usize, row: i32, out: usize): void {
  const id = load<i32>(descriptor, 4), columns = load<i32>(descriptor, 12);
  let block = tileAt(descriptor, row >> 3);
  row &= 7;
  if (isPlain(id)) {
    readPlain(id, block, row, columns, out);
    return;
  }
  const nibbles = hasNibbles(id), minimums = hasMinimums(id), offset = offsetOf(id);
  const lane = <usize> row << 2;
  for (let column = 0; column < columns; column += blockColumns(id)) {
    const scales = block + quantBytes(id) + lane;
    const scale = <f64> load<f32>(scales);
    const minimum = minimums ? <f64> load<f32>(scales, 32) : <f64> 0;
    for (let i = 0; i < blockColumns(id); i++, out += 4) {
      const part = i >> 4, inPart = i & 15;
      let quant: i32;
      if (nibbles) {
        const at = block + (part << 6) + (((inPart >> 2) & 1) << 5) + lane + (inPart & 3);
        quant = (<i32> load<u8>(at) >> ((inPart >> 3) << 2)) & 15;
      } else {
        const at = block + (part << 7) + ((inPart >> 2) << 5) + lane + (inPart & 3);
        quant = id == Q8_0 ? <i32> load<i8>(at) : <i32> load<u8>(at);
      }
      const value = scale * <f64> (quant - offset);
      // A sum with 0 would make 0 of −0.
      store<f32>(out, <f32> (minimums ? value + minimum : value));
    }
    block += blockBytes(id);
  }
}

/** Four quants, one of each lane, as f32. `shift` is where they lie in the lanes. */
@inline
function lanes(words: v128, shift: i32, mask: v128, offset: v128): v128 {
  return f32x4.convert_i32x4_s(
    i32x4.sub(v128.and(i32x4.shr_u(words, shift), mask), offset),
  );
}

@inline
function signedLanes(words: v128, shift: i32): v128 {
  return f32x4.convert_i32x4_s(i32x4.shr_s(i32x4.shl(words, 24 - shift), 24));
}

/** One vector of quants, four rows, as four columns of f32 from `out` on: 32 bytes a column. */
@inline
function unpackFour(
  words: v128,
  first: i32,
  mask: v128,
  offset: v128,
  scale: v128,
  minimum: v128,
  minimums: bool,
  out: usize,
): void {
  let a = f32x4.mul(lanes(words, first, mask, offset), scale);
  let b = f32x4.mul(lanes(words, first + 8, mask, offset), scale);
  let c = f32x4.mul(lanes(words, first + 16, mask, offset), scale);
  let d = f32x4.mul(lanes(words, first + 24, mask, offset), scale);
  if (minimums) {
    a = f32x4.add(a, minimum);
    b = f32x4.add(b, minimum);
    c = f32x4.add(c, minimum);
    d = f32x4.add(d, minimum);
  }
  v128.store(out, a);
  v128.store(out, b, 32);
  v128.store(out, c, 64);
  v128.store(out, d, 96);
}

/** Four rows of all blocks of nibbles. */
@inline
function unpackNibbles(id: i32, at: usize, columns: i32, out: usize, minimums: bool): void {
  const mask = i32x4.splat(15), offset = i32x4.splat(offsetOf(id));
  const size = blockColumns(id), quants = quantBytes(id), bytes = blockBytes(id);
  for (let column = 0; column < columns; column += size, at += bytes) {
    const scale = v128.load(at + quants), minimum = v128.load(at + quants + (minimums ? 32 : 0));
    for (let part = 0; part < size; part += 16, out += 512) {
      const from = at + (<usize> part << 2);
      const low = v128.load(from), high = v128.load(from, 32);
      unpackFour(low, 0, mask, offset, scale, minimum, minimums, out);
      unpackFour(high, 0, mask, offset, scale, minimum, minimums, out + 128);
      unpackFour(low, 4, mask, offset, scale, minimum, minimums, out + 256);
      unpackFour(high, 4, mask, offset, scale, minimum, minimums, out + 384);
    }
  }
}

/** Four rows of all blocks of bytes without a sign. */
@inline
function unpackBytes(id: i32, at: usize, columns: i32, out: usize, minimums: bool): void {
  const mask = i32x4.splat(255), offset = i32x4.splat(offsetOf(id));
  const size = blockColumns(id), quants = quantBytes(id), bytes = blockBytes(id);
  for (let column = 0; column < columns; column += size, at += bytes) {
    const scale = v128.load(at + quants), minimum = v128.load(at + quants + (minimums ? 32 : 0));
    for (let i = 0; i < size; i += 4, out += 128) {
      const words = v128.load(at + (<usize> i << 3));
      unpackFour(words, 0, mask, offset, scale, minimum, minimums, out);
    }
  }
}

/** Four rows of all blocks of signed bytes. */
function unpackSigned(at: usize, columns: i32, out: usize): void {
  for (let column = 0; column < columns; column += 32, at += 304) {
    const scale = v128.load(at, 256);
    for (let i = 0; i < 32; i += 4, out += 128) {
      const words = v128.load(at + (<usize> i << 3));
      v128.store(out, f32x4.mul(signedLanes(words, 0), scale));
      v128.store(out, f32x4.mul(signedLanes(words, 8), scale), 32);
      v128.store(out, f32x4.mul(signedLanes(words, 16), scale), 64);
      v128.store(out, f32x4.mul(signedLanes(words, 24), scale), 96);
    }
  }
}

/** Where sign, exponent and mantissa of a half lie in an f32. */
const HALF_BITS: i32 = <i32> 0x8fffe000;

/** Four halves whose bits are where those of an f32 are, less 2¹¹² times as large as meant: infinities and NaN, too. */
export function wholeHalves(bits: v128): v128 {
  const exponent = i32x4.splat(0x0f800000);
  const special = i32x4.eq(v128.and(bits, exponent), exponent);
  const value = f32x4.mul(bits, f32x4.splat(reinterpret<f32>(0x77800000)));
  return v128.or(value, v128.and(special, i32x4.splat(0x7f800000)));
}

function unpackHalves(tile: usize, columns: i32, out: usize): void {
  const fast = load<u32>(tile) == FAST;
  const mask = i32x4.splat(HALF_BITS), scale = f32x4.splat(reinterpret<f32>(0x72800000)); // 2¹⁰²
  let at = tile + 16;
  for (const end = at + (<usize> columns << 4); at < end; at += 16, out += 32) {
    const words = v128.load(at);
    const low = v128.and(i32x4.shr_s(i32x4.shl(words, 16), 3), mask);
    const high = v128.and(i32x4.shr_s(words, 3), mask);
    if (fast) {
      v128.store(out, f32x4.mul(low, scale));
      v128.store(out, f32x4.mul(high, scale), 16);
    } else {
      v128.store(out, wholeHalves(low));
      v128.store(out, wholeHalves(high), 16);
    }
  }
}

/** A whole tile as f32 [columns, filled up to a multiple of four][8 rows] to `out`, but for F32, which lies so already: its address. */
export function unpackTile(descriptor: usize, tile: i32, out: usize): usize {
  const id = load<i32>(descriptor, 4), columns = load<i32>(descriptor, 12);
  const at = tileAt(descriptor, tile);
  if (id == F32) return at;
  if (id == F16) {
    unpackHalves(at, (columns + 3) & -4, out);
  } else if (id == BF16) {
    const end = at + (<usize> ((columns + 3) & -4) << 4), mask = i32x4.splat(<i32> 0xffff0000);
    for (let from = at, to = out; from < end; from += 16, to += 32) {
      const words = v128.load(from);
      v128.store(to, i32x4.shl(words, 16));
      v128.store(to, v128.and(words, mask), 16);
    }
  } else if (id == Q8_0) {
    unpackSigned(at, columns, out);
    unpackSigned(at + 16, columns, out + 16);
  } else {
    for (let half: usize = 0; half < 32; half += 16) {
      const from = at + half, to = out + half;
      if (hasNibbles(id)) {
        if (hasMinimums(id)) unpackNibbles(id, from, columns, to, true);
        else unpackNibbles(id, from, columns, to, false);
      } else {
        if (hasMinimums(id)) unpackBytes(id, from, columns, to, true);
        else unpackBytes(id, from, columns, to, false);
      }
    }
  }
  return out;
}
