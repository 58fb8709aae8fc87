// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** The greedy choice: see argmax.ts. */
import { constant, input, output, rowsOf } from "../record.as.ts";
import { take } from "../work.as.ts";

/** Index of the largest number, of equal ones the first; −1 where a number is NaN or +Infinity, or none is finite. */
export function largest(x: usize, columns: i32): i32 {
  const infinite = f32x4.splat(Infinity);
  const vectors = x + (<usize> (columns >> 2) << 4), end = x + (<usize> columns << 2);
  let most = f32x4.splat(-Infinity), other = most, below = i32x4.splat(-1);
  let at = x;
  for (; at + 32 <= vectors; at += 32) {
    const a = v128.load(at), b = v128.load(at, 16);
    below = v128.and(below, v128.and(f32x4.lt(a, infinite), f32x4.lt(b, infinite)));
    most = f32x4.pmax(most, a);
    other = f32x4.pmax(other, b);
  }
  most = f32x4.pmax(most, other);
  most = f32x4.pmax(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1));
  let best = max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1));
  let fine = i32x4.all_true(below);
  for (; at < end; at += 4) {
    const number = load<f32>(at);
    if (!(number < Infinity)) fine = false;
    if (number > best) best = number;
  }
  if (!fine || best == -Infinity) return -1;
  const all = f32x4.splat(best);
  at = x;
  while (at + 16 <= end && !v128.any_true(f32x4.eq(v128.load(at), all))) at += 16;
  while (load<f32>(at) != best) at += 4;
  return <i32> (at - x) >> 2;
}

/** x [R, columns] → index [R] of the largest number. */
export function argmax(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const rows = rowsOf(pass), columns = constant(step, 0);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const x = input(step, 0) + <usize> row * (<usize> columns << 2);
    store<i32>(output(step, 0) + (<usize> row << 2), largest(x, columns));
  }
}
