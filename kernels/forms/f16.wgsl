// F16 rows: two weights per word, rows padded to eight columns.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 4u;
  return mat2x4<f32>(
    vec4<f32>(unpack2x16float(weights[at]), unpack2x16float(weights[at + 1u])),
    vec4<f32>(unpack2x16float(weights[at + 2u]), unpack2x16float(weights[at + 3u])),
  );
}
