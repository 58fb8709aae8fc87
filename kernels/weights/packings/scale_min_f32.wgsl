// Two words per block of 32, f32 scale and f32 minimum: weight = d · q − m.
fn scale_min(row: u32, block: u32) -> vec2<f32> {
  let at = step.scales + (row * (step.groups >> 2u) + block) * 2u;
  return vec2<f32>(bitcast<f32>(word(at)), -bitcast<f32>(word(at + 1u)));
}
