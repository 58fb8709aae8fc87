// Four bits per weight in the quants plane: a word holds eight neighbouring columns, the first four in
// the low nibbles of its bytes, the next four in the high ones.
fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  let word = weights[row * step.groups + group];
  return mat2x4<f32>(
    vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu)),
    vec4<f32>(unpack4xU8((word >> 4u) & 0x0f0f0f0fu)),
  );
}
