// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/** RMSNorm in front of a product: see kernels/norm/norm.ts. */

/** Σx² of a row, in 64-bit floats. */
function squares(x: usize, columns: i32): f64 {
  let a = f64x2.splat(0), b = a, c = a, d = a, i = 0;
  for (; i + 8 <= columns; i += 8, x += 32) {
    const low = v128.load(x), high = v128.load(x, 16);
    let two = f64x2.promote_low_f32x4(low);
    a = f64x2.add(a, f64x2.mul(two, two));
    two = f64x2.promote_low_f32x4(v128.shuffle<i64>(low, low, 1, 0));
    b = f64x2.add(b, f64x2.mul(two, two));
    two = f64x2.promote_low_f32x4(high);
    c = f64x2.add(c, f64x2.mul(two, two));
    two = f64x2.promote_low_f32x4(v128.shuffle<i64>(high, high, 1, 0));
    d = f64x2.add(d, f64x2.mul(two, two));
  }
  a = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  let sum = f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
  for (; i < columns; i++, x += 4) sum += <f64> load<f32>(x) * <f64> load<f32>(x);
  return sum;
}

/**
 * x [tokens, columns] / sqrt(mean(x²) + epsilon) · gain to `out`.
 *
 * @param taps address of the addresses of the taps norm, rms [tokens] and pre, of which each may be 0; 0: none
 */
export function normRows(
  x: usize,
  tokens: i32,
  columns: i32,
  epsilon: f32,
  gain: usize,
  out: usize,
  taps: usize,
): void {
  let norm: usize = taps ? <usize> load<u32>(taps) : 0;
  const rms: usize = taps ? <usize> load<u32>(taps, 4) : 0;
  let pre: usize = taps ? <usize> load<u32>(taps, 8) : 0;
  const bytes = <usize> columns << 2;
  for (let t = 0; t < tokens; t++, x += bytes, out += bytes) {
    const root = <f32> Math.sqrt(squares(x, columns) / <f64> columns + <f64> epsilon);
    if (rms) store<f32>(rms + (<usize> t << 2), root);
    const roots = f32x4.splat(root);
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) {
      const divided = f32x4.div(v128.load(x + i), roots);
      if (pre) v128.store(pre + i, divided);
      v128.store(out + i, f32x4.mul(divided, v128.load(gain + i)));
      if (norm) v128.store(norm + i, v128.load(out + i));
    }
    for (; i < bytes; i += 4) {
      const divided = load<f32>(x + i) / root;
      if (pre) store<f32>(pre + i, divided);
      store<f32>(out + i, divided * load<f32>(gain + i));
      if (norm) store<f32>(norm + i, load<f32>(out + i));
    }
    if (pre) pre += bytes;
    if (norm) norm += bytes;
  }
}
