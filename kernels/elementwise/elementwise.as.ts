// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Kernels that touch each number once: see elementwise.ts. */
import { exp4, tanh4 } from "../math.as.ts";
import {
  constant,
  float,
  gapEndOf,
  gapOf,
  input,
  ofBranches,
  output,
  rowsOf,
  startOf,
  tokensOf,
  weight,
} from "../record.as.ts";
import { take } from "../work.as.ts";
import {
  activate4,
  GELU,
  GELU_TANH,
  gated4,
  RELU,
  RELU2,
  SIGMOID,
  SILU,
  SWIGLU_CLAMPED,
} from "./activations.as.ts";

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

/** x [T, groups, columns], bias [columns] → x + bias in each row. */
export function add_bias(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = tokensOf(pass) * constant(step, 1);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    let x = input(step, 0) + at, b = weight(step, 0), y = output(step, 0) + at;
    const end = x + (<usize> columns << 2);
    for (; x + 16 <= end; x += 16, b += 16, y += 16) {
      v128.store(y, f32x4.add(v128.load(x), v128.load(b)));
    }
    for (; x < end; x += 4, b += 4, y += 4) store<f32>(y, load<f32>(x) + load<f32>(b));
  }
}

/** All of one activation, so that no number asks which. */
@inline
function gluOf(activation: i32, step: usize, pass: usize): void {
  const total = tokensOf(pass) * constant(step, 0);
  for (let first = take(step, PIECE); first < total; first = take(step, PIECE)) {
    const at = <usize> first << 2;
    let gate = input(step, 0) + at, up = input(step, 1) + at, y = output(step, 0) + at;
    const end = gate + (<usize> min(PIECE, total - first) << 2);
    for (; gate + 16 <= end; gate += 16, up += 16, y += 16) {
      v128.store(y, gated4(activation, v128.load(gate), v128.load(up)));
    }
    for (; gate < end; gate += 4, up += 4, y += 4) {
      const act = gated4(activation, f32x4.splat(load<f32>(gate)), f32x4.splat(load<f32>(up)));
      store<f32>(y, f32x4.extract_lane(act, 0));
    }
  }
}

/** gate, up [T, columns] → act(gate) · up. */
export function glu(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const activation = constant(step, 1);
  if (activation == SILU) gluOf(SILU, step, pass);
  else if (activation == GELU_TANH) gluOf(GELU_TANH, step, pass);
  else if (activation == GELU) gluOf(GELU, step, pass);
  else if (activation == RELU2) gluOf(RELU2, step, pass);
  else if (activation == RELU) gluOf(RELU, step, pass);
  else if (activation == SIGMOID) gluOf(SIGMOID, step, pass);
  else gluOf(SWIGLU_CLAMPED, step, pass);
}

/** What {@linkcode eachNumber} makes of numbers, beside activations. */
const XIELU: i32 = 10;
const SCALE: i32 = 11;
const CAP: i32 = 12;
const CLAMP: i32 = 13;

/** The polynomial of exp(x) − 1 − x near 0, from its highest power: see xielu.wgsl. Constants lie in memory, see math.as.ts. */
const TANGENT: usize = memory.data<f32>([
  0.0001646759337745607, 0.0001646759337745607, 0.0001646759337745607, 0.0001646759337745607,
  0.0013704507146030664, 0.0013704507146030664, 0.0013704507146030664, 0.0013704507146030664,
  0.008328597992658615, 0.008328597992658615, 0.008328597992658615, 0.008328597992658615,
  0.04166611284017563, 0.04166611284017563, 0.04166611284017563, 0.04166611284017563,
  0.166666641831398, 0.166666641831398, 0.166666641831398, 0.166666641831398,
  0.5, 0.5, 0.5, 0.5, // the last one
  -0.5, -0.5, -0.5, -0.5, // down to it the polynomial serves
], 16);

/** exp(x) − 1 − x of numbers that are not positive. */
@inline
function aboveTangent(x: v128): v128 {
  let p = f32x4.relaxed_madd(x, v128.load(TANGENT), v128.load(TANGENT, 16));
  p = f32x4.relaxed_madd(x, p, v128.load(TANGENT, 32));
  p = f32x4.relaxed_madd(x, p, v128.load(TANGENT, 48));
  p = f32x4.relaxed_madd(x, p, v128.load(TANGENT, 64));
  p = f32x4.relaxed_madd(x, p, v128.load(TANGENT, 80));
  const far = f32x4.sub(f32x4.sub(exp4(x), f32x4.splat(1)), x);
  return v128.bitselect(far, f32x4.mul(f32x4.mul(p, x), x), f32x4.lt(x, v128.load(TANGENT, 96)));
}

/** xIELU of numbers: `rise` is softplus(αp), `fall` is β + softplus(αn). */
@inline
function xielu4(x: v128, rise: v128, fall: v128, beta: v128, epsilon: v128): v128 {
  const line = f32x4.mul(beta, x);
  const above = f32x4.add(f32x4.mul(f32x4.mul(rise, x), x), line);
  const low = f32x4.pmin(x, epsilon);
  const bend = f32x4.add(aboveTangent(low), f32x4.sub(low, x));
  const below = f32x4.add(f32x4.mul(fall, bend), line);
  return v128.bitselect(above, below, f32x4.gt(x, f32x4.splat(0)));
}

/** ln(1 + exp(x)). */
function softplus(x: f64): f32 {
  return <f32> (max(x, 0.0) + Math.log1p(Math.exp(-Math.abs(x))));
}

/** What becomes of four numbers; `a` to `d` are the step's constants. */
@inline
function made4(kind: i32, x: v128, a: v128, b: v128, c: v128, d: v128): v128 {
  if (kind == XIELU) return xielu4(x, a, b, c, d);
  if (kind == SCALE) return f32x4.mul(x, a);
  if (kind == CAP) return f32x4.mul(a, tanh4(f32x4.div(x, a)));
  // Of pmin and pmax the first argument stays where it is NaN.
  if (kind == CLAMP) return f32x4.pmax(f32x4.pmin(x, a), f32x4.neg(a));
  return activate4(kind, x);
}

/** x [T, columns] → as many numbers, each made of the one in its place. All of one kind, so that no number asks which. */
@inline
function eachNumber(
  kind: i32,
  step: usize,
  pass: usize,
  a: f32 = 0,
  b: f32 = 0,
  c: f32 = 0,
  d: f32 = 0,
): void {
  const total = tokensOf(pass) * constant(step, 0);
  const a4 = f32x4.splat(a), b4 = f32x4.splat(b), c4 = f32x4.splat(c), d4 = f32x4.splat(d);
  for (let first = take(step, PIECE); first < total; first = take(step, PIECE)) {
    const at = <usize> first << 2;
    let x = input(step, 0) + at, y = output(step, 0) + at;
    const end = x + (<usize> min(PIECE, total - first) << 2);
    for (; x + 16 <= end; x += 16, y += 16) {
      v128.store(y, made4(kind, v128.load(x), a4, b4, c4, d4));
    }
    for (; x < end; x += 4, y += 4) {
      const made = made4(kind, f32x4.splat(load<f32>(x)), a4, b4, c4, d4);
      store<f32>(y, f32x4.extract_lane(made, 0));
    }
  }
}

/** x [T, columns] → act(x). */
export function activate(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const activation = constant(step, 1);
  if (activation == SILU) eachNumber(SILU, step, pass);
  else if (activation == GELU_TANH) eachNumber(GELU_TANH, step, pass);
  else if (activation == GELU) eachNumber(GELU, step, pass);
  else if (activation == RELU2) eachNumber(RELU2, step, pass);
  else if (activation == RELU) eachNumber(RELU, step, pass);
  else eachNumber(SIGMOID, step, pass);
}

/** x [T, columns] → xIELU of it. */
export function xielu(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const beta = float(step, 3);
  const fall = beta + softplus(float(step, 1)), rise = softplus(float(step, 2));
  eachNumber(XIELU, step, pass, rise, fall, beta, float(step, 4));
}

/** x [T, columns] → x · factor. */
export function scale(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  eachNumber(SCALE, step, pass, float(step, 1));
}

/** x [T, columns] → cap · tanh(x / cap). */
export function cap(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  eachNumber(CAP, step, pass, float(step, 1));
}

/** x [T, columns] → x within ±limit. */
export function clamp(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  eachNumber(CLAMP, step, pass, float(step, 1));
}

/** x [T, columns] → x · (1 + scale · ln(1 + ⌊(position + offset) / period⌋)). */
export function scale_by_position(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), tokens = tokensOf(pass);
  const gaps = ofBranches(step) ? input(step, 1) : 0;
  for (let row = take(step, 1); row < tokens; row = take(step, 1)) {
    const position = startOf(pass) + row - (gapEndOf(gaps, row) - gapOf(gaps, row));
    const periods = (position + constant(step, 3)) / constant(step, 2);
    const factor = <f32> (1 + <f64> float(step, 1) * Math.log1p(<f64> periods));
    const at = <usize> row * (<usize> columns << 2), factors = f32x4.splat(factor);
    let x = input(step, 0) + at, y = output(step, 0) + at;
    const end = x + (<usize> columns << 2);
    for (; x + 16 <= end; x += 16, y += 16) v128.store(y, f32x4.mul(v128.load(x), factors));
    for (; x < end; x += 4, y += 4) store<f32>(y, load<f32>(x) * factor);
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
