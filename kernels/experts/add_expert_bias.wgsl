// To what an expert made of a position, that expert's bias is added.
override LANES: u32;

struct Step { rows: u32, used: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.rows) { return; }
  let at = id.y * step.rows + id.x;
  y[at] = x[at] + bias[ids[id.y] * step.rows + id.x];
}
