// Four bits per weight in the quants plane: a word holds eight neighbouring columns, the first four in
// the low nibbles of its bytes, the next four in the high ones.
struct Quants { words: vec4<u32> }

fn load_quants(row: u32, block: u32) -> Quants {
  return Quants(weights[row * (step.groups >> 2u) + block]);
}

fn nibbles(word: u32) -> mat2x4<f32> {
  let low = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
  let high = (vec4<u32>(word) >> vec4<u32>(4u, 12u, 20u, 28u)) & vec4<u32>(15u);
  return mat2x4<f32>(vec4<f32>(vec4<i32>(low)), vec4<f32>(vec4<i32>(high)));
}

// Eight of a block's quants, i from 0 to 3.
fn eight_quants(quants: Quants, i: u32) -> mat2x4<f32> {
  return nibbles(quants.words[i]);
}

fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  return nibbles(word(row * step.groups + group));
}
