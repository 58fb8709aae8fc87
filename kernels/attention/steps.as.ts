// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Attention in its three named steps, for those who look at scores and weights: see attention.ts. */
import { exp1, weights } from "../math.as.ts";
import {
  constant,
  float,
  gapEndOf,
  gapOf,
  input,
  ofBranches,
  output,
  rowsOf,
  scratchOf,
  startOf,
  tokensOf,
  weight,
} from "../record.as.ts";
import { take } from "../work.as.ts";
import { finishScores, slopeOf } from "./scoring/score.as.ts";
import { firstSlot } from "./scoring/seen.as.ts";
import { LEAST_SCORE, MASKED, mix as mixRows, score, TILE } from "./tiles.as.ts";

/** Rows of a block, about: what is loaded of a tile into the cache is used by all of them. */
const BLOCK_ROWS: i32 = 24;
/** Keys that one thread takes of the scores. */
const PIECE_KEYS: i32 = 256;
/** Vectors of exponentials that are added up before their sum is added to the others'. */
const PIECE: usize = 64 << 4;

/** Fills the numbers `first` to `end` of a row. */
function fill(row: usize, first: i32, end: i32, value: f32): void {
  const all = f32x4.splat(value);
  let i = first;
  for (; i + 4 <= end; i += 4) v128.store(row + (<usize> i << 2), all);
  for (; i < end; i++) store<f32>(row + (<usize> i << 2), value);
}

/** Fills those numbers of the part [first, end) of a row of attention that belong to keys which its position does not see. */
@inline
function fillUnseen(
  row: usize,
  gap: i32,
  gapEnd: i32,
  visible: i32,
  first: i32,
  end: i32,
  value: f32,
): void {
  if (visible < end) fill(row, max(visible, first), end, value);
  if (gap < gapEnd) fill(row, max(gap, first), min(gapEnd, end), value);
}

/** The first slot that any of some rows of a pass sees. */
function firstOf(
  rows: i32,
  row: i32,
  start: i32,
  gaps: usize,
  window: i32,
  chunk: i32,
): i32 {
  let first: i32 = i32.MAX_VALUE;
  const end = row + rows;
  for (; row < end; row++) {
    const gap = gapOf(gaps, row), gapEnd = gapEndOf(gaps, row);
    first = min(first, firstSlot(window, chunk, start + row, gap, gapEnd));
  }
  return first;
}

/** q_rope [T, heads, d], cache_k → scores [heads, T, S]. One thread takes the heads that share keys, at several positions. */
export function scores(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  const heads = constant(step, 0), kvHeads = constant(step, 1), width = constant(step, 2);
  const window = constant(step, 4), chunk = constant(step, 5);
  const cap = float(step, 6), maxBias = float(step, 7);
  const limited = window > 0 || chunk > 0;
  const group = heads / kvHeads;
  const gaps = ofBranches(step) ? input(step, 2) : 0;
  const headBytes = <usize> width << 2, slotBytes = <usize> (kvHeads * width) << 2;
  const rowBytes = <usize> cached << 2;
  const block = min(tokens, BLOCK_ROWS);
  const blocks = (tokens + block - 1) / block, pieces = (cached + PIECE_KEYS - 1) / PIECE_KEYS;
  const items = blocks * pieces * kvHeads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    const kvHead = item % kvHeads, piece = item / kvHeads % pieces * PIECE_KEYS;
    const token = item / kvHeads / pieces * block;
    const positions = min(block, tokens - token);
    const pieceEnd = min(piece + PIECE_KEYS, cached);
    for (let tile = piece; tile < pieceEnd; tile += TILE) {
      const keys = input(step, 1) + <usize> (tile * kvHeads + kvHead) * headBytes;
      // One head's positions are rows that lie one behind another.
      for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
        for (let row = token; row < token + positions;) {
          const left = token + positions - row;
          const some = left == 4 ? 2 : min(left, 3);
          const seen = min(min(TILE, pieceEnd - tile), start + row + some - tile);
          if (
            seen > 0 &&
            !(limited && firstOf(some, row, start, gaps, window, chunk) >= tile + TILE)
          ) {
            const q = input(step, 0) + <usize> (row * heads + head) * headBytes;
            const out = output(step, 0) + <usize> (head * tokens + row) * rowBytes;
            const next = <usize> heads * headBytes;
            score(
              some,
              q,
              q + (some > 1 ? next : 0),
              q + (some > 2 ? 2 * next : 0),
              keys,
              slotBytes,
              seen,
              width,
              float(step, 3),
              out + (<usize> tile << 2),
              rowBytes,
            );
          }
          row += some;
        }
      }
    }
    for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
      const slope = slopeOf(maxBias, heads, head);
      for (let row = token; row < token + positions; row++) {
        const out = output(step, 0) + <usize> (head * tokens + row) * rowBytes;
        const gap = gapOf(gaps, row), gapEnd = gapEndOf(gaps, row);
        const own = start + row;
        const first = firstSlot(window, chunk, own, gap, gapEnd);
        if (cap > 0 || slope > 0) {
          const before = max(first, piece), behind = max(max(first, gapEnd), piece);
          const position = own - (gapEnd - gap);
          finish(out, before, min(gap, pieceEnd), cap, slope, position);
          finish(out, behind, min(own + 1, pieceEnd), cap, slope, own);
        }
        if (first > piece) fill(out, piece, min(first, pieceEnd), MASKED);
        fillUnseen(out, gap, gapEnd, own + 1, piece, pieceEnd, MASKED);
      }
    }
  }
}

/** Finishes the scores of a row from key `first` to `end`; a key `own` would be the query's. */
@inline
function finish(row: usize, first: i32, end: i32, cap: f32, slope: f32, own: i32): void {
  if (first < end) finishScores(row + (<usize> first << 2), end - first, cap, slope, own - first);
}

/** The largest of a row's numbers, at least `most`. */
function largestOf(x: usize, count: i32, most: f32): f32 {
  const end = x + (<usize> count << 2);
  let a = f32x4.splat(most), b = a;
  for (; x + 32 <= end; x += 32) {
    a = f32x4.pmax(a, v128.load(x));
    b = f32x4.pmax(b, v128.load(x, 16));
  }
  a = f32x4.pmax(a, b);
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 1, 0, 3, 2));
  most = f32x4.extract_lane(a, 0);
  for (; x < end; x += 4) {
    if (load<f32>(x) > most) most = load<f32>(x);
  }
  return most;
}

/** y = exp(x − largest); their sum. `spare` has room for a vector. */
function exponentials(x: usize, y: usize, count: i32, largest: f32, spare: usize): f32 {
  const most = f32x4.splat(largest);
  const end = x + (<usize> count << 2), vectors = x + (<usize> (count >> 2) << 4);
  let total = f32x4.splat(0);
  while (x < vectors) {
    const pieceEnd = min(x + PIECE, vectors);
    total = f32x4.add(total, weights(x, pieceEnd, y, most));
    y += pieceEnd - x;
    x = pieceEnd;
  }
  if (x < end) {
    // The last one to three numbers, as a vector whose other lanes weigh nothing.
    const rest = <i32> (end - x) >> 2;
    for (let i: i32 = 0; i < 4; i++) {
      store<f32>(spare + (<usize> i << 2), i < rest ? load<f32>(x + (<usize> i << 2)) : -Infinity);
    }
    total = f32x4.add(total, weights(spare, spare + 16, spare, most));
    for (let i: i32 = 0; i < rest; i++) {
      store<f32>(y + (<usize> i << 2), load<f32>(spare + (<usize> i << 2)));
    }
  }
  total = f32x4.add(total, v128.shuffle<f32>(total, total, 2, 3, 0, 1));
  return f32x4.extract_lane(total, 0) + f32x4.extract_lane(total, 1);
}

/** Divides a row in place. */
function divide(y: usize, count: i32, divisor: f32): void {
  const end = y + (<usize> count << 2), divisors = f32x4.splat(divisor);
  for (; y + 16 <= end; y += 16) v128.store(y, f32x4.div(v128.load(y), divisors));
  for (; y < end; y += 4) store<f32>(y, load<f32>(y) / divisor);
}

/** Softmax of rows: of attention [heads, T, S], whose unseen keys get 0, or of logits [R, columns]. */
export function softmax(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass);
  const columns = constant(step, 0), causal = constant(step, 1) != 0;
  const width = causal ? start + tokens : columns;
  const rows = causal ? columns * tokens : rowsOf(pass);
  const gaps = causal && ofBranches(step) ? input(step, 1) : 0;
  const sinks = weight(step, 0);
  const spare = scratchOf(pass, thread);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> width << 2);
    const x = input(step, 0) + at, y = output(step, 0) + at;
    const token = causal ? row % tokens : 0;
    const visible = causal ? start + token + 1 : width;
    const gap = gapOf(gaps, token), first = gapEndOf(gaps, token);
    // What is seen: the slots before the gap, and those from `first` on.
    const skipped = <usize> first << 2;
    const sink: f32 = sinks ? load<f32>(sinks + (<usize> (row / tokens) << 2)) : LEAST_SCORE;
    let largest: f32 = sink > LEAST_SCORE ? sink : LEAST_SCORE;
    if (gap > 0) largest = largestOf(x, gap, largest);
    largest = largestOf(x + skipped, visible - first, largest);
    let sum: f32 = sinks ? exp1(sink - largest) : 0;
    if (gap > 0) sum += exponentials(x, y, gap, largest, spare);
    sum += exponentials(x + skipped, y + skipped, visible - first, largest, spare);
    const divisor: f32 = sum == 0 ? 1 : sum;
    if (gap > 0) divide(y, gap, divisor);
    divide(y + skipped, visible - first, divisor);
    fillUnseen(y, gap, first, visible, 0, width, 0);
  }
}

/** probs [heads, T, S], cache_v → head_out [T, heads, d]. One thread takes a head at several positions. */
export function mix(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass), cached = start + tokens;
  const heads = constant(step, 0), kvHeads = constant(step, 1);
  const width = constant(step, 3) || constant(step, 2);
  const group = heads / kvHeads;
  const gaps = ofBranches(step) ? input(step, 2) : 0;
  const rowBytes = <usize> cached << 2;
  const headBytes = <usize> width << 2, slotBytes = <usize> kvHeads * headBytes;
  const sumBytes = <usize> (width + 3 >> 2) << 4;
  const sums = scratchOf(pass, thread);
  const probs = input(step, 0), out = output(step, 0);
  // Rows of a branch see what others do not.
  const block = gaps ? 1 : min(tokens, BLOCK_ROWS);
  const blocks = (tokens + block - 1) / block;
  const items = blocks * heads;
  for (let item = take(step, 1); item < items; item = take(step, 1)) {
    const head = item % heads, token = (blocks - 1 - item / heads) * block;
    const rows = min(block, tokens - token);
    const values = input(step, 1) + <usize> (head / group) * headBytes;
    const visible = start + token + 1;
    const gap = gapOf(gaps, token);
    const from = probs + <usize> (head * tokens + token) * rowBytes;
    memory.fill(sums, 0, <usize> rows * sumBytes);
    for (let first: i32 = gap > 0 ? 0 : gapEndOf(gaps, token); first < visible + rows - 1;) {
      const before = first < gap;
      const limit = before ? gap : visible;
      const end = min(first + TILE, before ? gap : visible + rows - 1);
      for (let row: i32 = 0; row < rows;) {
        const left = rows - row;
        const some = left == 4 ? 2 : min(left, 3);
        const most = end - first, seen = limit + row - first;
        mixRows(
          some,
          from + <usize> row * rowBytes + (<usize> first << 2),
          rowBytes,
          values + <usize> first * slotBytes,
          slotBytes,
          min(most, seen),
          min(most, seen + 1),
          min(most, seen + 2),
          width,
          sums + <usize> row * sumBytes,
          sumBytes,
          1,
          1,
          1,
        );
        row += some;
      }
      first = end == gap ? gapEndOf(gaps, token) : end;
    }
    for (let row: i32 = 0; row < rows; row++) {
      const to = out + <usize> ((token + row) * heads + head) * headBytes;
      memory.copy(to, sums + <usize> row * sumBytes, headBytes);
    }
  }
}
