// Forms whose blocks of 32 have a scale and a minimum: weight = scale · q + minimum.
fn with_min(q: mat2x4<f32>, dm: vec2<f32>) -> mat2x4<f32> {
  let d = vec4<f32>(dm.x);
  let m = vec4<f32>(dm.y);
  return mat2x4<f32>(fma(q[0], d, m), fma(q[1], d, m));
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  return with_min(quants8(row, group), scale_min(row, group >> 2u));
}

struct Block { quants: Quants, dm: vec2<f32> }

fn load_block(row: u32, block: u32) -> Block {
  return Block(load_quants(row, block), scale_min(row, block));
}

// The weights of eight of a block's columns, i from 0 to 3.
fn eight(block: Block, i: u32) -> mat2x4<f32> {
  return with_min(eight_quants(block.quants, i), block.dm);
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let b = load_block(row, block);
  var sum = fma8(eight(b, 0u), x[0], vec4<f32>(0.0));
  sum = fma8(eight(b, 1u), x[1], sum);
  sum = fma8(eight(b, 2u), x[2], sum);
  sum = fma8(eight(b, 3u), x[3], sum);
  return total(sum);
}
