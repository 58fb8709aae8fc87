// BF16 rows: two weights per word, each the upper half of an f32; rows padded to eight columns.
fn widen(word: u32) -> vec2<f32> {
  return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 4u;
  return mat2x4<f32>(
    vec4<f32>(widen(weights[at]), widen(weights[at + 1u])),
    vec4<f32>(widen(weights[at + 2u]), widen(weights[at + 3u])),
  );
}
