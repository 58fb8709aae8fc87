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

/** How far a logit is below the best one, in halvings of the probability, in units of 2⁻²⁷. */

function exponentOf(logit: f32, best: f32, scale: f32): u32 {
  const halvings = (best - logit) * scale;
  return halvings < 32 ? <u32> (halvings * 134217728) : FARTHEST;
}

/** floor(sum · t / 2¹⁶) */

function scaled(sum: u64, t: u64): u64 {
  return sum * t >> 16;
}

/** The probability of an exponent in units of the best one's, times 2³¹, rounded down. */

function weightOf(exponent: u32): u64 {
  if (exponent == FARTHEST) return 0;
  const t = <u64> (exponent >> 11 & 0xffff);
  const rest = <u64> (exponent & 0x7ff) * 45426 >> 16;
  let sum: u64 = 19769301 - scaled(2029165, t);
  sum = 118750173 - scaled(sum, t);
  sum = 515782929 - scaled(sum, t);
  sum = 1488514807 - scaled(sum, t);
  sum = 2147483648 - scaled(sum, t);
  sum -= (sum >> 11) * rest >> 16;
  return sum >> (<u64> exponent >> 27);
}

/** floor(sum · share / 2³²); sums are below 2⁵⁴. */

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

function orderOf(logit: f32): u32 {
  const bits = reinterpret<u32>(logit);
  if (bits == 0x80000000) return 0x7fffffff;
  return bits >> 31 ? bits : 0x7fffffff - bits;
}

/** The group of a candidate in a round: the first looks at the distance from the best, the others at the logit's bits. */

function groupOf(logit: f32, best: f32, scale: f32, round: i32): i32 {
  if (round == 0) return <i32> (exponentOf(logit, best, scale) >> 21);
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

/** Candidate `i` of a list. */

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

/** Forgets the candidates behind the last one. */
function keepUpTo(last: i32): void {
  const logit = logitOf(last);
  let left: i32 = 0;
  for (let i: i32 = 0; i < kept; i++) {
    const id = idAt(ids, i), other = logitOf(id);
    if (other < logit || (other == logit && id > last)) continue;
    put(keptIds, left++, id);
  }
  kept = left;
  ids = keptIds;
}

/** Forgets the candidates whose exponent at temperature 1 is larger. */
function keepNear(farthest: u32): void {
  let left: i32 = 0;
  for (let i: i32 = 0; i < kept; i++) {
    const id = idAt(ids, i);
    if (exponentOf(logitOf(id), best, LOG2E) > farthest) continue;
    put(keptIds, left++, id);
  }
  kept = left;
  ids = keptIds;
}

/** What a candidate adds to a sum. */

function measure(logit: f32, scale: f32, what: i32): u64 {
  return what == COUNT ? 1 : weightOf(exponentOf(logit, best, scale));
}

/**
 * The first candidate at which the sum reaches an amount of candidates (`COUNT`) or a share of the whole sum (`PLAIN`), or exceeds
 * that (`DRAWN`); −1 where the sum is 0.
 */
function choose(scale: f32, what: i32, amount: u64): i32 {
  let list = ids, count = kept;
  let target = amount;
  for (let round: i32 = 0; round < 4; round++) {
    memory.fill(sums, 0, GROUPS << 3);
    let total: u64 = 0;
    for (let i: i32 = 0; i < count; i++) {
      const logit = logitOf(idAt(list, i));
      const part = measure(logit, scale, what);
      const group = sums + (<usize> groupOf(logit, best, scale, round) << 3);
      store<u64>(group, load<u64>(group) + part);
      total += part;
    }
    if (round == 0 && what != COUNT) {
      if (total == 0) return -1;
      target = shareOf(total, amount);
      if (what == DRAWN || target == 0) target++;
    }
    let group: i32 = 0;
    for (let sum = load<u64>(sums); sum < target; sum = load<u64>(sums + (<usize> group << 3))) {
      target -= sum;
      group++;
    }
    let left: i32 = 0;
    for (let i: i32 = 0; i < count; i++) {
      const id = idAt(list, i);
      if (groupOf(logitOf(id), best, scale, round) != group) continue;
      put(narrowed, left++, id);
    }
    list = narrowed;
    count = left;
    if (count == 1) break;
  }
  // Those that are left have the same logit, and so the same weight.
  let i: i32 = 0;
  const part = measure(logitOf(idAt(list, 0)), scale, what);
  for (let sum = part; sum < target; sum += part) i++;
  return idAt(list, i);
}
