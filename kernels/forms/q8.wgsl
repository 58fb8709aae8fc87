// Eight bits per weight, signed: a word holds four neighbouring columns.
fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 2u;
  return mat2x4<f32>(
    vec4<f32>(unpack4xI8(weights[at])),
    vec4<f32>(unpack4xI8(weights[at + 1u])),
  );
}
