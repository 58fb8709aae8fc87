// Forms whose blocks of 32 have a scale and a minimum: weight = scale · q + minimum.
fn with_min(q: mat2x4<f32>, dm: vec2<f32>) -> mat2x4<f32> {
  let d = vec4<f32>(dm.x);
  let m = vec4<f32>(dm.y);
  return mat2x4<f32>(fma(q[0], d, m), fma(q[1], d, m));
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  return with_min(quants8(row, group), scale_min(row, group >> 2u));
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let q = load_quants(row, block);
  let dm = scale_min(row, block);
  var sum = fma8(with_min(eight(q, 0u), dm), x[0], vec4<f32>(0.0));
  sum = fma8(with_min(eight(q, 1u), dm), x[1], sum);
  sum = fma8(with_min(eight(q, 2u), dm), x[2], sum);
  sum = fma8(with_min(eight(q, 3u), dm), x[3], sum);
  return total(sum);
}
