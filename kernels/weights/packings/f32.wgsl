// F32 rows: one word per weight, rows padded to eight columns.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let at = (row * step.groups + group) * 2u;
  return mat2x4<f32>(bitcast<vec4<f32>>(weights[at]), bitcast<vec4<f32>>(weights[at + 1u]));
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
