// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * What attention is made of: up to three rows at once against a tile of keys or values. A row is one head of a query; rows share what
 * is loaded of keys and values, which costs more than what is done with it.
 */
import { exp1, weights } from "../math.as.ts";

/** Keys of a tile: sums over keys are made in tiles, which are added up. */
export const TILE: i32 = 64;

/** What scores hold at keys that are not seen: see attention.ts. */
export const MASKED: f32 = -1e30;
/** The least score that is no mask. */
export const LEAST_SCORE: f32 = -9.999999394896025e29;

/** Lanes of a vector that belong to a row that ends within it: none, one, two, three. */
const LANES: usize = memory.data<u32>([
  0, 0, 0, 0,
  0xffffffff, 0, 0, 0,
  0xffffffff, 0xffffffff, 0, 0,
  0xffffffff, 0xffffffff, 0xffffffff, 0,
], 16);

/** The sums of four vectors' numbers. */
@inline
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}

/** The sum of a vector's numbers, as {@linkcode sums} makes it. */
@inline
function sum(a: v128): f32 {
  const b = f32x4.add(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  return f32x4.extract_lane(b, 0) + f32x4.extract_lane(b, 1);
}

/**
 * scale · q·k of up to three rows (`rows` is known to the compiler) and `count` keys that lie `stride` bytes apart. Rows of scores begin
 * at s0, s1, s2.
 */
@inline
function scoreTile(
  rows: i32,
  q0: usize,
  q1: usize,
  q2: usize,
  keys: usize,
  stride: usize,
  count: i32,
  width: i32,
  scale: f32,
  s0: usize,
  s1: usize,
  s2: usize,
): void {
  const bytes = <usize> (width >> 2) << 4;
  const mask = v128.load(LANES + (<usize> (width & 3) << 4));
  const scales = f32x4.splat(scale);
  const zero = f32x4.splat(0);
  let n: i32 = 0;
  // Four keys at a time; widths that are no multiple of four, which no model has, go one by one.
  for (; n + 4 <= count && !(width & 3); n += 4) {
    const k0 = keys, k1 = keys + stride, k2 = k1 + stride, k3 = k2 + stride;
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero;
    let b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    let c0 = zero, c1 = zero, c2 = zero, c3 = zero;
    for (let i: usize = 0; i < bytes; i += 16) {
      const a = v128.load(q0 + i);
      const b = rows > 1 ? v128.load(q1 + i) : zero;
      const c = rows > 2 ? v128.load(q2 + i) : zero;
      let key = v128.load(k0 + i);
      a0 = f32x4.relaxed_madd(a, key, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, key, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, key, c0);
      key = v128.load(k1 + i);
      a1 = f32x4.relaxed_madd(a, key, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, key, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, key, c1);
      key = v128.load(k2 + i);
      a2 = f32x4.relaxed_madd(a, key, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, key, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, key, c2);
      key = v128.load(k3 + i);
      a3 = f32x4.relaxed_madd(a, key, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, key, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, key, c3);
    }
    const at = <usize> n << 2;
    v128.store(s0 + at, f32x4.mul(sums(a0, a1, a2, a3), scales));
    if (rows > 1) v128.store(s1 + at, f32x4.mul(sums(b0, b1, b2, b3), scales));
    if (rows > 2) v128.store(s2 + at, f32x4.mul(sums(c0, c1, c2, c3), scales));
    keys = k3 + stride;
  }
  for (; n < count; n++, keys += stride) {
    let a0 = zero, b0 = zero, c0 = zero;
    for (let i: usize = 0; i < bytes; i += 16) {
      const key = v128.load(keys + i);
      a0 = f32x4.relaxed_madd(v128.load(q0 + i), key, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(v128.load(q1 + i), key, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(v128.load(q2 + i), key, c0);
    }
    if (width & 3) {
      const key = v128.and(v128.load(keys + bytes), mask);
      a0 = f32x4.relaxed_madd(v128.and(v128.load(q0 + bytes), mask), key, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(v128.and(v128.load(q1 + bytes), mask), key, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(v128.and(v128.load(q2 + bytes), mask), key, c0);
    }
    const at = <usize> n << 2;
    store<f32>(s0 + at, sum(a0) * scale);
    if (rows > 1) store<f32>(s1 + at, sum(b0) * scale);
    if (rows > 2) store<f32>(s2 + at, sum(c0) * scale);
  }
}

/** Scores of one to three rows: `s` is where the first row's begin, the others follow `sStride` bytes apart. */
export function score(
  rows: i32,
  q0: usize,
  q1: usize,
  q2: usize,
  keys: usize,
  stride: usize,
  count: i32,
  width: i32,
  scale: f32,
  s: usize,
  sStride: usize,
): void {
  const s1 = s + sStride, s2 = s1 + sStride;
  if (rows == 3) {
    scoreTile(3, q0, q1, q2, keys, stride, count, width, scale, s, s1, s2);
  } else if (rows == 2) {
    scoreTile(2, q0, q1, q1, keys, stride, count, width, scale, s, s1, s1);
  } else {
    scoreTile(1, q0, q0, q0, keys, stride, count, width, scale, s, s, s);
  }
}

/** A lane in all lanes. */
@inline
function splat(x: v128, lane: i32): v128 {
  if (lane == 0) return v128.shuffle<f32>(x, x, 0, 0, 0, 0);
  if (lane == 1) return v128.shuffle<f32>(x, x, 1, 1, 1, 1);
  if (lane == 2) return v128.shuffle<f32>(x, x, 2, 2, 2, 2);
  return v128.shuffle<f32>(x, x, 3, 3, 3, 3);
}

/**
 * sums = sums · shrink + Σ weight · value of up to three rows (`rows` is known to the compiler) and `count` values that lie `stride`
 * bytes apart. Rows of weights begin at w, rows of sums, of whole vectors, at o, one wStride and oStride bytes behind another.
 */
@inline
function mixTile(
  rows: i32,
  w: usize,
  wStride: usize,
  values: usize,
  stride: usize,
  count: i32,
  width: i32,
  o: usize,
  oStride: usize,
  shrink0: f32,
  shrink1: f32,
  shrink2: f32,
): void {
  const w1 = w + wStride, w2 = w1 + wStride;
  const zero = f32x4.splat(0);
  const bytes = <usize> count << 2, fours = <usize> (count >> 2) << 4;
  const end = <usize> (width + 3 >> 2) << 4;
  let j: usize = 0;
  for (; j + 64 <= end; j += 64) {
    let value = values + j;
    let a0 = zero, a1 = zero, a2 = zero, a3 = zero;
    let b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    let c0 = zero, c1 = zero, c2 = zero, c3 = zero;
    let n: usize = 0;
    let a = zero, b = zero, c = zero, v = zero;
    for (; n < fours; n += 16) {
      const x = v128.load(w + n);
      const y = rows > 1 ? v128.load(w1 + n) : zero;
      const z = rows > 2 ? v128.load(w2 + n) : zero;
      a = splat(x, 0);
      if (rows > 1) b = splat(y, 0);
      if (rows > 2) c = splat(z, 0);
      v = v128.load(value);
      a0 = f32x4.relaxed_madd(a, v, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, v, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, v, c0);
      v = v128.load(value, 16);
      a1 = f32x4.relaxed_madd(a, v, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, v, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, v, c1);
      v = v128.load(value, 32);
      a2 = f32x4.relaxed_madd(a, v, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, v, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, v, c2);
      v = v128.load(value, 48);
      a3 = f32x4.relaxed_madd(a, v, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, v, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, v, c3);
      value += stride;
      a = splat(x, 1);
      if (rows > 1) b = splat(y, 1);
      if (rows > 2) c = splat(z, 1);
      v = v128.load(value);
      a0 = f32x4.relaxed_madd(a, v, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, v, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, v, c0);
      v = v128.load(value, 16);
      a1 = f32x4.relaxed_madd(a, v, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, v, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, v, c1);
      v = v128.load(value, 32);
      a2 = f32x4.relaxed_madd(a, v, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, v, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, v, c2);
      v = v128.load(value, 48);
      a3 = f32x4.relaxed_madd(a, v, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, v, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, v, c3);
      value += stride;
      a = splat(x, 2);
      if (rows > 1) b = splat(y, 2);
      if (rows > 2) c = splat(z, 2);
      v = v128.load(value);
      a0 = f32x4.relaxed_madd(a, v, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, v, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, v, c0);
      v = v128.load(value, 16);
      a1 = f32x4.relaxed_madd(a, v, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, v, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, v, c1);
      v = v128.load(value, 32);
      a2 = f32x4.relaxed_madd(a, v, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, v, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, v, c2);
      v = v128.load(value, 48);
      a3 = f32x4.relaxed_madd(a, v, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, v, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, v, c3);
      value += stride;
      a = splat(x, 3);
      if (rows > 1) b = splat(y, 3);
      if (rows > 2) c = splat(z, 3);
      v = v128.load(value);
      a0 = f32x4.relaxed_madd(a, v, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, v, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, v, c0);
      v = v128.load(value, 16);
      a1 = f32x4.relaxed_madd(a, v, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, v, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, v, c1);
      v = v128.load(value, 32);
      a2 = f32x4.relaxed_madd(a, v, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, v, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, v, c2);
      v = v128.load(value, 48);
      a3 = f32x4.relaxed_madd(a, v, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, v, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, v, c3);
      value += stride;
    }
    for (; n < bytes; n += 4) {
      a = v128.load32_splat(w + n);
      if (rows > 1) b = v128.load32_splat(w1 + n);
      if (rows > 2) c = v128.load32_splat(w2 + n);
      v = v128.load(value);
      a0 = f32x4.relaxed_madd(a, v, a0);
      if (rows > 1) b0 = f32x4.relaxed_madd(b, v, b0);
      if (rows > 2) c0 = f32x4.relaxed_madd(c, v, c0);
      v = v128.load(value, 16);
      a1 = f32x4.relaxed_madd(a, v, a1);
      if (rows > 1) b1 = f32x4.relaxed_madd(b, v, b1);
      if (rows > 2) c1 = f32x4.relaxed_madd(c, v, c1);
      v = v128.load(value, 32);
      a2 = f32x4.relaxed_madd(a, v, a2);
      if (rows > 1) b2 = f32x4.relaxed_madd(b, v, b2);
      if (rows > 2) c2 = f32x4.relaxed_madd(c, v, c2);
      v = v128.load(value, 48);
      a3 = f32x4.relaxed_madd(a, v, a3);
      if (rows > 1) b3 = f32x4.relaxed_madd(b, v, b3);
      if (rows > 2) c3 = f32x4.relaxed_madd(c, v, c3);
      value += stride;
    }
    addUp(o + j, shrink0, a0, a1, a2, a3);
    if (rows > 1) addUp(o + oStride + j, shrink1, b0, b1, b2, b3);
    if (rows > 2) addUp(o + 2 * oStride + j, shrink2, c0, c1, c2, c3);
  }
  for (; j < end; j += 16) {
    let value = values + j;
    let a = zero, b = zero, c = zero;
    for (let n: usize = 0; n < bytes; n += 4, value += stride) {
      const v = v128.load(value);
      a = f32x4.relaxed_madd(v128.load32_splat(w + n), v, a);
      if (rows > 1) b = f32x4.relaxed_madd(v128.load32_splat(w1 + n), v, b);
      if (rows > 2) c = f32x4.relaxed_madd(v128.load32_splat(w2 + n), v, c);
    }
    addTo(o + j, shrink0, a);
    if (rows > 1) addTo(o + oStride + j, shrink1, b);
    if (rows > 2) addTo(o + 2 * oStride + j, shrink2, c);
  }
}

function addTo(o: usize, shrink: f32, a: v128): void {
  v128.store(o, f32x4.relaxed_madd(v128.load(o), f32x4.splat(shrink), a));
}

function addUp(o: usize, shrink: f32, a: v128, b: v128, c: v128, d: v128): void {
  addTo(o, shrink, a);
  addTo(o + 16, shrink, b);
  addTo(o + 32, shrink, c);
  addTo(o + 48, shrink, d);
}

function mix1(
  w: usize,
  values: usize,
  stride: usize,
  count: i32,
  width: i32,
  o: usize,
  shrink: f32,
): void {
  mixTile(1, w, 0, values, stride, count, width, o, 0, shrink, 0, 0);
}

/**
 * Adds a tile of values to the sums of one to three rows. Of its values the rows see the first c0, c1, c2, not fewer than the row
 * before: no row looks at a value that it does not see, which may be NaN. Rows that see none are left alone.
 */
export function mix(
  rows: i32,
  w: usize,
  wStride: usize,
  values: usize,
  stride: usize,
  c0: i32,
  c1: i32,
  c2: i32,
  width: i32,
  o: usize,
  oStride: usize,
  shrink0: f32,
  shrink1: f32,
  shrink2: f32,
): void {
  const all = max(c0, 0);
  if (all > 0) {
    if (rows == 3) {
      mixTile(3, w, wStride, values, stride, all, width, o, oStride, shrink0, shrink1, shrink2);
    } else if (rows == 2) {
      mixTile(2, w, wStride, values, stride, all, width, o, oStride, shrink0, shrink1, 0);
    } else {
      mix1(w, values, stride, all, width, o, shrink0);
    }
  }
  const rest = values + <usize> all * stride, at = w + (<usize> all << 2);
  if (rows > 1 && c1 > all) {
    mix1(at + wStride, rest, stride, c1 - all, width, o + oStride, all ? 1 : shrink1);
  }
  if (rows > 2 && c2 > all) {
    mix1(at + 2 * wStride, rest, stride, c2 - all, width, o + 2 * oStride, all ? 1 : shrink2);
  }
}

/** Fills what is left of a vector behind the first `count` numbers with −∞. */
@inline
function closeVector(row: usize, count: i32): void {
  for (let i = count; i & 3; i++) store<f32>(row + (<usize> i << 2), -Infinity);
}

/**
 * Softmax so far of a row of a tile's scores, which become weights beside the largest score. `state` holds that and the sum of
 * weights. The row ends at a whole vector.
 *
 * @returns what earlier weights shrink by
 */
export function weigh(row: usize, count: i32, state: usize): f32 {
  closeVector(row, count);
  const end = row + (<usize> (count + 3 >> 2) << 4);
  const before = load<f32>(state);
  let most = f32x4.splat(before);
  for (let at = row; at < end; at += 16) most = f32x4.pmax(most, v128.load(at));
  most = f32x4.pmax(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1));
  most = f32x4.pmax(most, v128.shuffle<f32>(most, most, 1, 0, 3, 2));
  const total = weights(row, end, row, most);
  const largest = f32x4.extract_lane(most, 0);
  const shrink = exp1(before - largest);
  store<f32>(state, largest);
  store<f32>(state, load<f32>(state, 4) * shrink + sum(total), 4);
  return shrink;
}
