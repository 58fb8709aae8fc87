// What a position's experts have made of it, each times its weight, added up, the best expert first.
override LANES: u32;

struct Step { columns: u32, used: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  var sum = 0.0;
  for (var i = id.y * step.used; i < (id.y + 1u) * step.used; i++) {
    sum += weights[i] * x[i * step.columns + id.x];
  }
  y[id.y * step.columns + id.x] = sum;
}
