// The mixes of all parts of the keys in one: each was scaled by its own largest score.
override LANES: u32;

struct Step {
  heads: u32,
  kv_heads: u32,
  head_width: u32,
  scale: f32,
  window: u32,
  chunk: u32,
  cap: f32,
  max_bias: f32,
  value_width: u32,
}

@group(0) @binding(2) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> head_out: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let width = select(step.value_width, step.head_width, step.value_width == 0u) / 4u;
  let head = group.y * step.heads + group.x;
  let base = head * part_count() * (width + 1u);
  let visible = pass_.start + group.y + 1u;
  let first = (first_key(group.y, vec2<u32>(0u)) - parts_begin()) / part_keys();
  let count = (visible - parts_begin() + part_keys() - 1u) / part_keys();
  for (var i = lane; i < width; i += LANES) {
    var largest = max(LEAST_SCORE, sink_of(group.x));
    var sum = f32(SINKS);
    var mix = vec4<f32>(0.0);
    for (var part = first; part < count; part++) {
      let row = base + part * (width + 1u);
      let own = parts[row + width];
      let new_largest = max(largest, own.x);
      let shrink = exp(largest - new_largest);
      let weight = exp(own.x - new_largest);
      sum = fma(sum, shrink, own.y * weight);
      mix = fma(mix, vec4<f32>(shrink), parts[row + i] * weight);
      largest = new_largest;
    }
    head_out[head * width + i] = mix / select(sum, 1.0, sum == 0.0);
  }
}
