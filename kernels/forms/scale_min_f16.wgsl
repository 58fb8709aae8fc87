// One word per block of 32, f16 scale and f16 minimum: weight = d · q + m.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let dm = unpack2x16float(weights[step.scales + row * (step.groups >> 2u) + (group >> 2u)]);
  let q = quants8(row, group);
  return mat2x4<f32>(q[0] * dm.x + dm.y, q[1] * dm.x + dm.y);
}
