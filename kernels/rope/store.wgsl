// Rows of this pass written to the KV cache, each to the slot of its position.
override LANES: u32;

struct Step { columns: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> cache: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  cache[(pass_.start + id.y) * step.columns + id.x] = x[id.y * step.columns + id.x];
}
