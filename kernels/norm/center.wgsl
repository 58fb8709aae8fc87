// One row per workgroup, less its mean. Each position has `groups` rows.
override LANES: u32;

struct Step { columns: u32, groups: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> centered: array<f32>;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = (group.x * step.groups + group.y) * step.columns;
  var sum = 0.0;
  for (var i = lane; i < step.columns; i += LANES) { sum += x[base + i]; }
  partial[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] += partial[lane + half]; }
  }
  workgroupBarrier();
  let mean = partial[0] / f32(step.columns);
  for (var i = lane; i < step.columns; i += LANES) { centered[base + i] = x[base + i] - mean; }
}
