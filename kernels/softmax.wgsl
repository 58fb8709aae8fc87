// Softmax of one row per workgroup. Causal rows [H, T, S] weigh only keys up to the query's own position; the rest is 0.
override LANES: u32;

struct Step { columns: u32, causal: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  var columns = step.columns;
  var visible = step.columns;
  var row = group.x;
  if (step.causal == 1u) {
    columns = pass_.start + pass_.tokens;
    visible = pass_.start + group.x + 1u;
    row = group.y * pass_.tokens + group.x;
  }
  let base = row * columns;

  var largest = -1e30;
  for (var i = lane; i < visible; i += LANES) { largest = max(largest, x[base + i]); }
  partial[lane] = largest;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
  }
  workgroupBarrier();
  largest = partial[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var i = lane; i < visible; i += LANES) { sum += exp(x[base + i] - largest); }
  partial[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] += partial[lane + half]; }
  }
  workgroupBarrier();
  sum = partial[0];

  for (var i = lane; i < columns; i += LANES) {
    y[base + i] = select(0.0, exp(x[base + i] - largest) / sum, i < visible);
  }
}
