// Each head's own contribution to the residual stream: its columns of the output matrix times its mix of values.
override LANES: u32;

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.rows) { return; }
  let token = id.y;
  let head = id.z;
  let width = step.columns / step.heads;
  let first = head * width;
  var sum = 0.0;
  // Groups of eight columns may reach into the neighbouring heads.
  for (var g = first / 8u; g * 8u < first + width; g++) {
    let w = load8(step.weight_row + id.x, g);
    for (var i = 0u; i < 8u; i++) {
      let column = g * 8u + i;
      if (column >= first && column < first + width) {
        sum = fma(w[i / 4u][i % 4u], x[token * step.columns + column], sum);
      }
    }
  }
  y[(token * step.heads + head) * step.out_rows + step.out_row + id.x] = sum;
}
