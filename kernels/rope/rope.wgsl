// Rotary position embedding: pairs of `rope_width` of a head's features, from `rope_start` on, turned by the angle of their position.
// The cosines and sines come from a table [positions, rope_width / 2] of (cos, sin): WGSL's own are too coarse.
override LANES: u32;

struct Step { heads: u32, head_width: u32, rope_width: u32, half_style: u32, rope_start: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pairs = step.head_width / 2u;
  if (id.x >= step.heads * pairs) { return; }
  let token = id.y;
  let head = id.x / pairs;
  let pair = id.x % pairs;
  let base = (token * step.heads + head) * step.head_width;
  let turned = step.rope_width / 2u;
  // Number of a turned pair, and a larger one of those that lie in front of them or behind: these are neighbours, whatever the style.
  let within = pair - step.rope_start / 2u;
  var first = base + 2u * pair;
  var second = first + 1u;
  if (step.half_style == 1u && within < turned) {
    first = base + step.rope_start + within;
    second = first + turned;
  }
  let a = x[first];
  let b = x[second];
  if (within >= turned) {
    y[first] = a;
    y[second] = b;
    return;
  }
  let gap = row_gap(token);
  let turn = table[(pass_.start + token - (gap.y - gap.x)) * turned + within];
  y[first] = a * turn.x - b * turn.y;
  y[second] = a * turn.y + b * turn.x;
}
