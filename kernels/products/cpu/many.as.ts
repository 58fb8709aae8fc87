// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: what belongs together stays on a line
/**
 * Products of one tile, made f32 [column][8 rows], with many positions: four at a time, whose sums of eight rows lie in eight vectors. Sums of
 * 32 columns are added to those of 256, and these to a running total: an error grows with the number of additions to a sum and with its size.
 */
import { spread0, spread1, spread2, spread3 } from "./x.as.ts";

/** Bytes of a piece of a tile, and of a group of pieces. */
const PIECE: usize = 32 * 32;
const GROUP: usize = 256 * 32;

/** Adds to a vector in memory. */
@inline
function addTo(at: usize, sum: v128): void {
  v128.store(at, f32x4.add(v128.load(at), sum));
}

/** Four positions; 32 bytes of sums each to `out`. */
export function four(tile: usize, x0: usize, x1: usize, x2: usize, x3: usize, columns: i32, out: usize): void {
  const zero = i32x4.splat(0), end = tile + (<usize> columns << 5);
  for (let i: usize = 0; i < 128; i += 16) v128.store(out + i, zero);
  while (tile < end) {
    const groupEnd = min(end, tile + GROUP);
    let sum0a = zero, sum0b = zero, sum1a = zero, sum1b = zero;
    let sum2a = zero, sum2b = zero, sum3a = zero, sum3b = zero;
    while (tile < groupEnd) {
      let y0a = zero, y0b = zero, y1a = zero, y1b = zero;
      let y2a = zero, y2b = zero, y3a = zero, y3b = zero;
      let a: v128, b: v128, s: v128;
      const last = min(groupEnd, tile + PIECE);
      for (; tile + 128 <= last; tile += 128) {
        const v0 = v128.load(x0), v1 = v128.load(x1), v2 = v128.load(x2), v3 = v128.load(x3);
        a = v128.load(tile); b = v128.load(tile, 16);
        s = spread0(v0); y0a = f32x4.relaxed_madd(s, a, y0a); y0b = f32x4.relaxed_madd(s, b, y0b);
        s = spread0(v1); y1a = f32x4.relaxed_madd(s, a, y1a); y1b = f32x4.relaxed_madd(s, b, y1b);
        s = spread0(v2); y2a = f32x4.relaxed_madd(s, a, y2a); y2b = f32x4.relaxed_madd(s, b, y2b);
        s = spread0(v3); y3a = f32x4.relaxed_madd(s, a, y3a); y3b = f32x4.relaxed_madd(s, b, y3b);
        a = v128.load(tile, 32); b = v128.load(tile, 48);
        s = spread1(v0); y0a = f32x4.relaxed_madd(s, a, y0a); y0b = f32x4.relaxed_madd(s, b, y0b);
        s = spread1(v1); y1a = f32x4.relaxed_madd(s, a, y1a); y1b = f32x4.relaxed_madd(s, b, y1b);
        s = spread1(v2); y2a = f32x4.relaxed_madd(s, a, y2a); y2b = f32x4.relaxed_madd(s, b, y2b);
        s = spread1(v3); y3a = f32x4.relaxed_madd(s, a, y3a); y3b = f32x4.relaxed_madd(s, b, y3b);
        a = v128.load(tile, 64); b = v128.load(tile, 80);
        s = spread2(v0); y0a = f32x4.relaxed_madd(s, a, y0a); y0b = f32x4.relaxed_madd(s, b, y0b);
        s = spread2(v1); y1a = f32x4.relaxed_madd(s, a, y1a); y1b = f32x4.relaxed_madd(s, b, y1b);
        s = spread2(v2); y2a = f32x4.relaxed_madd(s, a, y2a); y2b = f32x4.relaxed_madd(s, b, y2b);
        s = spread2(v3); y3a = f32x4.relaxed_madd(s, a, y3a); y3b = f32x4.relaxed_madd(s, b, y3b);
        a = v128.load(tile, 96); b = v128.load(tile, 112);
        s = spread3(v0); y0a = f32x4.relaxed_madd(s, a, y0a); y0b = f32x4.relaxed_madd(s, b, y0b);
        s = spread3(v1); y1a = f32x4.relaxed_madd(s, a, y1a); y1b = f32x4.relaxed_madd(s, b, y1b);
        s = spread3(v2); y2a = f32x4.relaxed_madd(s, a, y2a); y2b = f32x4.relaxed_madd(s, b, y2b);
        s = spread3(v3); y3a = f32x4.relaxed_madd(s, a, y3a); y3b = f32x4.relaxed_madd(s, b, y3b);
        x0 += 16; x1 += 16; x2 += 16; x3 += 16;
      }
      for (; tile < last; tile += 32) {
        a = v128.load(tile); b = v128.load(tile, 16);
        s = v128.load32_splat(x0); y0a = f32x4.relaxed_madd(s, a, y0a); y0b = f32x4.relaxed_madd(s, b, y0b);
        s = v128.load32_splat(x1); y1a = f32x4.relaxed_madd(s, a, y1a); y1b = f32x4.relaxed_madd(s, b, y1b);
        s = v128.load32_splat(x2); y2a = f32x4.relaxed_madd(s, a, y2a); y2b = f32x4.relaxed_madd(s, b, y2b);
        s = v128.load32_splat(x3); y3a = f32x4.relaxed_madd(s, a, y3a); y3b = f32x4.relaxed_madd(s, b, y3b);
        x0 += 4; x1 += 4; x2 += 4; x3 += 4;
      }
      sum0a = f32x4.add(sum0a, y0a); sum0b = f32x4.add(sum0b, y0b);
      sum1a = f32x4.add(sum1a, y1a); sum1b = f32x4.add(sum1b, y1b);
      sum2a = f32x4.add(sum2a, y2a); sum2b = f32x4.add(sum2b, y2b);
      sum3a = f32x4.add(sum3a, y3a); sum3b = f32x4.add(sum3b, y3b);
    }
    addTo(out, sum0a); addTo(out + 16, sum0b);
    addTo(out + 32, sum1a); addTo(out + 48, sum1b);
    addTo(out + 64, sum2a); addTo(out + 80, sum2b);
    addTo(out + 96, sum3a); addTo(out + 112, sum3b);
  }
}

/** One position, in the same order. */
function single(tile: usize, x: usize, columns: i32, out: usize): void {
  const zero = i32x4.splat(0), end = tile + (<usize> columns << 5);
  v128.store(out, zero);
  v128.store(out, zero, 16);
  while (tile < end) {
    const groupEnd = min(end, tile + GROUP);
    let sumA = zero, sumB = zero;
    while (tile < groupEnd) {
      let a = zero, b = zero;
      for (const last = min(groupEnd, tile + PIECE); tile < last; tile += 32, x += 4) {
        const s = v128.load32_splat(x);
        a = f32x4.relaxed_madd(s, v128.load(tile), a);
        b = f32x4.relaxed_madd(s, v128.load(tile, 16), b);
      }
      sumA = f32x4.add(sumA, a);
      sumB = f32x4.add(sumB, b);
    }
    addTo(out, sumA);
    addTo(out + 16, sumB);
  }
}

/**
 * Products of a tile with `positions` rows of x.
 *
 * @param tile f32 [columns][8 rows]
 * @param x the first row, at any address; the next is `stride` bytes further
 * @param out sums, [positions][8 rows]
 */
export function many(
  tile: usize,
  x: usize,
  stride: usize,
  columns: i32,
  positions: i32,
  out: usize,
): void {
  if (positions < 4) {
    for (; positions > 0; positions--, x += stride, out += 32) single(tile, x, columns, out);
    return;
  }
  for (; positions >= 4; positions -= 4, x += 4 * stride, out += 128) {
    four(tile, x, x + stride, x + 2 * stride, x + 3 * stride, columns, out);
  }
  if (!positions) return;
  // The last four: some are computed again, which costs less than each by itself.
  const again = <usize> (4 - positions);
  x -= again * stride;
  four(tile, x, x + stride, x + 2 * stride, x + 3 * stride, columns, out - (again << 5));
}
