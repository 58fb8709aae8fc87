// BF16 rows: two weights per word, each the upper half of an f32; rows padded to eight columns.
fn widen(word: u32) -> vec2<f32> {
  return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let words = weights[row * step.groups + group];
  return mat2x4<f32>(
    vec4<f32>(widen(words.x), widen(words.y)),
    vec4<f32>(widen(words.z), widen(words.w)),
  );
}

struct Block { weights: mat2x4<f32> }

fn load_block(row: u32, group: u32) -> Block {
  return Block(load8(row, group));
}

fn eight(block: Block, i: u32) -> mat2x4<f32> {
  return block.weights;
}

fn dot_columns(row: u32, group: u32, x: mat2x4<f32>) -> f32 {
  return total(fma8(load8(row, group), x, vec4<f32>(0.0)));
}
