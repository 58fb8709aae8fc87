// Rows of the embedding matrix. Which one a position gets, `embedded_row` says: its token's, or its own. Where the matrix is split, each part
// writes the rows that it has.
override LANES: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let group = id.x;
  let token = id.y;
  let row = embedded_row(token);
  if (group >= step.groups || row < step.out_row || row - step.out_row >= step.rows) { return; }
  let values = load8(step.weight_row + row - step.out_row, group);
  let base = token * step.columns;
  for (var i = 0u; i < 8u; i++) {
    let column = group * 8u + i;
    if (column < step.columns) { y[base + column] = values[i / 4u][i % 4u]; }
  }
}
