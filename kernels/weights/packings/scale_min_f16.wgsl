// One word per block of 32, f16 scale and f16 minimum: weight = d · q + m.
fn scale_min(row: u32, block: u32) -> vec2<f32> {
  return unpack2x16float(word(step.scales + row * (step.groups >> 2u) + block));
}
