// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/**
 * Operations that no model needs: they find out what the processor can do, for `task bench`. What the words of their records mean is in
 * kernels/probes/records.ts.
 */
import { take } from "../work.as.ts";

/** A number of a vector in all four lanes: a shuffle, which costs less than a load. */

function lane0(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 0, 0, 0, 0);
}

function lane1(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 1, 1, 1, 1);
}

function lane2(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 2, 2, 2, 2);
}

function lane3(v: v128): v128 {
  return v128.shuffle<i32>(v, v, 3, 3, 3, 3);
}

/**
 * Adds to a tile of y, 4 rows × 8 positions, which stays in registers meanwhile. For each column there are 8 numbers of x and 4 of w, side
 * by side. Larger tiles save loads, but need more registers than there are, and are slower.
 */
function tile(x: usize, w: usize, y: usize, columns: i32): void {
  let a0 = v128.load(y), b0 = v128.load(y, 16);
  let a1 = v128.load(y, 32), b1 = v128.load(y, 48);
  let a2 = v128.load(y, 64), b2 = v128.load(y, 80);
  let a3 = v128.load(y, 96), b3 = v128.load(y, 112);
  for (let k = 0; k < columns; k++) {
    const a = v128.load(x), b = v128.load(x, 16);
    const rows = v128.load(w);
    const r0 = lane0(rows);
    a0 = f32x4.relaxed_madd(a, r0, a0);
    b0 = f32x4.relaxed_madd(b, r0, b0);
    const r1 = lane1(rows);
    a1 = f32x4.relaxed_madd(a, r1, a1);
    b1 = f32x4.relaxed_madd(b, r1, b1);
    const r2 = lane2(rows);
    a2 = f32x4.relaxed_madd(a, r2, a2);
    b2 = f32x4.relaxed_madd(b, r2, b2);
    const r3 = lane3(rows);
    a3 = f32x4.relaxed_madd(a, r3, a3);
    b3 = f32x4.relaxed_madd(b, r3, b3);
    x += 32;
    w += 16;
  }
  v128.store(y, a0);
  v128.store(y, b0, 16);
  v128.store(y, a1, 32);
  v128.store(y, b1, 48);
  v128.store(y, a2, 64);
  v128.store(y, b2, 80);
  v128.store(y, a3, 96);
  v128.store(y, b3, 112);
}

/**
 * Operation 30: f32 products y += x · Wᵀ; a thread takes four rows at a time. These rows stay in the first cache while they are
 * multiplied with x, eight positions at a time, which comes out of the second.
 */
export function probe_product(step: usize, _pass: usize, _thread: i32, _threads: i32): void {
  const x = <usize> load<u32>(step, 8);
  const w = <usize> load<u32>(step, 12);
  const y = <usize> load<u32>(step, 48);
  const rows = load<i32>(step, 96);
  const columns = load<i32>(step, 100);
  const blocks = load<i32>(step, 104);
  for (let row = take(step, 4); row < rows; row = take(step, 4)) {
    const own = w + (<usize> row * <usize> columns << 2);
    for (let block = 0; block < blocks; block++) {
      const in_ = x + (<usize> block * <usize> columns << 5);
      const out = y + (<usize> block * <usize> rows + <usize> row << 5);
      tile(in_, own, out, columns);
    }
  }
}

/** Reads 128 bytes: two cache lines. */

function both(at: usize): v128 {
  const a = v128.xor(v128.load(at), v128.load(at, 16));
  const b = v128.xor(v128.load(at, 32), v128.load(at, 48));
  const c = v128.xor(v128.load(at, 64), v128.load(at, 80));
  const d = v128.xor(v128.load(at, 96), v128.load(at, 112));
  return v128.xor(v128.xor(a, b), v128.xor(c, d));
}

/** Operation 31: reads memory from front to back, in pieces; leaves the exclusive or of each piece's vectors. */
export function probe_read(step: usize, _pass: usize, _thread: i32, _threads: i32): void {
  const data = <usize> load<u32>(step, 8);
  const sums = <usize> load<u32>(step, 48);
  const pieces = load<i32>(step, 96);
  const bytes = <usize> load<u32>(step, 100);
  const streams = load<i32>(step, 104);
  for (let piece = take(step, 1); piece < pieces; piece = take(step, 1)) {
    const from = data + <usize> piece * bytes;
    let sum = i32x4.splat(0);
    if (streams == 1) {
      for (let at = from; at < from + bytes; at += 128) sum = v128.xor(sum, both(at));
    } else {
      const part = bytes >> 2;
      for (let at = from; at < from + part; at += 128) {
        const a = v128.xor(both(at), both(at + part));
        const b = v128.xor(both(at + 2 * part), both(at + 3 * part));
        sum = v128.xor(sum, v128.xor(a, b));
      }
    }
    v128.store(sums + (<usize> piece << 4), sum);
  }
}
