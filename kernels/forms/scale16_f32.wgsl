// One f32 scale per 16 columns: weight = d · q.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let d = bitcast<f32>(weights[step.scales + row * (step.groups >> 1u) + (group >> 1u)]);
  let q = quants8(row, group);
  return mat2x4<f32>(q[0] * d, q[1] * d);
}
