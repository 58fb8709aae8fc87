// Each row times 1 + scale · ln(1 + ⌊(position + offset) / period⌋).
override LANES: u32;

struct Step { columns: u32, scale: f32, period: u32, offset: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  let at = id.y * step.columns + id.x;
  let gap = row_gap(id.y);
  let periods = (pass_.start + id.y - (gap.y - gap.x) + step.offset) / step.period;
  // WGSL's log is coarse near 1: in the first period nothing is scaled.
  y[at] = select(x[at] * fma(step.scale, log(1.0 + f32(periods)), 1.0), x[at], periods == 0u);
}
