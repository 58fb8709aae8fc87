// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Rotary position embedding and the cache's writes: see rope.ts. One thread takes a position. */
import {
  constant,
  gapEndOf,
  gapOf,
  input,
  ofBranches,
  output,
  startOf,
  tokensOf,
} from "../record.as.ts";
import { take } from "../work.as.ts";

/** Turns pairs that are neighbours: x0 · cos − x1 · sin, x0 · sin + x1 · cos. */
@inline
function turnNeighbours(x: usize, table: usize, y: usize, ropeWidth: i32): void {
  const end = x + (<usize> ropeWidth << 2);
  // −1, 1, −1, 1, which the compiler does not know.
  const signs = f32x4.replace_lane(f32x4.replace_lane(f32x4.splat(1), 0, -1), 2, -1);
  for (; x + 16 <= end; x += 16, y += 16, table += 16) {
    const turns = v128.load(table), numbers = v128.load(x);
    const cos = v128.shuffle<f32>(turns, turns, 0, 0, 2, 2);
    const sin = f32x4.mul(v128.shuffle<f32>(turns, turns, 1, 1, 3, 3), signs);
    const swapped = v128.shuffle<f32>(numbers, numbers, 1, 0, 3, 2);
    v128.store(y, f32x4.relaxed_madd(swapped, sin, f32x4.mul(numbers, cos)));
  }
  for (; x < end; x += 8, y += 8, table += 8) {
    turnPair(load<f32>(x), load<f32>(x, 4), table, y, y + 4);
  }
}

/** Turns pairs that lie half of the turned numbers apart. */
@inline
function turnHalves(x: usize, table: usize, y: usize, ropeWidth: i32): void {
  const half = <usize> ropeWidth << 1;
  const end = x + half;
  for (; x + 16 <= end; x += 16, y += 16, table += 32) {
    const even = v128.load(table), odd = v128.load(table, 16);
    const cos = v128.shuffle<f32>(even, odd, 0, 2, 4, 6);
    const sin = v128.shuffle<f32>(even, odd, 1, 3, 5, 7);
    const first = v128.load(x), second = v128.load(x + half);
    v128.store(y, f32x4.relaxed_nmadd(second, sin, f32x4.mul(first, cos)));
    v128.store(y + half, f32x4.relaxed_madd(second, cos, f32x4.mul(first, sin)));
  }
  for (; x < end; x += 4, y += 4, table += 8) {
    turnPair(load<f32>(x), load<f32>(x + half), table, y, y + half);
  }
}

/** Turns one pair. */
@inline
function turnPair(first: f32, second: f32, table: usize, y0: usize, y1: usize): void {
  const cos = load<f32>(table), sin = load<f32>(table, 4);
  store<f32>(y0, first * cos - second * sin);
  store<f32>(y1, first * sin + second * cos);
}

/** Turns the heads of one position by its row of the table, from number `first` of each on, and copies what of them is not turned. */
function turn(
  x: usize,
  row: usize,
  y: usize,
  heads: i32,
  width: i32,
  ropeWidth: i32,
  halves: i32,
  first: i32,
): void {
  const bytes = <usize> width << 2, begin = <usize> first << 2;
  const end = begin + (<usize> ropeWidth << 2);
  for (let head = 0; head < heads; head++, x += bytes, y += bytes) {
    if (begin) memory.copy(y, x, begin);
    if (halves) turnHalves(x + begin, row, y + begin, ropeWidth);
    else turnNeighbours(x + begin, row, y + begin, ropeWidth);
    if (end < bytes) memory.copy(y + end, x + end, bytes - end);
  }
}

/** Number of a row's position: of branches, counted from where they go on. */
@inline
function positionOf(pass: usize, gaps: usize, token: i32): i32 {
  return startOf(pass) + token - (gapEndOf(gaps, token) - gapOf(gaps, token));
}

/** x [T, heads, d], table [positions, rope_width / 2, 2] → the same shape, turned. */
export function rope(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass);
  const heads = constant(step, 0), width = constant(step, 1);
  const ropeWidth = constant(step, 2), halves = constant(step, 3);
  const first = constant(step, 4);
  const gaps = ofBranches(step) ? input(step, 2) : 0;
  const bytes = <usize> (heads * width) << 2;
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    const position = positionOf(pass, gaps, token);
    const row = input(step, 1) + <usize> position * (<usize> ropeWidth << 2);
    const at = <usize> token * bytes;
    turn(input(step, 0) + at, row, output(step, 0) + at, heads, width, ropeWidth, halves, first);
  }
}

/** x [T, columns] → slots start … start + T − 1 of a cache [slots, columns]. */
export function store_rows(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), first = startOf(pass);
  const bytes = <usize> constant(step, 0) << 2;
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    const to = output(step, 0) + <usize> (first + token) * bytes;
    memory.copy(to, input(step, 0) + <usize> token * bytes, bytes);
  }
}

/** q, k, v, table → q_rope, cache_k, cache_v, with the tap k_rope. */
export function rope_store(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass);
  const heads = constant(step, 0), kvHeads = constant(step, 1), width = constant(step, 2);
  const ropeWidth = constant(step, 3), halves = constant(step, 4);
  const first = constant(step, 5);
  const gaps = ofBranches(step) ? input(step, 4) : 0;
  const qBytes = <usize> (heads * width) << 2, kvBytes = <usize> (kvHeads * width) << 2;
  const keyTap = output(step, 3);
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    const position = positionOf(pass, gaps, token);
    const row = input(step, 3) + <usize> position * (<usize> ropeWidth << 2);
    const qAt = <usize> token * qBytes, kvAt = <usize> token * kvBytes;
    const slot = <usize> (start + token) * kvBytes;
    const keys = output(step, 1) + slot;
    turn(input(step, 0) + qAt, row, output(step, 0) + qAt, heads, width, ropeWidth, halves, first);
    turn(input(step, 1) + kvAt, row, keys, kvHeads, width, ropeWidth, halves, first);
    memory.copy(output(step, 2) + slot, input(step, 2) + kvAt, kvBytes);
    if (keyTap) memory.copy(keyTap + kvAt, keys, kvBytes);
  }
}
