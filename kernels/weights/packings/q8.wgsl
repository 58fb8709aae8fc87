// Eight bits per weight, signed: a word holds four neighbouring columns.
struct Quants { first: vec4<u32>, second: vec4<u32> }

fn load_quants(row: u32, block: u32) -> Quants {
  let at = (row * (step.groups >> 2u) + block) * 2u;
  return Quants(weights[at], weights[at + 1u]);
}

// Eight of a block's quants, i from 0 to 3.
fn eight_quants(quants: Quants, i: u32) -> mat2x4<f32> {
  let words = select(quants.second, quants.first, i < 2u);
  let at = (i & 1u) * 2u;
  return mat2x4<f32>(vec4<f32>(unpack4xI8(words[at])), vec4<f32>(unpack4xI8(words[at + 1u])));
}

fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 2u;
  return mat2x4<f32>(vec4<f32>(unpack4xI8(word(at))), vec4<f32>(unpack4xI8(word(at + 1u))));
}
