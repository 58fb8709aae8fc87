// Two words per 16 columns, f32 scale and f32 minimum: weight = d · q − m.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let at = step.scales + (row * (step.groups >> 1u) + (group >> 1u)) * 2u;
  let d = bitcast<f32>(weights[at]);
  let m = bitcast<f32>(weights[at + 1u]);
  let q = quants8(row, group);
  return mat2x4<f32>(q[0] * d - m, q[1] * d - m);
}
