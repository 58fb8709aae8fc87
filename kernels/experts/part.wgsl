// An expert's rows in a part of the matrix: `first` is the row of the whole matrix at which the expert begins. The part has `out_rows` rows, from
// row `out_row` on.
fn part_has(first: u32) -> bool {
  return first < step.out_row + step.out_rows && first + step.rows > step.out_row;
}

// The row of the planes; rows that are not there repeat another one and are not stored.
fn part_row(first: u32, row: u32) -> u32 {
  let at = max(first + min(row, step.rows - 1u), step.out_row) - step.out_row;
  return step.weight_row + min(at, step.out_rows - 1u);
}

fn store1(pair: u32, first: u32, row: u32, sum: f32) {
  // What lies before the part is a large number here.
  if (row < step.rows && first + row - step.out_row < step.out_rows) { y[pair * step.rows + row] = sum; }
}

fn store(pair: u32, first: u32, tile: u32, sum: vec4<f32>) {
  store1(pair, first, tile * 4u, sum.x);
  store1(pair, first, tile * 4u + 1u, sum.y);
  store1(pair, first, tile * 4u + 2u, sum.z);
  store1(pair, first, tile * 4u + 3u, sum.w);
}
