// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Kernels that touch each number once: see elementwise.ts. */
import { exp1, exp4 } from "../math.as.ts";
import { constant, input, ofBranches, output, rowsOf, tokensOf, weight } from "../record.as.ts";
import { take } from "../work.as.ts";

/** Numbers that a thread takes at a time. */
const PIECE: i32 = 4096;

/** a, b [T, columns] → a + b. */
export function add(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const total = tokensOf(pass) * constant(step, 0);
  for (let first = take(step, PIECE); first < total; first = take(step, PIECE)) {
    const at = <usize> first << 2;
    let a = input(step, 0) + at, b = input(step, 1) + at, y = output(step, 0) + at;
    const end = a + (<usize> min(PIECE, total - first) << 2);
    for (; a + 16 <= end; a += 16, b += 16, y += 16) {
      v128.store(y, f32x4.add(v128.load(a), v128.load(b)));
    }
    for (; a < end; a += 4, b += 4, y += 4) store<f32>(y, load<f32>(a) + load<f32>(b));
  }
}

/** x [T, columns], bias [columns] → x + bias in each row. */
export function add_bias(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), tokens = tokensOf(pass);
  for (let row = take(step, 1); row < tokens; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    let x = input(step, 0) + at, b = weight(step, 0), y = output(step, 0) + at;
    const end = x + (<usize> columns << 2);
    for (; x + 16 <= end; x += 16, b += 16, y += 16) {
      v128.store(y, f32x4.add(v128.load(x), v128.load(b)));
    }
    for (; x < end; x += 4, b += 4, y += 4) store<f32>(y, load<f32>(x) + load<f32>(b));
  }
}

/** gate, up [T, columns] → silu(gate) · up. */
export function swiglu(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const total = tokensOf(pass) * constant(step, 0);
  const one = f32x4.splat(1);
  for (let first = take(step, PIECE); first < total; first = take(step, PIECE)) {
    const at = <usize> first << 2;
    let gate = input(step, 0) + at, up = input(step, 1) + at, y = output(step, 0) + at;
    const end = gate + (<usize> min(PIECE, total - first) << 2);
    for (; gate + 16 <= end; gate += 16, up += 16, y += 16) {
      const x = v128.load(gate);
      const silu = f32x4.div(x, f32x4.add(one, exp4(f32x4.neg(x))));
      v128.store(y, f32x4.mul(silu, v128.load(up)));
    }
    for (; gate < end; gate += 4, up += 4, y += 4) {
      const x = load<f32>(gate);
      store<f32>(y, x / (1 + exp1(-x)) * load<f32>(up));
    }
  }
}

/** x [T, columns] → its last R rows; of branches, the rows that are listed [R]. */
export function take_rows(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const rows = rowsOf(pass), bytes = <usize> constant(step, 0) << 2;
  const list = ofBranches(step) ? input(step, 1) : 0;
  const first = tokensOf(pass) - rows;
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const from = list ? load<i32>(list + (<usize> row << 2)) : first + row;
    const to = output(step, 0) + <usize> row * bytes;
    memory.copy(to, input(step, 0) + <usize> from * bytes, bytes);
  }
}
