// One f16 scale per block of 32, two blocks to a word: weight = d · (q − OFFSET).
fn scale(row: u32, block: u32) -> f32 {
  let at = row * (((step.groups + 7u) >> 3u) << 1u) + block;
  let pair = unpack2x16float(word(step.scales + (at >> 1u)));
  return select(pair.x, pair.y, (at & 1u) == 1u);
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let d = scale(row, group >> 2u);
  let q = quants8(row, group);
  return mat2x4<f32>((q[0] - OFFSET) * d, (q[1] - OFFSET) * d);
}

fn less(q: mat2x4<f32>) -> mat2x4<f32> {
  return mat2x4<f32>(q[0] - OFFSET, q[1] - OFFSET);
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let q = load_quants(row, block);
  var sum = fma8(less(eight(q, 0u)), x[0], vec4<f32>(0.0));
  sum = fma8(less(eight(q, 1u)), x[1], sum);
  sum = fma8(less(eight(q, 2u)), x[2], sum);
  sum = fma8(less(eight(q, 3u)), x[3], sum);
  return scale(row, block) * total(sum);
}
