// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** How likely the next id was, in 64-bit floats: see surprisal.ts. */
import { constant, input, output, rowsOf } from "../record.as.ts";
import { take } from "../work.as.ts";

/** Constants lie in memory, twice each: those that the compiler knows are put together anew at every use. */
const EXP: usize = memory.data<f64>([
  -700, -700, // what is farther below the largest adds nothing
  1.4426950408889634, 1.4426950408889634, // log₂e
  6755399441055744, 6755399441055744, // 1.5 · 2⁵²: a sum with it is rounded to a whole number
  -0.6931471805599453, -0.6931471805599453, // −ln 2
  2.505210838544172e-8, 2.505210838544172e-8, // 1 / 11!, and so on
  2.755731922398589e-7, 2.755731922398589e-7,
  2.7557319223985893e-6, 2.7557319223985893e-6,
  2.48015873015873e-5, 2.48015873015873e-5,
  1.984126984126984e-4, 1.984126984126984e-4,
  1.388888888888889e-3, 1.388888888888889e-3,
  8.333333333333333e-3, 8.333333333333333e-3,
  4.1666666666666664e-2, 4.1666666666666664e-2,
  0.16666666666666666, 0.16666666666666666,
  0.5, 0.5,
  1, 1,
], 16);

/**
 * e^x of two numbers from −700 to 0, to 1e-13 of it; NaN for NaN. e^x = 2ⁿ · e^r with n = round(x · log₂e), and e^r by the first twelve
 * terms of its series.
 */
@inline
function exp2(x: v128): v128 {
  const rounder = v128.load(EXP, 32);
  const shifted = f64x2.relaxed_madd(x, v128.load(EXP, 16), rounder);
  const r = f64x2.relaxed_madd(f64x2.sub(shifted, rounder), v128.load(EXP, 48), x);
  let p = f64x2.relaxed_madd(v128.load(EXP, 64), r, v128.load(EXP, 80));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 96));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 112));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 128));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 144));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 160));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 176));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 192));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 208));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 224));
  p = f64x2.relaxed_madd(p, r, v128.load(EXP, 224));
  return f64x2.mul(p, i64x2.add(i64x2.shl(shifted, 52), v128.load(EXP, 224)));
}

/** The largest of some numbers; NaN among them are passed over. */
function most(x: usize, end: usize): f32 {
  const vectors = x + ((end - x) & ~15);
  let a = f32x4.splat(-Infinity);
  for (; x < vectors; x += 16) a = f32x4.pmax(a, v128.load(x));
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1));
  a = f32x4.pmax(a, v128.shuffle<f32>(a, a, 1, 0, 3, 2));
  let largest = f32x4.extract_lane(a, 0);
  for (; x < end; x += 4) {
    const number = load<f32>(x);
    if (number > largest) largest = number;
  }
  return largest;
}

/** Σ e^(x − largest). */
function sumOf(x: usize, end: usize, largest: f64): f64 {
  const vectors = x + ((end - x) & ~15);
  const above = f64x2.splat(largest), least = v128.load(EXP);
  let a = f64x2.splat(0), b = a;
  for (; x < vectors; x += 16) {
    const four = v128.load(x);
    const low = f64x2.promote_low_f32x4(four);
    const high = f64x2.promote_low_f32x4(v128.shuffle<f32>(four, four, 2, 3, 0, 1));
    // Of pmax the first argument stays where it is NaN.
    a = f64x2.add(a, exp2(f64x2.pmax(f64x2.sub(low, above), least)));
    b = f64x2.add(b, exp2(f64x2.pmax(f64x2.sub(high, above), least)));
  }
  a = f64x2.add(a, b);
  let sum = f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
  for (; x < end; x += 4) {
    const distance = f64x2.splat(<f64> load<f32>(x) - largest);
    sum += f64x2.extract_lane(exp2(f64x2.pmax(distance, least)), 0);
  }
  return sum;
}

/** x [R, columns], next [R] → nats [R]. */
export function surprisal(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const rows = rowsOf(pass), columns = constant(step, 0);
  for (let row = take(step, 1); row < rows; row = take(step, 1)) {
    const x = input(step, 0) + <usize> row * (<usize> columns << 2);
    const next = load<u32>(input(step, 1) + (<usize> row << 2));
    let nats: f64 = NaN;
    if (next < <u32> columns) {
      const end = x + (<usize> columns << 2);
      const largest = <f64> most(x, end);
      nats = Math.log(sumOf(x, end, largest)) - (<f64> load<f32>(x + (<usize> next << 2)) - largest);
    }
    store<f32>(output(step, 0) + (<usize> row << 2), <f32> nats);
  }
}
