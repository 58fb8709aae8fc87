// Two words per 16 columns, f32 scale and f32 minimum: weight = d · q − m.
fn scale_min(row: u32, half: u32) -> vec2<f32> {
  let at = step.scales + (row * (step.groups >> 1u) + half) * 2u;
  return vec2<f32>(bitcast<f32>(word(at)), -bitcast<f32>(word(at + 1u)));
}

fn with_min(q: mat2x4<f32>, dm: vec2<f32>) -> mat2x4<f32> {
  let d = vec4<f32>(dm.x);
  let m = vec4<f32>(dm.y);
  return mat2x4<f32>(fma(q[0], d, m), fma(q[1], d, m));
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  return with_min(quants8(row, group), scale_min(row, group >> 1u));
}

struct Block { quants: Quants, first: vec2<f32>, second: vec2<f32> }

fn load_block(row: u32, block: u32) -> Block {
  return Block(load_quants(row, block), scale_min(row, 2u * block), scale_min(row, 2u * block + 1u));
}

// The weights of eight of a block's columns, i from 0 to 3.
fn eight(block: Block, i: u32) -> mat2x4<f32> {
  return with_min(eight_quants(block.quants, i), select(block.second, block.first, i < 2u));
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let b = load_block(row, block);
  var sum = fma8(eight(b, 0u), x[0], vec4<f32>(0.0));
  sum = fma8(eight(b, 1u), x[1], sum);
  sum = fma8(eight(b, 2u), x[2], sum);
  sum = fma8(eight(b, 3u), x[3], sum);
  return total(sum);
}
