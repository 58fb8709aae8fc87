// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Which experts a position goes to, and what is done with their results: see routing/route.ts and linear_experts.ts. */
import { exp1 } from "../math.as.ts";
import { constant, float, input, output, scratchOf, tokensOf, weight } from "../record.as.ts";
import { take } from "../work.as.ts";

const SOFTMAX: i32 = 0;
const SIGMOID: i32 = 1;
const SOFTMAX_CHOSEN: i32 = 2;

/** See LEAST_SUM of routing/route.ts. */
const LEAST_SUM: f32 = 0.00006103515625;

@inline
function at(numbers: usize, i: i32): f32 {
  return load<f32>(numbers + (<usize> i << 2));
}

@inline
function put(numbers: usize, i: i32, value: f32): void {
  store<f32>(numbers + (<usize> i << 2), value);
}

/** Softmax of `count` numbers to `out`, which may be the same. */
function softmax(x: usize, count: i32, out: usize): void {
  let largest = at(x, 0);
  for (let i = 1; i < count; i++) largest = max(largest, at(x, i));
  let sum: f32 = 0;
  for (let i = 0; i < count; i++) {
    const power = exp1(at(x, i) - largest);
    put(out, i, power);
    sum += power;
  }
  for (let i = 0; i < count; i++) put(out, i, at(out, i) / sum);
}

/** Index of the largest of those numbers from `from` to `end` that are not `taken`, of equal ones the first; NaN is less than any number. */
function best(numbers: usize, taken: usize, from: i32, end: i32): i32 {
  let found = -1, missing = -1;
  let most: f32 = 0;
  for (let i = from; i < end; i++) {
    if (load<u8>(taken + <usize> i)) continue;
    const number = at(numbers, i);
    if (number != number) {
      if (missing < 0) missing = i;
    } else if (found < 0 || number > most) {
      most = number;
      found = i;
    }
  }
  return found < 0 ? missing : found;
}

/** Makes NaN of what belongs to groups other than the best ones. `taken` and `scores` are room for a byte an expert and a number a group. */
function maskGroups(
  gates: usize,
  choice: usize,
  experts: i32,
  groups: i32,
  used: i32,
  taken: usize,
  scores: usize,
): void {
  const width = experts / groups;
  memory.fill(taken, 0, experts);
  for (let group = 0; group < groups; group++) {
    const first = group * width;
    let i = best(gates, taken, first, first + width);
    let score = at(gates, i);
    store<u8>(taken + <usize> i, 1);
    i = best(gates, taken, first, first + width);
    if (i >= 0) score += at(gates, i);
    put(scores, group, score);
  }
  memory.fill(taken, 0, groups);
  for (let i = 0; i < used; i++) store<u8>(taken + <usize> best(scores, taken, 0, groups), 1);
  for (let group = 0; group < groups; group++) {
    if (load<u8>(taken + <usize> group)) continue;
    for (let i = group * width; i < (group + 1) * width; i++) put(choice, i, NaN);
  }
}

/** Gates of a position's experts to `gates`. */
function findGates(logits: usize, experts: i32, gating: i32, gates: usize): void {
  if (gating == SOFTMAX) softmax(logits, experts, gates);
  else if (gating == SIGMOID) {
    for (let i = 0; i < experts; i++) put(gates, i, 1 / (1 + exp1(-at(logits, i))));
  } else memory.copy(gates, logits, <usize> experts << 2);
}

/** Weights of a position's chosen experts. */
function weighChosen(step: usize, gates: usize, ids: usize, weights: usize): void {
  const experts = constant(step, 0), used = constant(step, 1);
  const gating = constant(step, 2), normalize = constant(step, 3), scale = float(step, 6);
  for (let i = 0; i < used; i++) {
    const id = load<u32>(ids + (<usize> i << 2));
    put(weights, i, id < <u32> experts ? at(gates, id) : NaN);
  }
  if (gating == SOFTMAX_CHOSEN) softmax(weights, used, weights);
  let divisor: f32 = 1;
  if (normalize) {
    divisor = 0;
    for (let i = 0; i < used; i++) divisor += at(weights, i);
    divisor = max(divisor, LEAST_SUM);
  }
  for (let i = 0; i < used; i++) put(weights, i, at(weights, i) / divisor * scale);
}

/** logits [T, experts], ids [T, used] → weights [T, used]. */
export function route_weights(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), experts = constant(step, 0), used = constant(step, 1);
  const gates = scratchOf(pass, thread);
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    const logits = input(step, 0) + ((<usize> token * experts) << 2);
    const first = (<usize> token * used) << 2;
    findGates(logits, experts, constant(step, 2), gates);
    weighChosen(step, gates, input(step, 1) + first, output(step, 0) + first);
  }
}

/** logits [T, experts] → ids [T, used], and weights [T, used] where they are wanted. */
export function route(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), experts = constant(step, 0), used = constant(step, 1);
  const groups = constant(step, 4), bias = weight(step, 0), weights = output(step, 1);
  const row = <usize> experts << 2;
  const gates = scratchOf(pass, thread), choice = gates + row, biased = choice + row;
  const scores = biased + row, taken = scores + row;
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    const logits = input(step, 0) + <usize> token * row;
    const ids = output(step, 0) + ((<usize> token * used) << 2);
    findGates(logits, experts, constant(step, 2), gates);
    let by = gates;
    if (bias) {
      for (let i = 0; i < experts; i++) put(biased, i, at(gates, i) + at(bias, i));
      by = biased;
    }
    memory.copy(choice, bias ? biased : logits, row);
    if (groups > 1) maskGroups(by, choice, experts, groups, constant(step, 5), taken, scores);
    memory.fill(taken, 0, experts);
    for (let i = 0; i < used; i++) {
      const id = best(choice, taken, 0, experts);
      store<u8>(taken + <usize> id, 1);
      store<i32>(ids + (<usize> i << 2), id);
    }
    if (weights) weighChosen(step, gates, ids, weights + ((<usize> token * used) << 2));
  }
}

/** x [T, used, rows], ids [T, used], bias [experts, rows] → x and the bias of each row's expert. */
export function add_expert_bias(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const rows = constant(step, 0), pairs = tokensOf(pass) * constant(step, 1);
  const bytes = <usize> rows << 2;
  for (let pair = take(step, 1); pair < pairs; pair = take(step, 1)) {
    const id = load<i32>(input(step, 1) + (<usize> pair << 2));
    let x = input(step, 0) + <usize> pair * bytes, y = output(step, 0) + <usize> pair * bytes;
    let b = weight(step, 0) + <usize> id * bytes;
    const end = x + bytes;
    for (; x + 16 <= end; x += 16, b += 16, y += 16) {
      v128.store(y, f32x4.add(v128.load(x), v128.load(b)));
    }
    for (; x < end; x += 4, b += 4, y += 4) store<f32>(y, load<f32>(x) + load<f32>(b));
  }
}

/** y = x · factor, and what y was before unless it is the first. */
@inline
function addScaled(x: usize, bytes: usize, factor: f32, y: usize, first: bool): void {
  const factors = f32x4.splat(factor), end = x + bytes;
  for (; x + 16 <= end; x += 16, y += 16) {
    const scaled = f32x4.mul(v128.load(x), factors);
    v128.store(y, first ? scaled : f32x4.add(v128.load(y), scaled));
  }
  for (; x < end; x += 4, y += 4) {
    const scaled = load<f32>(x) * factor;
    store<f32>(y, first ? scaled : load<f32>(y) + scaled);
  }
}

/** x [T, used, columns], weights [T, used] → Σ weight · row over each position's experts. */
export function combine(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), used = constant(step, 1), bytes = <usize> constant(step, 0) << 2;
  for (let token = take(step, 1); token < tokens; token = take(step, 1)) {
    for (let k = 0; k < used; k++) {
      const pair = token * used + k;
      const x = input(step, 0) + <usize> pair * bytes, y = output(step, 0) + <usize> token * bytes;
      addScaled(x, bytes, at(input(step, 1), pair), y, k == 0);
    }
  }
}

/** x [T, used, columns], weights [T, used] → each row times its weight. */
export function weigh(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const pairs = tokensOf(pass) * constant(step, 1), bytes = <usize> constant(step, 0) << 2;
  for (let pair = take(step, 1); pair < pairs; pair = take(step, 1)) {
    const at0 = <usize> pair * bytes;
    addScaled(input(step, 0) + at0, bytes, at(input(step, 1), pair), output(step, 0) + at0, true);
  }
}
