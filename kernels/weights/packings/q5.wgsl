// Five bits per weight: low nibbles as in q4.wgsl, and a plane with one word of fifth bits per block of
// 32, bit i for column i.
struct Quants { words: vec4<u32>, high: u32 }

fn load_quants(row: u32, block: u32) -> Quants {
  let at = row * (step.groups >> 2u) + block;
  return Quants(weights[at], word(step.highs + at));
}

// `high`: the fifth bits of these eight columns, and more above.
fn fives(word: u32, high: u32) -> mat2x4<f32> {
  let fifths = vec4<u32>(high << 4u);
  let low = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
  let top = (vec4<u32>(word) >> vec4<u32>(4u, 12u, 20u, 28u)) & vec4<u32>(15u);
  let first = low | ((fifths >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(16u));
  let second = top | ((fifths >> vec4<u32>(4u, 5u, 6u, 7u)) & vec4<u32>(16u));
  return mat2x4<f32>(vec4<f32>(vec4<i32>(first)), vec4<f32>(vec4<i32>(second)));
}

// Eight of a block's quants, i from 0 to 3.
fn eight_quants(quants: Quants, i: u32) -> mat2x4<f32> {
  return fives(quants.words[i], (quants.high >> (8u * i)) & 255u);
}

fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  let high = word(step.highs + row * (step.groups >> 2u) + (group >> 2u));
  return fives(word(row * step.groups + group), (high >> ((group & 3u) * 8u)) & 255u);
}
