// R of T rows: those whose logits are asked for. Which ones, `taken_row` says: the last ones, or those of a list.
override LANES: u32;

struct Step { columns: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  y[id.y * step.columns + id.x] = x[taken_row(id.y) * step.columns + id.x];
}
