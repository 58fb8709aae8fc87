// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** What becomes of scaled scores: a cap and ALiBi's bias, see score.ts. */
import { tanh4 } from "../../math.as.ts";

const LN2: f64 = 0.6931471805599453;

/** 2^x of a number that is not far from 0: its fraction by the Taylor series of e^(x · ln 2). */
function powerOfTwo(x: f64): f64 {
  const n = nearest(x), r = (x - n) * LN2;
  let sum: f64 = 1, term: f64 = 1;
  for (let i: i32 = 1; i < 16; i++) {
    term *= r / <f64> i;
    sum += term;
  }
  return sum * reinterpret<f64>((<i64> n + 1023) << 52);
}

/** What a head's score loses for each position that its key lies before the query. */
export function slopeOf(maxBias: f32, heads: i32, head: i32): f32 {
  if (maxBias == 0) return 0;
  const power = 1 << (31 - clz(heads));
  const step = head < power ? <f64> (head + 1) : <f64> (head - power) + 0.5;
  return <f32> powerOfTwo(-<f64> maxBias * step / <f64> power);
}

/** Four scores, of keys that lie `distances` positions before the query. */
@inline
function finished(scores: v128, cap: v128, slope: v128, distances: v128): v128 {
  if (f32x4.extract_lane(cap, 0) > 0) scores = f32x4.mul(cap, tanh4(f32x4.div(scores, cap)));
  return f32x4.relaxed_nmadd(slope, distances, scores);
}

/** Finishes `count` scaled scores in place; the first key lies `distance` positions before the query. `cap` 0 and `slope` 0: none. */
export function finishScores(s: usize, count: i32, cap: f32, slope: f32, distance: i32): void {
  const caps = f32x4.splat(cap), slopes = f32x4.splat(slope), four = f32x4.splat(4);
  let distances = f32x4.splat(<f32> distance);
  distances = f32x4.sub(distances, f32x4(0, 1, 2, 3));
  let n: i32 = 0;
  for (; n + 4 <= count; n += 4, s += 16) {
    v128.store(s, finished(v128.load(s), caps, slopes, distances));
    distances = f32x4.sub(distances, four);
  }
  for (; n < count; n++, s += 4) {
    const one = finished(v128.load32_splat(s), caps, slopes, f32x4.splat(<f32> (distance - n)));
    store<f32>(s, f32x4.extract_lane(one, 0));
  }
}
