// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** RMSNorm in its three named steps and fused, and what LayerNorm does before: see norm.ts. One thread takes a row. */
import { constant, float, input, output, tokensOf, weight } from "../record.as.ts";
import { take } from "../work.as.ts";

/** Bytes of a piece of a row: 256 numbers. */
const PIECE: usize = 1024;

/** sqrt(mean(x²) + epsilon) of a row. Squares are added up in f32 within a piece, 16 sums of up to 16; pieces in f64. */
function rootMeanSquare(x: usize, columns: i32, epsilon: f32): f32 {
  const end = x + (<usize> columns << 2);
  const vectors = x + (<usize> (columns >> 2) << 4);
  let total = f64x2.splat(0);
  while (x < vectors) {
    const pieceEnd = min(x + PIECE, vectors);
    let a = f32x4.splat(0), b = f32x4.splat(0), c = f32x4.splat(0), d = f32x4.splat(0);
    for (; x + 64 <= pieceEnd; x += 64) {
      const x0 = v128.load(x), x1 = v128.load(x, 16), x2 = v128.load(x, 32), x3 = v128.load(x, 48);
      a = f32x4.relaxed_madd(x0, x0, a);
      b = f32x4.relaxed_madd(x1, x1, b);
      c = f32x4.relaxed_madd(x2, x2, c);
      d = f32x4.relaxed_madd(x3, x3, d);
    }
    for (; x < pieceEnd; x += 16) {
      const x0 = v128.load(x);
      a = f32x4.relaxed_madd(x0, x0, a);
    }
    a = f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
    total = f64x2.add(total, f64x2.promote_low_f32x4(a));
    total = f64x2.add(total, f64x2.promote_low_f32x4(v128.shuffle<f32>(a, a, 2, 3, 0, 1)));
  }
  let sum = f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1);
  for (; x < end; x += 4) sum += <f64> load<f32>(x) * <f64> load<f32>(x);
  return <f32> sqrt<f64>(sum / <f64> columns + <f64> epsilon);
}

/** y = x / root. */
@inline
function divide(x: usize, root: f32, y: usize, columns: i32): void {
  const end = x + (<usize> columns << 2);
  const roots = f32x4.splat(root);
  for (; x + 16 <= end; x += 16, y += 16) v128.store(y, f32x4.div(v128.load(x), roots));
  for (; x < end; x += 4, y += 4) store<f32>(y, load<f32>(x) / root);
}

/** The mean of a row. Sums are f32 within a piece, four of up to 64 numbers; pieces are added up in f64. */
function mean(x: usize, columns: i32): f32 {
  const end = x + (<usize> columns << 2);
  const vectors = x + (<usize> (columns >> 2) << 4);
  let total = f64x2.splat(0);
  while (x < vectors) {
    const pieceEnd = min(x + PIECE, vectors);
    let a = f32x4.splat(0);
    for (; x < pieceEnd; x += 16) a = f32x4.add(a, v128.load(x));
    total = f64x2.add(total, f64x2.promote_low_f32x4(a));
    total = f64x2.add(total, f64x2.promote_low_f32x4(v128.shuffle<f32>(a, a, 2, 3, 0, 1)));
  }
  let sum = f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1);
  for (; x < end; x += 4) sum += <f64> load<f32>(x);
  return <f32> (sum / <f64> columns);
}

/** Rows of a step: T positions, each with `groups` of them. */
@inline
function rowsOf(step: usize, pass: usize): i32 {
  return tokensOf(pass) * constant(step, 1);
}

/** x [T, groups, columns] → x − mean(x), of each row. */
export function center(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = rowsOf(step, pass);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    let x = input(step, 0) + at, y = output(step, 0) + at;
    const end = x + (<usize> columns << 2), middle = mean(x, columns);
    const all = f32x4.splat(middle);
    for (; x + 16 <= end; x += 16, y += 16) v128.store(y, f32x4.sub(v128.load(x), all));
    for (; x < end; x += 4, y += 4) store<f32>(y, load<f32>(x) - middle);
  }
}

/** x [T, groups, columns] → rms [T, groups]. */
export function rms(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = rowsOf(step, pass);
  const x = input(step, 0), out = output(step, 0);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const from = x + <usize> row * (<usize> columns << 2);
    store<f32>(out + (<usize> row << 2), rootMeanSquare(from, columns, float(step, 2)));
  }
}

/** x [T, groups, columns], rms [T, groups] → x / rms. */
export function normalize(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = rowsOf(step, pass);
  const x = input(step, 0), roots = input(step, 1), y = output(step, 0);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    divide(x + at, load<f32>(roots + (<usize> row << 2)), y + at, columns);
  }
}

/** x [T, groups, columns], weight [columns] → x · weight. */
export function scale_columns(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = rowsOf(step, pass);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    let x = input(step, 0) + at, w = weight(step, 0), y = output(step, 0) + at;
    const end = x + (<usize> columns << 2);
    for (; x + 16 <= end; x += 16, w += 16, y += 16) {
      v128.store(y, f32x4.mul(v128.load(x), v128.load(w)));
    }
    for (; x < end; x += 4, w += 4, y += 4) store<f32>(y, load<f32>(x) * load<f32>(w));
  }
}

/** x [T, groups, columns], weight [columns] → norm, with the taps rms [T, groups] and pre [T, groups, columns]. */
export function rms_norm(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const columns = constant(step, 0), rows = rowsOf(step, pass);
  const roots = output(step, 1), pres = output(step, 2);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const at = <usize> row * (<usize> columns << 2);
    let x = input(step, 0) + at, w = weight(step, 0), y = output(step, 0) + at;
    const root = rootMeanSquare(x, columns, float(step, 2));
    if (roots) store<f32>(roots + (<usize> row << 2), root);
    if (pres) divide(x, root, pres + at, columns);
    const end = x + (<usize> columns << 2);
    const all = f32x4.splat(root);
    for (; x + 16 <= end; x += 16, w += 16, y += 16) {
      v128.store(y, f32x4.mul(f32x4.div(v128.load(x), all), v128.load(w)));
    }
    for (; x < end; x += 4, w += 4, y += 4) store<f32>(y, load<f32>(x) / root * load<f32>(w));
  }
}
