// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * Fused attention, without holding the scores: keys are taken in tiles, and a running maximum and sum rescale what was mixed so far
 * (Milakov & Gimelshein 2018; Dao et al. 2022, "FlashAttention"). One thread takes the heads that share keys, at several positions,
 * with all keys or a part of them: see attention.ts.
 */
import { exp1 } from "../math.as.ts";
import {
  constant,
  float,
  forFew,
  gapEndOf,
  gapOf,
  input,
  ofBranches,
  output,
  scratchOf,
  startOf,
  tokensOf,
} from "../record.as.ts";
import { take } from "../work.as.ts";
import { LEAST_SCORE, mix, score, TILE, weigh } from "./tiles.as.ts";

/** Rows of a block, about: what is loaded of a tile into the cache is used by all of them. */
const BLOCK_ROWS: i32 = 24;
/** Keys of a part at least, and most parts: as in attention.ts. */
const PART_KEYS: i32 = 128;
const MOST_PARTS: i32 = 16;

/** Keys of a part of a pass. */
@inline
function keysOfPart(cached: i32): i32 {
  return (cached + PART_KEYS * MOST_PARTS - 1) / (PART_KEYS * MOST_PARTS) * PART_KEYS;
}

/** Into how many parts the keys of a pass are shared out. */
@inline
function partCount(cached: i32): i32 {
  const keys = keysOfPart(cached);
  return (cached + keys - 1) / keys;
}

// Shapes of the step; every thread has globals of its own.
let heads: i32 = 0;
let kvHeads: i32 = 0;
let width: i32 = 0;
let scale: f32 = 0;
/** Heads that share keys. */
let group: i32 = 0;
/** Positions of a block. */
let block: i32 = 0;
/** Bytes from slot to slot of the cache, and of a row of sums: whole vectors. */
let slotBytes: usize = 0;
let sumBytes: usize = 0;
/** A row of a block: scores of a tile, sums, then the largest score and the sum of weights. */
let scoresAt: usize = 0;
let sumsAt: usize = 0;
let statesAt: usize = 0;

/** Reads the shapes, and lays out the scratch memory. */
function prepare(step: usize, pass: usize, thread: i32, positions: i32): void {
  heads = constant(step, 0);
  kvHeads = constant(step, 1);
  width = constant(step, 2);
  scale = float(step, 3);
  group = heads / kvHeads;
  slotBytes = <usize> (kvHeads * width) << 2;
  sumBytes = <usize> (width + 3 >> 2) << 4;
  block = min(positions, max(1, BLOCK_ROWS / group));
  const rows = <usize> (block * group);
  scoresAt = scratchOf(pass, thread);
  sumsAt = scoresAt + rows * (TILE << 2);
  statesAt = sumsAt + rows * sumBytes;
}

/** Begins the softmax of a block's rows anew. */
function begin(rows: i32): void {
  memory.fill(sumsAt, 0, <usize> rows * sumBytes);
  for (let row: i32 = 0; row < rows; row++) {
    store<f32>(statesAt + (<usize> row << 3), LEAST_SCORE);
    store<f32>(statesAt + (<usize> row << 3), 0, 4);
  }
}

/**
 * Address of a row's query: rows are the heads of a position that share keys, then those of the next one. `q` is the first one's. The
 * output has the same shape.
 */
@inline
function queryAt(q: usize, row: i32): usize {
  return q + (<usize> (row / group * heads + row % group) * (<usize> width << 2));
}

/**
 * Goes on with the softmax of a block's rows over the keys from `first` to `end`; of these, the first position sees those below
 * `visible`, and each that follows one more.
 */
function attend(
  q: usize,
  rows: i32,
  keys: usize,
  values: usize,
  first: i32,
  end: i32,
  visible: i32,
): void {
  for (let tile = first; tile < end; tile += TILE) {
    const most = min(TILE, end - tile);
    const at = <usize> tile * slotBytes;
    for (let row: i32 = 0; row < rows;) {
      const left = rows - row;
      const some = left == 4 ? 2 : min(left, 3);
      const last = row + some - 1;
      const seen = visible - tile;
      const c0 = min(most, seen + row / group), c2 = min(most, seen + last / group);
      if (c2 > 0) {
        const c1 = some == 3 ? min(most, seen + (row + 1) / group) : c2;
        const s = scoresAt + <usize> row * (TILE << 2);
        const state = statesAt + (<usize> row << 3);
        const q1 = queryAt(q, min(row + 1, last)), q2 = queryAt(q, last);
        score(
          some,
          queryAt(q, row),
          q1,
          q2,
          keys + at,
          slotBytes,
          c2,
          width,
          scale,
          s,
          TILE << 2,
        );
        const shrink0 = c0 > 0 ? weigh(s, c0, state) : 1;
        const shrink1 = some > 1 && c1 > 0 ? weigh(s + (TILE << 2), c1, state + 8) : 1;
        const shrink2 = some > 2 ? weigh(s + 2 * (TILE << 2), c2, state + 16) : 1;
        mix(
          some,
          s,
          TILE << 2,
          values + at,
          slotBytes,
          c0,
          c1,
          c2,
          width,
          sumsAt + <usize> row * sumBytes,
          sumBytes,
          shrink0,
          shrink1,
          shrink2,
        );
      }
      row += some;
    }
  }
}

/** What weights are divided by: their sum, or 1 where no key is seen. */
@inline
function divisorOf(sum: f32): f32 {
  return sum == 0 ? 1 : sum;
}

/** Writes the rows of a block, divided by the sums of their weights. */
function finish(out: usize, rows: i32): void {
  for (let row: i32 = 0; row < rows; row++) {
    const divisor = divisorOf(load<f32>(statesAt + (<usize> row << 3), 4));
    const divisors = f32x4.splat(divisor);
    let from = sumsAt + <usize> row * sumBytes, to = queryAt(out, row);
    const end = to + (<usize> width << 2);
    for (; to + 16 <= end; from += 16, to += 16) {
      v128.store(to, f32x4.div(v128.load(from), divisors));
    }
    for (; to < end; from += 4, to += 4) store<f32>(to, load<f32>(from) / divisor);
  }
}

/** q, cache_k, cache_v → head_out [T, heads, d]. For few positions it does nothing where there are several parts. */
export function attention(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass);
  if (forFew(step) && partCount(start + tokens) > 1) return;
  const gaps = ofBranches(step) ? input(step, 3) : 0;
  // Rows of a branch see what others do not.
  prepare(step, pass, thread, gaps ? 1 : tokens);
  const q = input(step, 0), keys = input(step, 1), values = input(step, 2), out = output(step, 0);
  const blocks = (tokens + block - 1) / block;
  const items = blocks * kvHeads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    // The last positions, which see most, come first.
    const token = (blocks - 1 - item / kvHeads) * block, kvHead = item % kvHeads;
    const positions = min(block, tokens - token);
    const rows = positions * group;
    const column = <usize> (kvHead * width) << 2;
    const row = <usize> (token * heads + kvHead * group) * (<usize> width << 2);
    const visible = start + token + 1;
    const gap = gapOf(gaps, token);
    begin(rows);
    if (gap > 0) attend(q + row, rows, keys + column, values + column, 0, gap, gap);
    attend(
      q + row,
      rows,
      keys + column,
      values + column,
      gapEndOf(gaps, token),
      visible + positions - 1,
      visible,
    );
    finish(out + row, rows);
  }
}

/** q, cache_k, cache_v → parts [T, heads, parts, d + 4]: the mix of each part, its largest score, its sum, and two zeros. */
export function attention_split(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  const parts = partCount(cached), partKeys = keysOfPart(cached);
  if (parts == 1) return;
  prepare(step, pass, thread, tokens);
  const q = input(step, 0), keys = input(step, 1), values = input(step, 2);
  const partBytes = <usize> (width + 4) << 2;
  const blocks = (tokens + block - 1) / block;
  const items = parts * blocks * kvHeads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    const kvHead = item % kvHeads, part = item / kvHeads % parts;
    const token = item / kvHeads / parts * block;
    const rows = min(block, tokens - token) * group;
    const column = <usize> (kvHead * width) << 2;
    const head = token * heads + kvHead * group;
    const first = part * partKeys, end = min(first + partKeys, cached);
    const visible = start + token + 1;
    begin(rows);
    const from = q + <usize> head * (<usize> width << 2);
    attend(from, rows, keys + column, values + column, first, end, visible);
    for (let row: i32 = 0; row < rows; row++) {
      // Parts that a position sees nothing of are left alone.
      if (visible + row / group <= first) continue;
      const index = (head + row / group * heads + row % group) * parts + part;
      const to = output(step, 0) + <usize> index * partBytes;
      memory.copy(to, sumsAt + <usize> row * sumBytes, <usize> width << 2);
      const behind = to + (<usize> width << 2);
      store<u64>(behind, load<u64>(statesAt + (<usize> row << 3)));
      store<u64>(behind, 0, 8);
    }
  }
}

/** parts [T, heads, parts, d + 4] → head_out [T, heads, d]. */
export function attention_merge(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  const all = partCount(cached), partKeys = keysOfPart(cached);
  if (all == 1) return;
  const rowHeads = constant(step, 0), rowWidth = constant(step, 2);
  const bytes = <usize> rowWidth << 2, partBytes = bytes + 16;
  const rows = tokens * rowHeads;
  const weights = scratchOf(pass, thread);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const from = input(step, 0) + <usize> (row * all) * partBytes;
    const seen = (start + row / rowHeads + partKeys) / partKeys;
    let largest = LEAST_SCORE;
    for (let part: i32 = 0; part < seen; part++) {
      const most = load<f32>(from + <usize> part * partBytes + bytes);
      if (!(most <= largest)) largest = most;
    }
    let sum: f32 = 0;
    for (let part: i32 = 0; part < seen; part++) {
      const state = from + <usize> part * partBytes + bytes;
      const weight = exp1(load<f32>(state) - largest);
      store<f32>(weights + (<usize> part << 2), weight);
      sum += weight * load<f32>(state, 4);
    }
    const divisor = divisorOf(sum);
    let to = output(step, 0) + <usize> row * bytes;
    let at = from;
    const end = from + bytes;
    for (; at + 16 <= end; at += 16, to += 16) {
      let mixed = f32x4.splat(0);
      for (let part: i32 = 0; part < seen; part++) {
        const weight = v128.load32_splat(weights + (<usize> part << 2));
        mixed = f32x4.relaxed_madd(weight, v128.load(at + <usize> part * partBytes), mixed);
      }
      v128.store(to, f32x4.div(mixed, f32x4.splat(divisor)));
    }
    for (; at < end; at += 4, to += 4) {
      let mixed: f32 = 0;
      for (let part: i32 = 0; part < seen; part++) {
        const value = load<f32>(at + <usize> part * partBytes);
        mixed += load<f32>(weights + (<usize> part << 2)) * value;
      }
      store<f32>(to, mixed / divisor);
    }
  }
}
