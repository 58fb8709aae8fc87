// One f16 scale per block of 32, two blocks to a word: weight = d · (q − OFFSET).
fn scale(row: u32, block: u32) -> f32 {
  let at = row * (((step.groups + 7u) >> 3u) << 1u) + block;
  let pair = unpack2x16float(word(step.scales + (at >> 1u)));
  return select(pair.x, pair.y, (at & 1u) == 1u);
}

fn less(q: mat2x4<f32>) -> mat2x4<f32> {
  return mat2x4<f32>(q[0] - OFFSET, q[1] - OFFSET);
}

fn load8(row: u32, group: u32) -> mat2x4<f32> {
  return less(quants8(row, group)) * scale(row, group >> 2u);
}

struct Block { quants: Quants, scale: f32 }

fn load_block(row: u32, block: u32) -> Block {
  return Block(load_quants(row, block), scale(row, block));
}

// The weights of eight of a block's columns, i from 0 to 3.
fn eight(block: Block, i: u32) -> mat2x4<f32> {
  return less(eight_quants(block.quants, i)) * block.scale;
}

fn dot_columns(row: u32, block: u32, x: array<mat2x4<f32>, 4>) -> f32 {
  let b = load_block(row, block);
  var sum = fma8(less(eight_quants(b.quants, 0u)), x[0], vec4<f32>(0.0));
  sum = fma8(less(eight_quants(b.quants, 1u)), x[1], sum);
  sum = fma8(less(eight_quants(b.quants, 2u)), x[2], sum);
  sum = fma8(less(eight_quants(b.quants, 3u)), x[3], sum);
  return b.scale * total(sum);
}
