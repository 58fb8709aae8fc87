// One f32 scale per 16 columns: weight = d · q.
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let d = bitcast<f32>(word(step.scales + row * (step.groups >> 1u) + (group >> 1u)));
  let q = quants8(row, group);
  return mat2x4<f32>(q[0] * d, q[1] * d);
}

struct Block { quants: Quants, scales: vec2<f32> }

fn load_block(row: u32, block: u32) -> Block {
  let at = step.scales + row * (step.groups >> 1u) + 2u * block;
  return Block(load_quants(row, block), vec2<f32>(bitcast<f32>(word(at)), bitcast<f32>(word(at + 1u))));
}

// The weights of eight of a block's columns, i from 0 to 3.
fn eight(block: Block, i: u32) -> mat2x4<f32> {
  return eight_quants(block.quants, i) * select(block.scales.y, block.scales.x, i < 2u);
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let b = load_block(row, block);
  let q = b.quants;
  let first = fma8(eight_quants(q, 1u), x[1], fma8(eight_quants(q, 0u), x[0], vec4<f32>(0.0)));
  let second = fma8(eight_quants(q, 3u), x[3], fma8(eight_quants(q, 2u), x[2], vec4<f32>(0.0)));
  return b.scales.x * total(first) + b.scales.y * total(second);
}
