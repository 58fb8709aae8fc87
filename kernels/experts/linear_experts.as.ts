// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Products with the matrices of chosen experts: see linear_experts.ts. Threads take tiles of eight rows of one expert, for all positions that
 * have chosen it, and multiply them as products/cpu/linear.as.ts does: the quants themselves where those are few, else tiles that are made f32.
 */
import { four } from "../products/cpu/many.as.ts";
import { formBytes, formOf, MANY_FLOATS, MANY_QUANTS, multiplyFew, PRODUCTS, TOGETHER, turn } from "../products/cpu/linear.as.ts";
import { constant, input, output, scratchOf, tokensOf, weight } from "../record.as.ts";
import { isPlain, unpackTile } from "../weights/read.as.ts";
import { take } from "../work.as.ts";

/** Tiles of a piece of work, at least: x of its positions is turned for them. */
const PIECE: i32 = 8;

@inline
function at(list: usize, i: i32): i32 {
  return load<i32>(list + (<usize> i << 2));
}

@inline
function put(list: usize, i: i32, value: i32): void {
  store<i32>(list + (<usize> i << 2), value);
}

/**
 * Sorts pairs of position and expert, numbered as in `ids`, by expert: those of expert e are numbers starts[e] to starts[e + 1] (exclusive) of
 * `pairs`. Pairs whose expert there is not are left out.
 *
 * @param chosen gets the experts that somebody chose
 * @returns how many those are
 */
function sort(ids: usize, count: i32, experts: i32, starts: usize, pairs: usize, chosen: usize): i32 {
  memory.fill(starts, 0, (<usize> experts + 1) << 2);
  for (let i = 0; i < count; i++) {
    const id = at(ids, i);
    if (<u32> id < <u32> experts) put(starts, id + 1, at(starts, id + 1) + 1);
  }
  let some = 0;
  for (let e = 0; e < experts; e++) {
    const own = at(starts, e + 1);
    if (own) put(chosen, some++, e);
    put(starts, e + 1, at(starts, e) + own);
  }
  // Starts move on to the ends as pairs find their places, then back.
  for (let i = 0; i < count; i++) {
    const id = at(ids, i);
    if (<u32> id >= <u32> experts) continue;
    const place = at(starts, id);
    put(pairs, place, i);
    put(starts, id, place + 1);
  }
  for (let e = experts; e > 0; e--) put(starts, e, at(starts, e - 1));
  put(starts, 0, 0);
  return some;
}

/** Stores `tiles` tiles' sums, [positions][tiles][8 rows], of which the first is row `row` of its expert; that may be less than 0. */
function scatter(sums: usize, pairs: usize, positions: i32, tiles: i32, row: i32, rows: i32, y: usize): void {
  for (let i = 0; i < positions; i++) {
    const to = y + ((<usize> at(pairs, i) * rows) << 2);
    for (let tile = 0, r = row; tile < tiles; tile++, r += 8, sums += 32) {
      const out = to + (r << 2);
      if (r >= 0 && r + 8 <= rows) {
        v128.store(out, v128.load(sums));
        v128.store(out, v128.load(sums, 16), 16);
        continue;
      }
      for (let j = max(0, -r); j < min(8, rows - r); j++) {
        store<f32>(out + (j << 2), load<f32>(sums + (<usize> j << 2)));
      }
    }
  }
}

/** Rows of results whose expert there is not. */
function missing(ids: usize, count: i32, experts: i32, rows: i32, y: usize): void {
  for (let i = 0; i < count; i++) {
    if (<u32> at(ids, i) < <u32> experts) continue;
    for (let row = 0; row < rows; row++) store<f32>(y + (<usize> (i * rows + row) << 2), NaN);
  }
}

/** The product of a step. */
export function linear_experts(step: usize, pass: usize, thread: i32, threads: i32): void {
  const columns = constant(step, 0), rows = constant(step, 1), used = constant(step, 2);
  const shared = constant(step, 3), count = tokensOf(pass) * used;
  const x = input(step, 0), ids = input(step, 1), y = output(step, 0), matrix = weight(step, 0);
  const id = load<i32>(matrix, 4), experts = load<i32>(matrix, 8) / rows;
  const starts = scratchOf(pass, thread), limit = starts + <usize> load<u32>(pass, 16);
  const chosen = starts + ((<usize> experts + 1) << 2);
  const pairs = chosen + (<usize> experts << 2), rowsOfX = pairs + (<usize> count << 2);
  const sums = (rowsOfX + (<usize> count << 2) + 15) & -16;
  const free = sums + <usize> max(tokensOf(pass), MANY_QUANTS * TOGETHER) * 32;
  const form = formOf(id), bytes = formBytes(form, columns), most = isPlain(id) ? MANY_FLOATS : MANY_QUANTS;
  const xBytes = <usize> columns << 2;
  if (free + max(<usize> (columns + 3) << 5, <usize> most * bytes) > limit) unreachable();

  const some = sort(ids, count, experts, starts, pairs, chosen);
  if (thread == 0 && at(starts, experts) < count) missing(ids, count, experts, rows, y);
  for (let i = 0; i < count; i++) put(rowsOfX, i, shared ? at(pairs, i) / used : at(pairs, i));

  // Of an expert that begins within a tile, there is one tile more.
  const tiles = ((rows + 7) >> 3) + (rows & 7 ? 1 : 0);
  const each = max(1, count / max(some, 1));
  const size = min(max(PIECE, PRODUCTS / (each * columns * 8)), max(2, some * tiles / (4 * threads)));
  const pieces = (tiles + size - 1) / size;
  // What of x has been turned last: rows in the same order are not turned again.
  let turned: usize = 0, turnedCount = 0;
  for (let item = take(step, 1); item < some * pieces; item = take(step, 1)) {
    const expert = at(chosen, item / pieces), firstRow = expert * rows;
    const start = at(starts, expert), positions = at(starts, expert + 1) - start;
    const own = pairs + (<usize> start << 2), ownX = rowsOfX + (<usize> start << 2);
    const end = min((firstRow >> 3) + (item % pieces + 1) * size, (firstRow + rows + 7) >> 3);
    const few = positions < most;
    if (!few) turned = 0;
    else if (!turned || turnedCount != positions || memory.compare(turned, ownX, positions << 2) != 0) {
      for (let i = 0; i < positions; i++) {
        turn(form, x + <usize> at(ownX, i) * xBytes, 1, columns, free + <usize> i * bytes);
      }
      turned = ownX;
      turnedCount = positions;
    }
    for (let tile = (firstRow >> 3) + item % pieces * size, next = 0; tile < end; tile += next) {
      next = few ? min(TOGETHER, end - tile) : 1;
      if (few) multiplyFew(matrix, tile, next, free, positions, columns, sums);
      else {
        const numbers = unpackTile(matrix, tile, free);
        for (let i = 0; i < positions; i += 4) {
          // The last four: some are computed again, which costs less than each by itself.
          const from = min(i, positions - 4);
          four(
            numbers,
            x + <usize> at(ownX, from) * xBytes,
            x + <usize> at(ownX, from + 1) * xBytes,
            x + <usize> at(ownX, from + 2) * xBytes,
            x + <usize> at(ownX, from + 3) * xBytes,
            columns,
            sums + (<usize> from << 5),
          );
        }
      }
      scatter(sums, own, positions, next, (tile << 3) - firstRow, rows, y);
    }
  }
}
