// The mixes of all parts of the keys in one: each was scaled by its own largest score.
override LANES: u32;

struct Step { heads: u32, kv_heads: u32, head_width: u32, scale: f32 }

@group(0) @binding(2) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> head_out: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let width = step.head_width / 4u;
  let head = group.y * step.heads + group.x;
  let base = head * part_count() * (width + 1u);
  let visible = pass_.start + group.y + 1u;
  let count = (visible + part_keys() - 1u) / part_keys();
  for (var i = lane; i < width; i += LANES) {
    var largest = LEAST_SCORE;
    var sum = 0.0;
    var mix = vec4<f32>(0.0);
    for (var part = 0u; part < count; part++) {
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
