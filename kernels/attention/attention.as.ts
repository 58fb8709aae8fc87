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
  weight as weightOf,
} from "../record.as.ts";
import { take } from "../work.as.ts";
import { finishScores, slopeOf } from "./scoring/score.as.ts";
import { firstSeen } from "./scoring/seen.as.ts";
import { LEAST_SCORE, mix, score, TILE, weigh } from "./tiles.as.ts";

/** Rows of a block, about: what is loaded of a tile into the cache is used by all of them. */
const BLOCK_ROWS: i32 = 24;
/** Keys of a part at least, and most parts: as in attention.ts. */
const PART_KEYS: i32 = 128;
const MOST_PARTS: i32 = 16;

/** Keys of a part, of all that a pass sees any of. */
@inline
function keysOfPart(span: i32): i32 {
  return (span + PART_KEYS * MOST_PARTS - 1) / (PART_KEYS * MOST_PARTS) * PART_KEYS;
}

/** Into how many parts those are shared out. */
@inline
function partCount(span: i32): i32 {
  const keys = keysOfPart(span);
  return (span + keys - 1) / keys;
}

// Shapes of the step; every thread has globals of its own.
let heads: i32 = 0;
let kvHeads: i32 = 0;
let width: i32 = 0;
let valueWidth: i32 = 0;
let scale: f32 = 0;
/** What a position sees (seen.ts), and what becomes of scores (score.ts); 0: all, and nothing. */
let window: i32 = 0;
let chunk: i32 = 0;
let cap: f32 = 0;
let maxBias: f32 = 0;
/** Scores of sinks; 0: none. */
let sinks: usize = 0;
/** Heads that share keys. */
let group: i32 = 0;
/** Positions of a block. */
let block: i32 = 0;
/** Bytes from slot to slot of the caches, and of a row of sums: whole vectors. */
let slotBytes: usize = 0;
let valueSlotBytes: usize = 0;
let sumBytes: usize = 0;
/** A row of a block: scores of a tile, sums, then the largest score and the sum of weights. */
let scoresAt: usize = 0;
let sumsAt: usize = 0;
let statesAt: usize = 0;

/** Reads the constants. */
function readConstants(step: usize): void {
  heads = constant(step, 0);
  kvHeads = constant(step, 1);
  width = constant(step, 2);
  scale = float(step, 3);
  window = constant(step, 4);
  chunk = constant(step, 5);
  cap = float(step, 6);
  maxBias = float(step, 7);
  valueWidth = constant(step, 8) || width;
  sinks = weightOf(step, 0);
}

/** Lays out the scratch memory. */
function prepare(pass: usize, thread: i32, positions: i32): void {
  group = heads / kvHeads;
  slotBytes = <usize> (kvHeads * width) << 2;
  valueSlotBytes = <usize> (kvHeads * valueWidth) << 2;
  sumBytes = <usize> (valueWidth + 3 >> 2) << 4;
  block = min(positions, max(1, BLOCK_ROWS / group));
  const rows = <usize> (block * group);
  scoresAt = scratchOf(pass, thread);
  sumsAt = scoresAt + rows * (TILE << 2);
  statesAt = sumsAt + rows * sumBytes;
}

/** A head's sink, or the least score. */
@inline
function sinkOf(head: i32): f32 {
  return sinks ? load<f32>(sinks + (<usize> head << 2)) : LEAST_SCORE;
}

/** Begins the softmax of a block's rows anew, whose heads begin with `head`. */
function begin(rows: i32, head: i32): void {
  memory.fill(sumsAt, 0, <usize> rows * sumBytes);
  for (let row: i32 = 0; row < rows; row++) {
    const sink = sinkOf(head + row % group);
    store<f32>(statesAt + (<usize> row << 3), sink < LEAST_SCORE ? LEAST_SCORE : sink);
    store<f32>(statesAt + (<usize> row << 3), sinks ? 1 : 0, 4);
  }
}

/**
 * Address of a row's query: rows are the heads of a position that share keys, then those of the next one. `q` is the first one's, each
 * of `columns` numbers. The output has the same shape.
 */
@inline
function queryAt(q: usize, row: i32, columns: i32): usize {
  return q + (<usize> (row / group * heads + row % group) * (<usize> columns << 2));
}

/** Finishes a row's scores of a tile, whose first key lies `distance` positions before the query. */
@inline
function finish1(s: usize, count: i32, head: i32, row: i32, distance: i32): void {
  if (count > 0) {
    finishScores(s, count, cap, slopeOf(maxBias, heads, head + row % group), distance + row / group);
  }
}

/**
 * Goes on with the softmax of a block's rows, whose heads begin with `head`, over the keys from `first` to `end`. Of these, the first
 * position sees those below `visible`, and each that follows one more. It is number `position`; keys' slots are their positions + `shift`.
 */
function attend(
  q: usize,
  rows: i32,
  head: i32,
  keys: usize,
  values: usize,
  first: i32,
  end: i32,
  visible: i32,
  position: i32,
  shift: i32,
): void {
  const limited = window > 0 || chunk > 0, changed = cap > 0 || maxBias > 0;
  for (let tile = first; tile < end; tile += TILE) {
    for (let row: i32 = 0; row < rows;) {
      const left = rows - row;
      let some = left == 4 ? 2 : min(left, 3);
      let from = tile;
      if (limited && firstSeen(window, chunk, position + (row + some - 1) / group) + shift > tile) {
        // Rows of which one begins in this tile or behind it go one by one: none looks at a key that it does not see.
        some = 1;
        from = max(tile, firstSeen(window, chunk, position + row / group) + shift);
      }
      const last = row + some - 1;
      const most = min(tile + TILE, end) - from;
      const seen = visible - from;
      const c0 = min(most, seen + row / group), c2 = min(most, seen + last / group);
      if (c2 > 0) {
        const c1 = some == 3 ? min(most, seen + (row + 1) / group) : c2;
        const s = scoresAt + <usize> row * (TILE << 2);
        const state = statesAt + (<usize> row << 3);
        const q1 = queryAt(q, min(row + 1, last), width), q2 = queryAt(q, last, width);
        score(
          some,
          queryAt(q, row, width),
          q1,
          q2,
          keys + <usize> from * slotBytes,
          slotBytes,
          c2,
          width,
          scale,
          s,
          TILE << 2,
        );
        if (changed) {
          const distance = position + shift - from;
          finish1(s, c0, head, row, distance);
          if (some > 1) finish1(s + (TILE << 2), c1, head, row + 1, distance);
          if (some > 2) finish1(s + 2 * (TILE << 2), c2, head, row + 2, distance);
        }
        const shrink0 = c0 > 0 ? weigh(s, c0, state) : 1;
        const shrink1 = some > 1 && c1 > 0 ? weigh(s + (TILE << 2), c1, state + 8) : 1;
        const shrink2 = some > 2 ? weigh(s + 2 * (TILE << 2), c2, state + 16) : 1;
        mix(
          some,
          s,
          TILE << 2,
          values + <usize> from * valueSlotBytes,
          valueSlotBytes,
          c0,
          c1,
          c2,
          valueWidth,
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
    let from = sumsAt + <usize> row * sumBytes, to = queryAt(out, row, valueWidth);
    const end = to + (<usize> valueWidth << 2);
    for (; to + 16 <= end; from += 16, to += 16) {
      v128.store(to, f32x4.div(v128.load(from), divisors));
    }
    for (; to < end; from += 4, to += 4) store<f32>(to, load<f32>(from) / divisor);
  }
}

/** q, cache_k, cache_v → head_out [T, heads, d]. For few positions it does nothing where there are several parts. */
export function attention(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass);
  readConstants(step);
  if (forFew(step) && partCount(start + tokens - firstSeen(window, chunk, start)) > 1) return;
  const gaps = ofBranches(step) ? input(step, 3) : 0;
  // Rows of a branch see what others do not.
  prepare(pass, thread, gaps ? 1 : tokens);
  const q = input(step, 0), keys = input(step, 1), values = input(step, 2), out = output(step, 0);
  const blocks = (tokens + block - 1) / block;
  const items = blocks * kvHeads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    // The last positions, which see most, come first.
    const token = (blocks - 1 - item / kvHeads) * block, kvHead = item % kvHeads;
    const positions = min(block, tokens - token);
    const rows = positions * group, head = kvHead * group;
    const ownKeys = keys + (<usize> (kvHead * width) << 2);
    const ownValues = values + (<usize> (kvHead * valueWidth) << 2);
    const row = <usize> (token * heads + head);
    const query = q + row * (<usize> width << 2);
    const visible = start + token + 1;
    const gap = gapOf(gaps, token), gapEnd = gapEndOf(gaps, token);
    const hidden = gapEnd - gap, position = visible - 1 - hidden;
    const first = firstSeen(window, chunk, position);
    begin(rows, head);
    // Tiles begin at whole ones of a run, so that they are the same for all rows.
    if (first < gap) {
      const tile = first / TILE * TILE;
      attend(query, rows, head, ownKeys, ownValues, tile, gap, gap, position, 0);
    }
    attend(
      query,
      rows,
      head,
      ownKeys,
      ownValues,
      gapEnd + max(0, first - gap) / TILE * TILE,
      visible + positions - 1,
      visible,
      position,
      hidden,
    );
    finish(out + row * (<usize> valueWidth << 2), rows);
  }
}

/** q, cache_k, cache_v → parts [T, heads, parts, d + 4]: the mix of each part, its largest score, its sum, and two zeros. */
export function attention_split(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  readConstants(step);
  const firstPart = firstSeen(window, chunk, start);
  const parts = partCount(cached - firstPart), partKeys = keysOfPart(cached - firstPart);
  if (parts == 1) return;
  prepare(pass, thread, tokens);
  const q = input(step, 0), keys = input(step, 1), values = input(step, 2);
  const partBytes = <usize> (valueWidth + 4) << 2;
  const blocks = (tokens + block - 1) / block;
  const items = parts * blocks * kvHeads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    const kvHead = item % kvHeads, part = item / kvHeads % parts;
    const token = item / kvHeads / parts * block;
    const rows = min(block, tokens - token) * group;
    const head = kvHead * group, index = token * heads + head;
    const first = firstPart + part * partKeys, end = min(first + partKeys, cached);
    const position = start + token;
    begin(rows, head);
    attend(
      q + <usize> index * (<usize> width << 2),
      rows,
      head,
      keys + (<usize> (kvHead * width) << 2),
      values + (<usize> (kvHead * valueWidth) << 2),
      first,
      end,
      position + 1,
      position,
      0,
    );
    for (let row: i32 = 0; row < rows; row++) {
      // Parts that a position sees nothing of are left alone.
      const own = position + row / group;
      if (own < first || firstSeen(window, chunk, own) >= end) continue;
      const at = (index + row / group * heads + row % group) * parts + part;
      const to = output(step, 0) + <usize> at * partBytes;
      memory.copy(to, sumsAt + <usize> row * sumBytes, <usize> valueWidth << 2);
      const behind = to + (<usize> valueWidth << 2);
      store<u64>(behind, load<u64>(statesAt + (<usize> row << 3)));
      store<u64>(behind, 0, 8);
    }
  }
}

/** parts [T, heads, parts, d + 4] → head_out [T, heads, d]. */
export function attention_merge(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  readConstants(step);
  const firstPart = firstSeen(window, chunk, start);
  const all = partCount(cached - firstPart), partKeys = keysOfPart(cached - firstPart);
  if (all == 1) return;
  const bytes = <usize> valueWidth << 2, partBytes = bytes + 16;
  const rows = tokens * heads;
  const weights = scratchOf(pass, thread);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const from = input(step, 0) + <usize> (row * all) * partBytes;
    const position = start + row / heads;
    const first = (firstSeen(window, chunk, position) - firstPart) / partKeys;
    const end = (position - firstPart + partKeys) / partKeys;
    const sink = sinkOf(row % heads);
    let largest: f32 = sink < LEAST_SCORE ? LEAST_SCORE : sink;
    for (let part = first; part < end; part++) {
      const most = load<f32>(from + <usize> part * partBytes + bytes);
      if (!(most <= largest)) largest = most;
    }
    let sum: f32 = sinks ? exp1(sink - largest) : 0;
    for (let part = first; part < end; part++) {
      const state = from + <usize> part * partBytes + bytes;
      const weight = exp1(load<f32>(state) - largest);
      store<f32>(weights + (<usize> part << 2), weight);
      sum += weight * load<f32>(state, 4);
    }
    const divisor = divisorOf(sum);
    let to = output(step, 0) + <usize> row * bytes;
    let at = from;
    const rowEnd = from + bytes;
    for (; at + 16 <= rowEnd; at += 16, to += 16) {
      let mixed = f32x4.splat(0);
      for (let part = first; part < end; part++) {
        const weight = v128.load32_splat(weights + (<usize> part << 2));
        mixed = f32x4.relaxed_madd(weight, v128.load(at + <usize> part * partBytes), mixed);
      }
      v128.store(to, f32x4.div(mixed, f32x4.splat(divisor)));
    }
    for (; at < rowEnd; at += 4, to += 4) {
      let mixed: f32 = 0;
      for (let part = first; part < end; part++) {
        const value = load<f32>(at + <usize> part * partBytes);
        mixed += load<f32>(weights + (<usize> part << 2)) * value;
      }
      store<f32>(to, mixed / divisor);
    }
  }
}
