// y = W·x.
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn weight_row(tile: u32, i: u32) -> u32 {
  return step.weight_row + min(tile * 4u + i, step.rows - 1u);
}

fn store(token: u32, tile: u32, sum: vec4<f32>) {
  let row = tile * 4u;
  let at = token * step.out_rows + step.out_row + row;
  if (row < step.rows) { y[at] = sum.x; }
  if (row + 1u < step.rows) { y[at + 1u] = sum.y; }
  if (row + 2u < step.rows) { y[at + 2u] = sum.z; }
  if (row + 3u < step.rows) { y[at + 3u] = sum.w; }
}
