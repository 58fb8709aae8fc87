// q, k and v in one dispatch: their matrices lie one behind another in the planes.
@group(0) @binding(4) var<storage, read_write> q: array<f32>;
@group(0) @binding(5) var<storage, read_write> k: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;

fn weight_row(tile: u32, i: u32) -> u32 {
  return step.weight_row + min(tile * 4u + i, step.rows - 1u);
}

// out_row holds the rows of q, out_rows those of k; the rest are v's.
fn store1(token: u32, row: u32, sum: f32) {
  let after_q = step.out_row;
  let after_k = after_q + step.out_rows;
  if (row < after_q) {
    q[token * after_q + row] = sum;
  } else if (row < after_k) {
    k[token * step.out_rows + row - after_q] = sum;
  } else if (row < step.rows) {
    v[token * (step.rows - after_k) + row - after_k] = sum;
  }
}

fn store(token: u32, tile: u32, sum: vec4<f32>) {
  let row = tile * 4u;
  store1(token, row, sum.x);
  store1(token, row + 1u, sum.y);
  store1(token, row + 2u, sum.z);
  store1(token, row + 3u, sum.w);
}
