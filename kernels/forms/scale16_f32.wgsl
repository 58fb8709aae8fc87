// One f32 scale per 16 columns: weight = d · q.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let d = bitcast<f32>(word(step.scales + row * (step.groups >> 1u) + (group >> 1u)));
  let q = quants8(row, group);
  return mat2x4<f32>(q[0] * d, q[1] * d);
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let at = step.scales + row * (step.groups >> 1u) + 2u * block;
  let q = load_quants(row, block);
  let first = fma8(eight(q, 1u), x[1], fma8(eight(q, 0u), x[0], vec4<f32>(0.0)));
  let second = fma8(eight(q, 3u), x[3], fma8(eight(q, 2u), x[2], vec4<f32>(0.0)));
  return bitcast<f32>(word(at)) * total(first) + bitcast<f32>(word(at + 1u)) * total(second);
}
