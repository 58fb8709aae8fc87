// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/**
 * Products with weights: y = W·x with the epilogues of products.ts. Threads take tiles of eight rows. With few positions the quants
 * themselves are multiplied (quants.as.ts), with many a tile is made f32 first (many.as.ts).
 */
import { exp4 } from "../../math.as.ts";
import { isPlain, tileAt, unpackTile } from "../../weights/read.as.ts";
import {
  BF16,
  F16,
  F32,
  Q3_K,
  Q4_0,
  Q4_1,
  Q4_K,
  Q5_0,
  Q5_1,
  Q5_K,
  Q6_K,
  Q8_0,
} from "../../weights/tiles.as.ts";
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
import { SEVENS_BYTES, SIGNED_BYTES, turnPlain, turnSevens, turnSigned } from "./x.as.ts";

const RESIDUAL: i32 = 1;
const QKV: i32 = 2;
const SWIGLU: i32 = 3;

/** From this number of positions on tiles are made f32 first. */
const MANY: i32 = 8;

/** Products that a thread takes at a time, at least: an atomic addition costs as much as a thousand of them. */
const PRODUCTS: i32 = 16384;

/** Forms of x for few positions. */
const SIGNED: i32 = 0;
const SEVENS: i32 = 1;
const SCALED: i32 = 2;
const PLAIN: i32 = 3;

/** The form that x takes for a type. */
function formOf(id: i32): i32 {
  if (id == Q8_0) return SEVENS;
  if (id == F16) return SCALED;
  return isPlain(id) ? PLAIN : SIGNED;
}

/** Bytes of a position in a form. */
function formBytes(form: i32, columns: i32): usize {
  if (form == SIGNED) return <usize> (columns >> 4) * SIGNED_BYTES;
  if (form == SEVENS) return <usize> (columns >> 5) * SEVENS_BYTES;
  return 16 + ((<usize> columns + 3) & -4) * 4;
}

/** Makes the form of all positions at `out`. */
function turn(form: i32, x: usize, tokens: i32, columns: i32, out: usize): void {
  const bytes = formBytes(form, columns);
  for (let t = 0; t < tokens; t++, x += <usize> columns << 2, out += bytes) {
    if (form == SIGNED) turnSigned(x, columns, out);
    else if (form == SEVENS) turnSevens(x, columns, out);
    else turnPlain(x, columns, out, form == SCALED);
  }
}

/** Products of a tile with few positions in the form of its type, [tokens][8 rows] to `out`. */
function few(id: i32, tile: usize, x: usize, tokens: i32, columns: i32, out: usize): void {
  const bytes = formBytes(formOf(id), columns);
  for (let t = 0; t < tokens; t++, out += 32) {
    const end = x + bytes;
    if (id == Q4_1 || id == Q4_K) nibbles32(tile, x, end, out);
    else if (id == Q8_0) signed(tile, x, end, out);
    else if (id == Q6_K) bytes16less32(tile, x, end, out);
    else if (id == Q4_0) nibbles32less8(tile, x, end, out);
    else if (id == F16) halves(tile, x, end, out);
    else if (id == BF16) brainFloats(tile, x + 16, end, out);
    else if (id == F32) floats(tile, x + 16, end, out);
    else if (id == Q5_0) bytes32less16(tile, x, end, out);
    else if (id == Q5_1 || id == Q5_K) bytes32(tile, x, end, out);
    else if (id == Q3_K) nibbles16less4(tile, x, end, out);
    else nibbles16(tile, x, end, out);
    x = end;
  }
}

/** silu(g) · u of four numbers: see products.ts. */
function gated(gate: v128, up: v128): v128 {
  const one = f32x4.splat(1);
  return f32x4.mul(f32x4.div(gate, f32x4.add(one, exp4(f32x4.neg(gate)))), up);
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

/** A tile's sums, [tokens][8 rows], to the outputs; `up` are those of the second weight. */
function finish(
  epilogue: i32,
  step: usize,
  y: usize,
  sums: usize,
  up: usize,
  tokens: i32,
  row: i32,
  rows: i32,
): void {
  const count = rows - row;
  const residual = <usize> load<u32>(step, 12);
  const second = <usize> load<u32>(step, 52), third = <usize> load<u32>(step, 56);
  for (let t = 0; t < tokens; t++, sums += 32, up += 32) {
    const at = (<usize> t * rows + row) << 2;
    let a = v128.load(sums), b = v128.load(sums, 16);
    if (epilogue == RESIDUAL) {
      if (second) write(second + at, a, b, count);
      a = f32x4.add(read4(residual + at, count), a);
      b = f32x4.add(read4(residual + at + 16, count - 4), b);
    } else if (epilogue == SWIGLU) {
      const upA = v128.load(up), upB = v128.load(up, 16);
      if (second) write(second + at, a, b, count);
      if (third) write(third + at, upA, upB, count);
      a = gated(a, upA);
      b = gated(b, upB);
    }
    write(y + at, a, b, count);
  }
}

/**
 * The product of a step. x is [T, columns]; weights are one matrix, gate and up, or q, k and v, and with `normed` the gain of the norm
 * behind them, which x goes through first: then T is 15 at most.
 */
export function linear(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = load<i32>(pass), columns = load<i32>(step, 96);
  const epilogue = load<i32>(step, 100), normed = load<i32>(step, 104);
  const weights = epilogue == QKV ? 3 : epilogue == SWIGLU ? 2 : 1;
  const bytes = <usize> load<u32>(pass, 16);
  const sums = <usize> load<u32>(pass, 12) + <usize> thread * bytes,
    up = sums + (<usize> tokens << 5);
  const limit = sums + bytes;
  let free = up + (<usize> tokens << 5);
  let x = <usize> load<u32>(step, 8);
  if (normed) {
    if (free + ((<usize> tokens * columns) << 2) > limit) unreachable();
    const results: usize = epilogue ? (epilogue == RESIDUAL ? 2 : 3) : 1;
    normRows(
      x,
      tokens,
      columns,
      load<f32>(step, 108),
      load<u32>(step + (<usize> weights << 2), 32),
      free,
      thread == 0 ? step + 48 + (results << 2) : 0,
    );
    x = free;
    free += ((<usize> tokens * columns) << 2) + 15 & -16;
  }
  const isFew = tokens < MANY;
  let signedX: usize = 0, sevensX: usize = 0, scaledX: usize = 0, plainX: usize = 0;
  if (isFew) {
    for (let i = 0; i < weights; i++) {
      const form = formOf(load<i32>(load<u32>(step + (<usize> i << 2), 32), 4));
      const made = form == SIGNED
        ? signedX
        : form == SEVENS
        ? sevensX
        : form == SCALED
        ? scaledX
        : plainX;
      if (made) continue;
      if (form == SIGNED) signedX = free;
      else if (form == SEVENS) sevensX = free;
      else if (form == SCALED) scaledX = free;
      else plainX = free;
      const end = free + <usize> tokens * formBytes(form, columns);
      if (end > limit) unreachable();
      turn(form, x, tokens, columns, free);
      free = end;
    }
  } else if (free + ((<usize> columns + 3 & -4) << 5) > limit) {
    unreachable();
  }
  const first = <usize> load<u32>(step, 32);
  const second = weights > 1 ? <usize> load<u32>(step, 36) : first;
  const third = weights > 2 ? <usize> load<u32>(step, 40) : first;
  const tiles1 = (load<i32>(first, 8) + 7) >> 3;
  const tiles2 = epilogue == QKV ? tiles1 + ((load<i32>(second, 8) + 7) >> 3) : tiles1;
  const tiles = epilogue == QKV ? tiles2 + ((load<i32>(third, 8) + 7) >> 3) : tiles1;
  const count = max(1, PRODUCTS / (tokens * columns * 8));
  for (let from = take(step, count); from < tiles; from = take(step, count)) {
    for (let i = from, end = min(from + count, tiles); i < end; i++) {
      const which = i < tiles1 ? 0 : i < tiles2 ? 1 : 2;
      const tile = i - (which == 0 ? 0 : which == 1 ? tiles1 : tiles2);
      const parts = epilogue == SWIGLU ? 2 : 1;
      for (let part = 0; part < parts; part++) {
        const weight = part ? second : which == 0 ? first : which == 1 ? second : third;
        const out = part ? up : sums;
        if (isFew) {
          const id = load<i32>(weight, 4), form = formOf(id);
          const turned = form == SIGNED
            ? signedX
            : form == SEVENS
            ? sevensX
            : form == SCALED
            ? scaledX
            : plainX;
          few(id, tileAt(weight, tile), turned, tokens, columns, out);
        } else {
          many(unpackTile(weight, tile, free), x, <usize> columns << 2, columns, tokens, out);
        }
      }
      const rows = load<i32>(which == 0 ? first : which == 1 ? second : third, 8);
      finish(
        epilogue,
        step,
        load<u32>(step + (<usize> which << 2), 48),
        sums,
        up,
        tokens,
        tile << 3,
        rows,
      );
    }
  }
}
