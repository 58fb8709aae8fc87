@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn embedded_row(token: u32) -> u32 {
  let gap = row_gap(token);
  return pass_.start + token - (gap.y - gap.x);
}
