// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Products with weights: y = W·x with the epilogues of products.ts. Threads take tiles of eight rows. With few positions the quants
 * themselves are multiplied (quants.as.ts), with many a tile is made f32 first (many.as.ts).
 */
import { gated4, SILU } from "../../elementwise/activations.as.ts";
import { isPlain, tileAt, unpackTile } from "../../weights/read.as.ts";
import { BF16, F16, F32, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0 } from "../../weights/types.as.ts";
import { take } from "../../work.as.ts";
import { many } from "./many.as.ts";
import { normRows } from "./norm_rows.as.ts";
import { brainFloats, floats, halves } from "./plain.as.ts";
import {
  bytes16less32,
  bytes32,
  bytes32less16,
  nibbles16,
  nibbles16less4,
  nibbles32,
  nibbles32less8,
  signed,
} from "./quants.as.ts";
import { fill, SEVENS_BYTES, SIGNED_BYTES, turnScaled, turnSevens, turnSigned } from "./x.as.ts";

const RESIDUAL: i32 = 1;
const QKV: i32 = 2;
const GLU: i32 = 3;

/** From these numbers of positions on a tile is made f32 first: with quants, and with floats. */
export const MANY_QUANTS: i32 = 16;
export const MANY_FLOATS: i32 = 4;

/** Tiles that are read together (see quants.as.ts). */
export const TOGETHER: i32 = 4;

/** Products that a thread takes at a time, at least: an atomic addition costs as much as a thousand of them. */
export const PRODUCTS: i32 = 65536;

/** Forms of x for few positions. */
const SIGNED: i32 = 0;
const SEVENS: i32 = 1;
const SCALED: i32 = 2;
const PLAIN: i32 = 3;

/** The form that x takes for a type. */
export function formOf(id: i32): i32 {
  if (id == Q8_0) return SEVENS;
  if (id == F16) return SCALED;
  return isPlain(id) ? PLAIN : SIGNED;
}

/** Bytes of a position in a form. */
export function formBytes(form: i32, columns: i32): usize {
  if (form == SIGNED) return <usize> (columns >> 4) * SIGNED_BYTES;
  if (form == SEVENS) return <usize> (columns >> 5) * SEVENS_BYTES;
  return (form == SCALED ? 16 : 0) + ((<usize> columns + 3) & -4) * 4;
}

/** Makes a form of all positions at `out`. */
export function turn(form: i32, x: usize, tokens: i32, columns: i32, out: usize): void {
  const bytes = formBytes(form, columns);
  for (let t = 0; t < tokens; t++, x += <usize> columns << 2, out += bytes) {
    if (form == SIGNED) turnSigned(x, columns, out);
    else if (form == SEVENS) turnSevens(x, columns, out);
    else if (form == SCALED) turnScaled(x, columns, out);
    else fill(x, columns, out, 1);
  }
}

/** A weight descriptor of a step. */
@inline
function weightOf(step: usize, i: i32): usize {
  return load<u32>(step + (<usize> i << 2), 32);
}

/**
 * Makes the forms of x that the weights of a step need, from `free` on, and writes their addresses to `forms`, four words.
 *
 * @returns whether tiles are multiplied as they are; else there are too many positions, or `limit` is too near
 */
function turned(
  step: usize,
  weights: i32,
  x: usize,
  tokens: i32,
  columns: i32,
  forms: usize,
  free: usize,
  limit: usize,
): bool {
  v128.store(forms, i32x4.splat(0));
  let most = MANY_QUANTS, needed: usize = 0;
  for (let i = 0; i < weights; i++) {
    const id = load<i32>(weightOf(step, i), 4), form = formOf(id), at = forms + (<usize> form << 2);
    if (isPlain(id)) most = MANY_FLOATS;
    if (!load<u32>(at)) needed += <usize> tokens * formBytes(form, columns);
    store<u32>(at, 1);
  }
  if (tokens >= most || free + needed > limit) return false;
  for (let form = 0; form < 4; form++) {
    const at = forms + (<usize> form << 2);
    if (!load<u32>(at)) continue;
    if (form == PLAIN && !(columns & 3)) { // x itself
      store<u32>(at, x);
      continue;
    }
    store<u32>(at, free);
    turn(form, x, tokens, columns, free);
    free += <usize> tokens * formBytes(form, columns);
  }
  return true;
}

/** Products of tiles with few positions in the form of their type, [tokens][tiles][8 rows] to `out`; `tiles` more are overwritten. */
export function multiplyFew(
  weight: usize,
  first: i32,
  tiles: i32,
  x: usize,
  tokens: i32,
  columns: i32,
  out: usize,
): void {
  const id = load<i32>(weight, 4),
    at = tileAt(weight, first),
    bytes = <usize> load<u32>(weight, 16);
  const xBytes = formBytes(formOf(id), columns);
  for (let t = 0; t < tokens; t++, out += <usize> tiles << 5) {
    const end = x + xBytes;
    if (id == Q4_1 || id == Q4_K) nibbles32(at, bytes, tiles, x, end, out);
    else if (id == Q8_0) signed(at, bytes, tiles, x, end, out);
    else if (id == Q6_K) bytes16less32(at, bytes, tiles, x, end, out);
    else if (id == Q4_0) nibbles32less8(at, bytes, tiles, x, end, out);
    else if (id == F16) halves(at, bytes, tiles, x, end, out);
    else if (id == BF16) brainFloats(at, bytes, tiles, x, end, out);
    else if (id == F32) floats(at, bytes, tiles, x, end, out);
    else if (id == Q5_0) bytes32less16(at, bytes, tiles, x, end, out);
    else if (id == Q5_1 || id == Q5_K) bytes32(at, bytes, tiles, x, end, out);
    else if (id == Q3_K) nibbles16less4(at, bytes, tiles, x, end, out);
    else nibbles16(at, bytes, tiles, x, end, out);
    x = end;
  }
}

/** Products of tiles with x, [tokens][tiles][8 rows] to `out`; one tile of f32 is made at `free`. */
function multiply(
  weight: usize,
  first: i32,
  tiles: i32,
  few: bool,
  forms: usize,
  x: usize,
  tokens: i32,
  columns: i32,
  free: usize,
  out: usize,
): void {
  if (few) {
    const form = load<u32>(forms + (<usize> formOf(load<i32>(weight, 4)) << 2));
    multiplyFew(weight, first, tiles, form, tokens, columns, out);
  } else {
    many(unpackTile(weight, first, free), x, <usize> columns << 2, columns, tokens, out);
  }
}

/** Tiles of a matrix. */
@inline
function tilesOf(weight: usize): i32 {
  return (load<i32>(weight, 8) + 7) >> 3;
}

/** silu(g) · u of four numbers. */
function gatedSilu(gate: v128, up: v128): v128 {
  return gated4(SILU, gate, up);
}

/** act(g) · u of four numbers, of any activation. */
function gated(activation: i32, gate: v128, up: v128): v128 {
  return gated4(activation, gate, up);
}

/** Writes `count` of the eight numbers `a` and `b` to `to`. */
function write(to: usize, a: v128, b: v128, count: i32): void {
  if (count >= 8) {
    v128.store(to, a);
    v128.store(to, b, 16);
    return;
  }
  if (count >= 4) {
    v128.store(to, a);
    to += 16;
    count -= 4;
    a = b;
  }
  if (count > 0) store<f32>(to, f32x4.extract_lane(a, 0));
  if (count > 1) store<f32>(to, f32x4.extract_lane(a, 1), 4);
  if (count > 2) store<f32>(to, f32x4.extract_lane(a, 2), 8);
}

/** The first `count` of eight numbers; the others are 0. */
function read4(from: usize, count: i32): v128 {
  if (count >= 4) return v128.load(from);
  let four = f32x4.splat(0);
  if (count > 0) four = f32x4.replace_lane(four, 0, load<f32>(from));
  if (count > 1) four = f32x4.replace_lane(four, 1, load<f32>(from, 4));
  if (count > 2) four = f32x4.replace_lane(four, 2, load<f32>(from, 8));
  return four;
}

/** Sums of tiles from `row` on, [tokens][tiles][8 rows], to the outputs; `up` are those of the second weight. */
function finish(
  epilogue: i32,
  step: usize,
  y: usize,
  sums: usize,
  up: usize,
  tokens: i32,
  row: i32,
  tiles: i32,
  rows: i32,
): void {
  const residual = <usize> load<u32>(step, 12);
  const second = <usize> load<u32>(step, 52), third = <usize> load<u32>(step, 56);
  const activation = load<i32>(step, 112);
  for (let t = 0; t < tokens; t++) {
    let at = (<usize> t * rows + row) << 2, count = rows - row;
    for (let tile = 0; tile < tiles; tile++, at += 32, count -= 8, sums += 32, up += 32) {
      let a = v128.load(sums), b = v128.load(sums, 16);
      if (epilogue == RESIDUAL) {
        if (second) write(second + at, a, b, count);
        a = f32x4.add(read4(residual + at, count), a);
        b = f32x4.add(read4(residual + at + 16, count - 4), b);
      } else if (epilogue == GLU) {
        const upA = v128.load(up), upB = v128.load(up, 16);
        if (second) write(second + at, a, b, count);
        if (third) write(third + at, upA, upB, count);
        if (activation == SILU) {
          a = gatedSilu(a, upA);
          b = gatedSilu(b, upB);
        } else {
          a = gated(activation, a, upA);
          b = gated(activation, b, upB);
        }
      }
      write(y + at, a, b, count);
    }
  }
}

/**
 * The product of a step. x is [T, columns]; weights are one matrix, gate and up, or q, k and v, and with `normed` the gain of the norm
 * behind them, which x goes through first: then all of it has to fit in a thread's scratch (15 positions always do).
 */
export function linear(step: usize, pass: usize, thread: i32, threads: i32): void {
  const tokens = load<i32>(pass), columns = load<i32>(step, 96);
  const epilogue = load<i32>(step, 100), normed = load<i32>(step, 104);
  const weights = epilogue == QKV ? 3 : epilogue == GLU ? 2 : 1;
  const bytes = <usize> load<u32>(pass, 16);
  const forms = <usize> load<u32>(pass, 12) + <usize> thread * bytes, limit = forms + bytes;
  const sums = forms + 16, sumBytes = <usize> tokens * (tokens < MANY_QUANTS ? TOGETHER << 5 : 32);
  const up = sums + sumBytes;
  // Behind sums there is room for those of a piece.
  let free = up + sumBytes + (TOGETHER << 5), x = <usize> load<u32>(step, 8);
  if (normed) {
    const normedX = free;
    free += (((<usize> tokens * columns) << 2) + 15) & -16;
    if (free > limit) unreachable();
    const results: usize = epilogue ? (epilogue == RESIDUAL ? 2 : 3) : 1;
    const taps = thread == 0 ? step + 48 + (results << 2) : 0;
    normRows(x, tokens, columns, load<f32>(step, 108), weightOf(step, weights), normedX, taps);
    x = normedX;
  }
  const few = turned(step, weights, x, tokens, columns, forms, free, limit);
  if (!few && free + (<usize> (columns + 3) << 5) > limit) unreachable();
  const parts = epilogue == QKV ? 3 : 1;
  let tiles = 0;
  for (let i = 0; i < parts; i++) tiles += tilesOf(weightOf(step, i));
  const together = few ? TOGETHER : 1;
  // Several times as many pieces as threads, so that all have finished at about the same time.
  // Two tiles at least: their rows of an output are a line of the cache, which two threads had better not write to.
  const count = min(
    max(max(together, 2), PRODUCTS / (tokens * columns * 8)),
    max(2, tiles / (4 * threads)),
  );
  for (let from = take(step, count); from < tiles; from = take(step, count)) {
    for (let i = from, end = min(from + count, tiles), next = 0; i < end; i += next) {
      let first = i, part = 0;
      for (; part < parts - 1 && first >= tilesOf(weightOf(step, part)); part++) {
        first -= tilesOf(weightOf(step, part));
      }
      const weight = weightOf(step, part);
      next = min(together, min(end - i, tilesOf(weight) - first));
      multiply(weight, first, next, few, forms, x, tokens, columns, free, sums);
      if (epilogue == GLU) {
        multiply(weightOf(step, 1), first, next, few, forms, x, tokens, columns, free, up);
      }
      const y = load<u32>(step + (<usize> part << 2), 48);
      finish(epilogue, step, y, sums, up, tokens, first << 3, next, load<i32>(weight, 8));
    }
  }
}
