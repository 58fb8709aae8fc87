// RMSNorm of one row per workgroup: rms = sqrt(mean(x²) + ε), pre = x / rms, norm = pre · weight. Each position has `groups` rows.
override LANES: u32;
override TAP_RMS: bool = false;
override TAP_PRE: bool = false;

struct Step { columns: u32, groups: u32, epsilon: f32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> norm: array<f32>;
@group(0) @binding(5) var<storage, read_write> rms_out: array<f32>;
@group(0) @binding(6) var<storage, read_write> pre_out: array<f32>;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * step.groups + group.y;
  let base = row * step.columns;
  var sum = 0.0;
  for (var i = lane; i < step.columns; i += LANES) {
    sum = fma(x[base + i], x[base + i], sum);
  }
  partial[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] += partial[lane + half]; }
  }
  workgroupBarrier();
  let rms = sqrt(partial[0] / f32(step.columns) + step.epsilon);
  if (TAP_RMS && lane == 0u) { rms_out[row] = rms; }
  for (var i = lane; i < step.columns; i += LANES) {
    let pre = x[base + i] / rms;
    if (TAP_PRE) { pre_out[base + i] = pre; }
    norm[base + i] = pre * weight[i];
  }
}
