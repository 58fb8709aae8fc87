// Gated linear units: act(gate) · up.
override LANES: u32;

struct Step { columns: u32, activation: u32 }

@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> act: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  let at = id.y * step.columns + id.x;
  act[at] = gated(step.activation, gate[at], up[at]);
}
