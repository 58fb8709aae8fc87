// F32 rows: one word per weight, rows padded to eight columns.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 8u;
  return mat2x4<f32>(
    bitcast<f32>(weights[at]), bitcast<f32>(weights[at + 1u]),
    bitcast<f32>(weights[at + 2u]), bitcast<f32>(weights[at + 3u]),
    bitcast<f32>(weights[at + 4u]), bitcast<f32>(weights[at + 5u]),
    bitcast<f32>(weights[at + 6u]), bitcast<f32>(weights[at + 7u]),
  );
}
