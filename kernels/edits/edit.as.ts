// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Interventions on a value: see edit.ts. One thread takes a row, the features of one head at one position. */
import { constant, float, input, output, startOf, tokensOf } from "../record.as.ts";
import { take } from "../work.as.ts";

/** What scores hold at keys that are not seen: see attention.ts. */
const MASKED: f32 = -1e30;

/** x [T, heads, features], or [heads, T, S] where `features` is 0 → x · scale + operand where selected, else x. */
export function edit(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = tokensOf(pass), start = startOf(pass);
  const heads = constant(step, 0), scale = float(step, 2);
  const attention = constant(step, 1) == 0;
  const features = attention ? start + tokens : constant(step, 1);
  const bytes = <usize> features << 2;
  const selected = input(step, 2);
  const someFeatures = constant(step, 7);
  const positions = selected + (<usize> (heads + someFeatures) << 2);
  for (let row = take(step, 1); row < tokens * heads; row = take(step, 1)) {
    const token = attention ? row % tokens : row / heads;
    const head = attention ? row / tokens : row % heads;
    const position = start + token;
    const x = input(step, 0) + <usize> row * bytes, y = output(step, 0) + <usize> row * bytes;
    const chosen = (!constant(step, 6) || load<f32>(selected + (<usize> head << 2)) == 1) &&
      (!constant(step, 8) || load<f32>(positions + (<usize> position << 2)) == 1);
    const seen = !chosen ? 0 : attention ? position + 1 : features;
    if (seen > 0) {
      const flags = someFeatures ? selected + (<usize> heads << 2) : 0;
      const operand = operandOf(step, head, position, heads);
      editRow(x, operand, flags, y, seen, scale, attention);
    }
    memory.copy(y + (<usize> seen << 2), x + (<usize> seen << 2), bytes - (<usize> seen << 2));
  }
}

/** Address of what is added to a head's row; 0: nothing. */
@inline
function operandOf(step: usize, head: i32, position: i32, heads: i32): usize {
  const kind = constant(step, 3), bytes = <usize> constant(step, 4) << 2;
  if (kind == 0) return 0;
  const row = kind == 1 ? head : (position - constant(step, 5)) * heads + head;
  return input(step, 1) + <usize> row * bytes;
}

/** Edits the first `count` numbers of a row: the flagged ones, or all where `flags` is 0. */
function editRow(
  x: usize,
  operand: usize,
  flags: usize,
  y: usize,
  count: i32,
  scale: f32,
  attention: bool,
): void {
  // A scale of 0 also removes NaN and infinity, and replaces masks.
  const replaces = scale == 0, keepsMasks = attention && !replaces;
  const scales = f32x4.splat(scale), masked = f32x4.splat(MASKED), one = f32x4.splat(1);
  const bytes = <usize> count << 2;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const before = v128.load(x + at);
    let after = replaces ? f32x4.splat(0) : f32x4.mul(before, scales);
    if (operand) after = f32x4.add(after, v128.load(operand + at));
    if (keepsMasks) after = v128.bitselect(before, after, f32x4.le(before, masked));
    if (flags) after = v128.bitselect(after, before, f32x4.eq(v128.load(flags + at), one));
    v128.store(y + at, after);
  }
  for (; at < bytes; at += 4) {
    const before = load<f32>(x + at);
    let after: f32 = replaces ? 0 : before * scale;
    if (operand) after += load<f32>(operand + at);
    if (keepsMasks && before <= MASKED) after = before;
    if (flags && load<f32>(flags + at) != 1) after = before;
    store<f32>(y + at, after);
  }
}
