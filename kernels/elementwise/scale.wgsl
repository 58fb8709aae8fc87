// Each number times a factor.
override LANES: u32;

struct Step { columns: u32, factor: f32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  let at = id.y * step.columns + id.x;
  y[at] = x[at] * step.factor;
}
