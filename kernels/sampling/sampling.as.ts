// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/**
 * The choice of the next id, in the whole numbers of sampling.ts. One thread chooses: what it looks at are ids by falling logit, of
 * equal ones the lower id first, and nothing is sorted. Each choice (the last candidate of top-k, the last of top-p, the one that is
 * drawn) is the first candidate, from the likeliest, at which a sum of whole numbers reaches a target: sums over groups of candidates
 * tell in which group it lies, and only that group is looked at again.
 */
import { constant, input, output, rowsOf, scratchOf, startOf, tokensOf } from "../record.as.ts";
import { largest } from "./argmax.as.ts";

/** An exponent of which no weight is left. */
const FARTHEST: u32 = 0xffffffff;
/** Exponents per logit at temperature 1. */
const LOG2E: f32 = 1.44269502162933349609375;

/** What a choice adds up. */
const COUNT: i32 = 0;
const PLAIN: i32 = 1; // weights at temperature 1
const DRAWN: i32 = 2; // weights at the draw's temperature

/** Groups of the first round are parts of a halving, those of the others have the same eleven bits of the logit. */
const GROUPS: i32 = 2048;

/** Candidates whose weights are computed at a time. */
const CHUNK: i32 = 1024;

/** What {@linkcode measureChunk} computes with, in all lanes. */
const NUMBERS: usize = memory.data<u32>([
  0x42000000, 0x42000000, 0x42000000, 0x42000000, // 32 as a float
  0x4d000000, 0x4d000000, 0x4d000000, 0x4d000000, // 2²⁷ as a float
  0xffff, 0xffff, 0xffff, 0xffff,
  0x7ff, 0x7ff, 0x7ff, 0x7ff,
  45426, 45426, 45426, 45426, // ln 2 in units of 2⁻¹⁶
  2029165, 2029165, 2029165, 2029165, // the coefficients of sampling.ts
  19769301, 19769301, 19769301, 19769301,
  118750173, 118750173, 118750173, 118750173,
  515782929, 515782929, 515782929, 515782929,
  1488514807, 1488514807, 1488514807, 1488514807,
  2147483648, 2147483648, 2147483648, 2147483648,
], 16);

/** How far four logits are below the best one, in halvings of the probability, in units of 2⁻²⁷. */
@inline
function exponents(logits: v128, best: v128, scale: v128): v128 {
  const halvings = f32x4.mul(f32x4.sub(best, logits), scale);
  const near = f32x4.lt(halvings, v128.load(NUMBERS));
  // In two parts, which are exact: the whole ones, below 32, and the fraction.
  const whole = i32x4.relaxed_trunc_f32x4_s(halvings);
  const fraction = f32x4.sub(halvings, f32x4.convert_i32x4_s(whole));
  const units = i32x4.relaxed_trunc_f32x4_s(f32x4.mul(fraction, v128.load(NUMBERS, 16)));
  return v128.or(v128.or(i32x4.shl(whole, 27), units), v128.not(near));
}

/** The same of one logit. */
@inline
function exponentOf(logit: f32, best: f32, scale: f32): u32 {
  const all = exponents(f32x4.splat(logit), f32x4.splat(best), f32x4.splat(scale));
  return <u32> i32x4.extract_lane(all, 0);
}

/** floor(sum · t / 2¹⁶) for t below 2¹⁶ */
@inline
function scaled(sum: v128, t: v128): v128 {
  const low = i32x4.mul(v128.and(sum, v128.load(NUMBERS, 32)), t);
  return i32x4.add(i32x4.mul(i32x4.shr_u(sum, 16), t), i32x4.shr_u(low, 16));
}

/**
 * The probabilities of four exponents in units of the best one's, times 2³¹, before they are shifted to the right by the whole halvings;
 * 0 for {@linkcode FARTHEST}.
 */
@inline
function unshiftedWeights(exponents: v128): v128 {
  const t = v128.and(i32x4.shr_u(exponents, 11), v128.load(NUMBERS, 32));
  const units = v128.and(exponents, v128.load(NUMBERS, 48));
  const rest = i32x4.shr_u(i32x4.mul(units, v128.load(NUMBERS, 64)), 16);
  let sum = i32x4.sub(v128.load(NUMBERS, 96), scaled(v128.load(NUMBERS, 80), t));
  sum = i32x4.sub(v128.load(NUMBERS, 112), scaled(sum, t));
  sum = i32x4.sub(v128.load(NUMBERS, 128), scaled(sum, t));
  sum = i32x4.sub(v128.load(NUMBERS, 144), scaled(sum, t));
  sum = i32x4.sub(v128.load(NUMBERS, 160), scaled(sum, t));
  sum = i32x4.sub(sum, i32x4.shr_u(i32x4.mul(i32x4.shr_u(sum, 11), rest), 16));
  return v128.andnot(sum, i32x4.eq(exponents, i32x4.splat(-1)));
}

/** floor(sum · share / 2³²); sums are below 2⁵⁴. */
@inline
function shareOf(sum: u64, share: u64): u64 {
  return (sum >> 32) * share + ((sum & 0xffffffff) * share >> 32);
}

/** 24 bits of Threefry-2x32 (see random.ts), as a share in units of 2⁻³². */
function randomShare(low: u32, high: u32, length: u32): u64 {
  let a = length + low, b = high;
  let key0 = low, key1 = high, key2 = 0x1bd11bda ^ low ^ high;
  for (let four: u32 = 0; four < 5; four++) {
    const odd = (four & 1) != 0;
    a += b;
    b = rotl<u32>(b, odd ? 17 : 13) ^ a;
    a += b;
    b = rotl<u32>(b, odd ? 29 : 15) ^ a;
    a += b;
    b = rotl<u32>(b, odd ? 16 : 26) ^ a;
    a += b;
    b = rotl<u32>(b, odd ? 24 : 6) ^ a;
    const first = key0;
    key0 = key1;
    key1 = key2;
    key2 = first;
    a += key0;
    b += key1 + four + 1;
  }
  return <u64> (a & 0xffffff00);
}

/** Bits that rise as logits fall; −0 is 0. */
@inline
function orderOf(logit: f32): u32 {
  const bits = reinterpret<u32>(logit);
  if (bits == 0x80000000) return 0x7fffffff;
  return bits >> 31 ? bits : 0x7fffffff - bits;
}

/** The group of a candidate in a round but the first, which looks at exponents. */
@inline
function groupOf(logit: f32, round: i32): i32 {
  const order = orderOf(logit);
  return <i32> (round == 1 ? order >> 21 : round == 2 ? order >> 10 & 0x7ff : order & 0x3ff);
}

/** x [R, columns], sampling [16], history [S] → the id [1] that follows the last row; −1 where there is none. */
export function sample(step: usize, pass: usize, thread: i32, _threads: i32): void {
  if (thread != 0) return;
  const columns = constant(step, 0), words = input(step, 1);
  // Of the scratch: penalized logits, the candidates that are kept, those among which a choice is narrowed down.
  const scratch = <usize> load<u32>(step, 164), bytes = <usize> columns << 2;
  const length = startOf(pass) + tokensOf(pass);
  let x = input(step, 0) + <usize> (rowsOf(pass) - 1) * bytes;
  if (load<f32>(words) != 1) {
    penalize(x, scratch, columns, words, input(step, 2), length);
    x = scratch;
  }
  let id = largest(x, columns);
  if (id >= 0 && load<u32>(words, 28) == 0) {
    logits = x;
    best = load<f32>(x + (<usize> id << 2));
    kept = columns;
    ids = 0;
    keptIds = scratch + bytes;
    narrowed = scratch + 2 * bytes;
    sums = scratchOf(pass, thread);
    chunk = sums + (GROUPS << 3);
    const chosen = draw(words, length);
    if (chosen >= 0) id = chosen;
  }
  store<i32>(output(step, 0), id);
}

/** Copies logits, and makes those of recent ids less likely, once for each id. */
function penalize(
  x: usize,
  to: usize,
  columns: i32,
  words: usize,
  history: usize,
  length: i32,
): void {
  const penalty = load<f32>(words), relief = load<f32>(words, 4), window = load<u32>(words, 8);
  memory.copy(to, x, <usize> columns << 2);
  for (let i = <u32> length - min<u32>(length, window); i < <u32> length; i++) {
    const id = load<u32>(history + (<usize> i << 2));
    if (id >= <u32> columns) continue;
    const logit = load<f32>(x + (<usize> id << 2));
    store<f32>(to + (<usize> id << 2), logit * (logit > 0 ? relief : penalty));
  }
}

// What a choice is made from; every thread has globals of its own.
/** Logits, penalized, and the largest. */
let logits: usize = 0;
let best: f32 = 0;
/** How many candidates are left, and a list of them by rising id; 0: all ids. */
let kept: i32 = 0;
let ids: usize = 0;
/** Room for two lists, and for the sums of the groups, 64 bits each. */
let keptIds: usize = 0;
let narrowed: usize = 0;
let sums: usize = 0;
/** Room for a chunk's logits, its exponents and its weights. */
let chunk: usize = 0;
/** What the sum of a choice is to reach. */
let target: u64 = 0;

/** Candidate `i` of a list. */
@inline
function idAt(list: usize, i: i32): i32 {
  return list ? load<i32>(list + (<usize> i << 2)) : i;
}

function put(list: usize, i: i32, id: i32): void {
  store<i32>(list + (<usize> i << 2), id);
}

function logitOf(id: i32): f32 {
  return load<f32>(logits + (<usize> id << 2));
}

/** Filters, then draws; −1 where nothing but the best one has a weight, or not even that. */
function draw(words: usize, length: i32): i32 {
  const topK = load<u32>(words, 12), topP = load<u32>(words, 16), farthest = load<u32>(words, 20);
  if (topK > 0 && topK < <u32> kept) keepUpTo(choose(LOG2E, COUNT, topK));
  if (topP > 0) keepUpTo(choose(LOG2E, PLAIN, topP));
  if (farthest < FARTHEST) keepNear(farthest);
  const share = randomShare(load<u32>(words, 32), load<u32>(words, 36), length);
  return choose(load<f32>(words, 24), DRAWN, share);
}

/**
 * Forgets the candidates behind the last one.
 *
 * Of all ids hardly any are kept: most are passed over four at a time.
 */
function keepUpTo(last: i32): void {
  const logit = logitOf(last), all = f32x4.splat(logit);
  let left: i32 = 0;
  for (let i: i32 = 0; i < kept;) {
    if (!ids && i + 4 <= kept) {
      const four = v128.load(logits + (<usize> i << 2));
      if (!v128.any_true(f32x4.ge(four, all))) {
        i += 4;
        continue;
      }
    }
    const id = idAt(ids, i), other = logitOf(id);
    if (other > logit || (other == logit && id <= last)) put(keptIds, left++, id);
    i++;
  }
  kept = left;
  ids = keptIds;
}

/** Forgets the candidates whose exponent at temperature 1 is larger. */
function keepNear(farthest: u32): void {
  const bests = f32x4.splat(best), scales = f32x4.splat(LOG2E);
  const all = i32x4.splat(<i32> farthest);
  let left: i32 = 0;
  for (let i: i32 = 0; i < kept;) {
    if (!ids && i + 4 <= kept) {
      const four = exponents(v128.load(logits + (<usize> i << 2)), bests, scales);
      if (!v128.any_true(i32x4.le_u(four, all))) {
        i += 4;
        continue;
      }
    }
    const id = idAt(ids, i);
    if (exponentOf(logitOf(id), best, LOG2E) <= farthest) put(keptIds, left++, id);
    i++;
  }
  kept = left;
  ids = keptIds;
}

/** Address of the logits of the candidates from `first` on; those of a list are copied one behind another. */
function logitsFrom(list: usize, first: i32, count: i32): usize {
  if (!list) return logits + (<usize> first << 2);
  for (let i: i32 = 0; i < count; i++) {
    store<f32>(chunk + (<usize> i << 2), logitOf(idAt(list, first + i)));
  }
  return chunk;
}

/** Exponents and weights of a chunk, whole vectors of them: what lies behind its logits is of no account. */
function measureChunk(from: usize, count: i32, scale: f32, what: i32): void {
  const bests = f32x4.splat(best), scales = f32x4.splat(scale);
  const end = from + (<usize> count << 2);
  for (let to = chunk + (CHUNK << 2); from < end; from += 16, to += 16) {
    const distances = exponents(v128.load(from), bests, scales);
    v128.store(to, distances);
    if (what != COUNT) v128.store(to + (CHUNK << 2), unshiftedWeights(distances));
  }
}

/** The sums of the groups in the first round. */
function addAll(scale: f32, what: i32): u64 {
  let total: u64 = 0;
  for (let first: i32 = 0; first < kept; first += CHUNK) {
    const count = min(CHUNK, kept - first);
    measureChunk(logitsFrom(ids, first, count), count, scale, what);
    const end = chunk + (CHUNK << 2) + (<usize> count << 2);
    for (let at = chunk + (CHUNK << 2); at < end; at += 4) {
      const exponent = load<u32>(at);
      const part: u64 = what == COUNT ? 1 : load<u32>(at + (CHUNK << 2)) >> (exponent >> 27);
      const group = sums + (<usize> (exponent >> 21) << 3);
      store<u64>(group, load<u64>(group) + part);
      total += part;
    }
  }
  return total;
}

/** Lists the candidates of a group of the first round; how many. */
function listGroup(scale: f32, group: i32): i32 {
  const bests = f32x4.splat(best), scales = f32x4.splat(scale), all = i32x4.splat(group);
  let left: i32 = 0;
  for (let first: i32 = 0; first < kept; first += CHUNK) {
    const count = min(CHUNK, kept - first);
    const from = logitsFrom(ids, first, count);
    for (let i: i32 = 0; i < count; i += 4) {
      const four = exponents(v128.load(from + (<usize> i << 2)), bests, scales);
      let equal = i32x4.bitmask(i32x4.eq(i32x4.shr_u(four, 21), all));
      for (; equal; equal &= equal - 1) {
        const at = i + ctz<i32>(equal);
        if (at < count) put(narrowed, left++, idAt(ids, first + at));
      }
    }
  }
  return left;
}

/** The group in which a sum reaches the target, which is counted on from there. */
@inline
function reach(): i32 {
  let group: i32 = 0;
  for (let sum = load<u64>(sums); sum < target; sum = load<u64>(sums + (<usize> group << 3))) {
    target -= sum;
    group++;
  }
  return group;
}

/**
 * The first candidate at which the sum reaches an amount of candidates (`COUNT`) or a share of the whole sum (`PLAIN`), or exceeds
 * that (`DRAWN`); −1 where the sum is 0.
 */
function choose(scale: f32, what: i32, amount: u64): i32 {
  memory.fill(sums, 0, GROUPS << 3);
  const total = addAll(scale, what);
  if (total == 0) return -1;
  target = what == COUNT ? amount : shareOf(total, amount);
  if (what == DRAWN || target == 0) target++;
  let count = listGroup(scale, reach());
  for (let round: i32 = 1; round < 4 && count > 1; round++) {
    memory.fill(sums, 0, GROUPS << 3);
    for (let i: i32 = 0; i < count; i++) {
      const logit = logitOf(idAt(narrowed, i));
      const group = sums + (<usize> groupOf(logit, round) << 3);
      store<u64>(group, load<u64>(group) + partOf(logit, scale, what));
    }
    const group = reach();
    let left: i32 = 0;
    for (let i: i32 = 0; i < count; i++) {
      const id = idAt(narrowed, i);
      if (groupOf(logitOf(id), round) == group) put(narrowed, left++, id);
    }
    count = left;
  }
  // Those that are left have the same logit, and so the same weight.
  const part = partOf(logitOf(idAt(narrowed, 0)), scale, what);
  return idAt(narrowed, <i32> ((target - 1) / max<u64>(part, 1)));
}

/** What a candidate adds to a sum. */
@inline
function partOf(logit: f32, scale: f32, what: i32): u64 {
  if (what == COUNT) return 1;
  const all = exponents(f32x4.splat(logit), f32x4.splat(best), f32x4.splat(scale));
  const weight = <u32> i32x4.extract_lane(unshiftedWeights(all), 0);
  return weight >> (<u32> i32x4.extract_lane(all, 0) >> 27);
}
