// Each row divided by its root mean square.
override LANES: u32;

struct Step { columns: u32, groups: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> rms: array<f32>;
@group(0) @binding(4) var<storage, read_write> pre: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  let row = id.y * step.groups + id.z;
  let at = row * step.columns + id.x;
  pre[at] = x[at] / rms[row];
}
