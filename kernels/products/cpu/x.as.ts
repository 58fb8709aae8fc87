// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * What the products with few positions make of x before they begin: each thread for itself, since that costs less than to wait.
 *
 * Products with quants are sums of whole numbers. 32 columns of x become whole numbers of 24 bits times a unit, of which the largest of them has
 * as many as fit (28 bits times a power of two for signed bytes), so that an error is at most about 2⁻²⁴ (2⁻²⁷) of the largest; their digits are
 * multiplied as bytes. Where one of them is infinite or NaN, the unit is NaN.
 */

/**
 * Constants lie in memory: what the compiler knows it would put together anew at every use, and a load from a known address needs no
 * check of bounds.
 */
const MAGNITUDE: usize = memory.data<u32>([0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff], 16);
/** Added to a whole number, it makes bytes without a sign of its digits. */
const DIGITS: usize = memory.data<u32>([0x808080, 0x808080, 0x808080, 0x808080], 16);
const ONES: usize = memory.data<u32>([0x01010101, 0x01010101, 0x01010101, 0x01010101], 16);
/** Of four columns with four bytes each: the first byte of all, the second, … */
const BY_BYTES: usize = memory.data<u8>([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15], 16);
/** 2²⁷: added to them, whole numbers have no sign. */
const SEVENS: usize = memory.data<u32>([1 << 27, 1 << 27, 1 << 27, 1 << 27], 16);
/** Digits of 7 bits, each at the place of a byte. */
const SEVEN0: usize = memory.data<u32>([0x7f, 0x7f, 0x7f, 0x7f], 16);
const SEVEN1: usize = memory.data<u32>([0x7f00, 0x7f00, 0x7f00, 0x7f00], 16);
const SEVEN2: usize = memory.data<u32>([0x7f0000, 0x7f0000, 0x7f0000, 0x7f0000], 16);
const SEVEN3: usize = memory.data<u32>([0x7f000000, 0x7f000000, 0x7f000000, 0x7f000000], 16);

/** Bytes for 16 columns in digits of 8 bits with a sign: see {@linkcode turnSigned}. */
export const SIGNED_BYTES: usize = 80;
/** Bytes for 32 columns in digits of 7 bits: see {@linkcode turnSevens}. */
export const SEVENS_BYTES: usize = 144;

@inline
export function spread0(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 0, 0, 0, 0);
}

@inline
export function spread1(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 1, 1, 1, 1);
}

@inline
export function spread2(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 2, 2, 2, 2);
}

@inline
export function spread3(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 3, 3, 3, 3);
}

/** The larger magnitudes of two vectors, as bits. */
@inline
function larger(a: v128, b: v128, magnitude: v128): v128 {
  return i32x4.max_s(v128.and(a, magnitude), v128.and(b, magnitude));
}

/** The largest magnitude among 16 columns, as bits: those of infinities and NaN are the largest. */
@inline
function largest4(x: usize, magnitude: v128): v128 {
  return i32x4.max_s(
    larger(v128.load(x), v128.load(x, 16), magnitude),
    larger(v128.load(x, 32), v128.load(x, 48), magnitude),
  );
}

/** The largest lane. */
@inline
function largestLane(v: v128): u32 {
  v = i32x4.max_s(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  v = i32x4.max_s(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2));
  return i32x4.extract_lane(v, 0);
}

/** Numbers times a power of two as the nearest whole ones. */
@inline
function whole(x: usize, power: v128): v128 {
  return i32x4.relaxed_trunc_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x), power)));
}

/** The digits of whole numbers, four columns: first the lowest of all. */
@inline
function digits(n: v128, offset: v128, byBytes: v128): v128 {
  return i8x16.relaxed_swizzle(v128.xor(i32x4.add(n, offset), offset), byBytes);
}

/**
 * 16 columns to `out`: whole numbers n = 65536·d0 + 256·d1 + d2 in digits from −128 to 127. Words 0 and 1 are −Σ(256·d0 + d1) and −Σd2, with which
 * products take the offset of quants back, word 2 is the unit, word 3 is Σn; words 4 to 7 are room for the same of 32 columns; then d0 of 16
 * columns, d1 and d2.
 */
function turn16(x: usize, unit: f32, inverse: f32, out: usize): void {
  const times = f32x4.splat(inverse);
  const offset = v128.load(DIGITS), byBytes = v128.load(BY_BYTES);
  const a = whole(x, times), b = whole(x + 16, times);
  const c = whole(x + 32, times), d = whole(x + 48, times);
  const a2 = digits(a, offset, byBytes), b2 = digits(b, offset, byBytes);
  const c2 = digits(c, offset, byBytes), d2 = digits(d, offset, byBytes);
  const ab = v128.shuffle<i32>(a2, b2, 0, 4, 1, 5), cd = v128.shuffle<i32>(c2, d2, 0, 4, 1, 5);
  const ab2 = v128.shuffle<i32>(a2, b2, 2, 6, 3, 7), cd2 = v128.shuffle<i32>(c2, d2, 2, 6, 3, 7);
  const last = v128.shuffle<i64>(ab, cd, 0, 2);
  v128.store(out, v128.shuffle<i64>(ab2, cd2, 0, 2), 32);
  v128.store(out, v128.shuffle<i64>(ab, cd, 1, 3), 48);
  v128.store(out, last, 64);
  const lasts = i32x4.relaxed_dot_i8x16_i7x16_add_s(last, v128.load(ONES), i32x4.splat(0));
  // Four sums of each become two, then one.
  const all = i32x4.add(i32x4.add(a, b), i32x4.add(c, d));
  let sums = i32x4.add(
    v128.shuffle<i32>(all, lasts, 0, 4, 1, 5),
    v128.shuffle<i32>(all, lasts, 2, 6, 3, 7),
  );
  sums = i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
  const sum = i32x4.extract_lane(sums, 0), sum2 = i32x4.extract_lane(sums, 1);
  store<i32>(out, -((sum - sum2) >> 8));
  store<i32>(out, -sum2, 4);
  store<f32>(out, unit, 8);
  store<f32>(out, <f32> sum, 12);
}

/** The largest whole number of three digits is 0x7f7f7f; one less leaves room for rounding. */
const MOST: f32 = 0x7f7f7e;
/** 2⁻¹⁰³: with less than it as the largest of a block, the unit would be subnormal. */
const LEAST: f32 = 9.860761315262648e-32;

/** 2ⁿ, for n from −126 to 127. */
@inline
function powerOfTwo(n: i32): f32 {
  return reinterpret<f32>((n + 127) << 23);
}

/** Whether 32 columns times a power of two are whole numbers. */
function areWhole(x: usize, times: f32): bool {
  const power = f32x4.splat(times);
  for (const end = x + 128; x < end; x += 16) {
    const n = f32x4.mul(v128.load(x), power);
    if (v128.any_true(f32x4.ne(n, f32x4.nearest(n)))) return false;
  }
  return true;
}

/** x [columns] in digits of 8 bits with a sign to `out`, {@linkcode SIGNED_BYTES} for 16 columns. */
export function turnSigned(x: usize, columns: i32, out: usize): void {
  const magnitude = v128.load(MAGNITUDE);
  for (const end = x + (<usize> columns << 2); x < end; x += 128, out += 2 * SIGNED_BYTES) {
    const bits = largestLane(i32x4.max_s(largest4(x, magnitude), largest4(x + 64, magnitude)));
    if (bits < 0x7f800000) {
      const most = max(reinterpret<f32>(bits), LEAST);
      let unit = most / MOST, inverse = MOST / most;
      // Two's powers lose nothing of numbers that are whole in their units.
      const exponent = max<i32>(<i32> ((bits + 0x10101) >> 23) - 127 - 22, -126);
      if (areWhole(x, powerOfTwo(-exponent))) {
        unit = powerOfTwo(exponent);
        inverse = powerOfTwo(-exponent);
      }
      turn16(x, unit, inverse, out);
      turn16(x + 64, unit, inverse, out + SIGNED_BYTES);
    } else {
      for (let i: usize = 0; i < 2 * SIGNED_BYTES; i += 16) v128.store(out + i, i32x4.splat(0));
      for (let i: usize = 0; i < 2 * SIGNED_BYTES; i += SIGNED_BYTES) {
        store<f32>(out + i, NaN, 8);
        store<f32>(out + i, NaN, 12);
      }
    }
    const next = out + SIGNED_BYTES;
    const less = load<i32>(out) + load<i32>(next), lastLess = load<i32>(out, 4) + load<i32>(next, 4);
    store<i32>(out, less, 16);
    store<i32>(out, lastLess, 20);
    store<f32>(out, load<f32>(out, 8), 24);
    store<f32>(out, <f32> -((less << 8) + lastLess), 28);
  }
}

/** Four columns' digits of 7 bits as bytes: first the lowest of all. */
@inline
function sevens(x: usize, power: v128): v128 {
  const n = i32x4.add(whole(x, power), v128.load(SEVENS));
  const low = v128.or(
    v128.and(n, v128.load(SEVEN0)),
    v128.and(i32x4.shl(n, 1), v128.load(SEVEN1)),
  );
  const high = v128.or(
    v128.and(i32x4.shl(n, 2), v128.load(SEVEN2)),
    v128.and(i32x4.shl(n, 3), v128.load(SEVEN3)),
  );
  return i8x16.relaxed_swizzle(v128.or(low, high), v128.load(BY_BYTES));
}

/**
 * x [columns] in digits of 7 bits without a sign to `out`, {@linkcode SEVENS_BYTES} for 32 columns: n + 2²⁷ = 2²¹·d0 + 2¹⁴·d1 + 2⁷·d2 + d3.
 * Word 0 is the power, then come d0 of 16 columns, d1, d2 and d3, then those of the other 16.
 */
export function turnSevens(x: usize, columns: i32, out: usize): void {
  const magnitude = v128.load(MAGNITUDE);
  for (const end = x + (<usize> columns << 2); x < end; out += 16) {
    const bits = largestLane(i32x4.max_s(largest4(x, magnitude), largest4(x + 64, magnitude)));
    const exponent = max<i32>(<i32> (bits >> 23) - 127 - 26, -126);
    store<f32>(out, bits < 0x7f800000 ? powerOfTwo(exponent) : NaN);
    // Of infinities and NaN the digits do not matter.
    const times = f32x4.splat(bits < 0x7f800000 ? powerOfTwo(-exponent) : 0);
    for (let half = 0; half < 2; half++, x += 64, out += 64) {
      const a = sevens(x, times), b = sevens(x + 16, times);
      const c = sevens(x + 32, times), d = sevens(x + 48, times);
      const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
      const ab2 = v128.shuffle<i32>(a, b, 2, 6, 3, 7), cd2 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      v128.store(out, v128.shuffle<i64>(ab2, cd2, 1, 3), 16);
      v128.store(out, v128.shuffle<i64>(ab2, cd2, 0, 2), 32);
      v128.store(out, v128.shuffle<i64>(ab, cd, 1, 3), 48);
      v128.store(out, v128.shuffle<i64>(ab, cd, 0, 2), 64);
    }
  }
}

/**
 * x [columns] to `out` + 16, filled up with zeros to a multiple of four, times a power of two that makes the largest about 2³⁰: so products
 * with halves that are far too small stay in range. Word 0 takes the power back, less a factor 2³⁰.
 */
export function turnScaled(x: usize, columns: i32, out: usize): void {
  const magnitude = v128.load(MAGNITUDE), bytes = <usize> columns << 2;
  let most = i32x4.splat(0), i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    most = i32x4.max_s(most, v128.and(v128.load(x + i), magnitude));
  }
  let bits = largestLane(most);
  for (; i < bytes; i += 4) bits = max<u32>(bits, load<u32>(x + i) & 0x7fffffff);
  const exponent = bits < 0x7f800000 ? max<i32>(<i32> (bits >> 23) - 127, -97) : 0;
  store<f32>(out, powerOfTwo(exponent));
  fill(x, columns, out + 16, powerOfTwo(30 - exponent));
}

/** x [columns] times a factor to `out`, filled up with zeros to a multiple of four. */
export function fill(x: usize, columns: i32, out: usize, factor: f32): void {
  const factors = f32x4.splat(factor), bytes = <usize> columns << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.mul(v128.load(x + i), factors));
  if (i == bytes) return;
  v128.store(out + i, f32x4.splat(0));
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) * factor);
}
