// Each head's mix of the cached values: head_out[t, h, :] = Σ_s probs[h, t, s] · values[s, kv_head, :].
override LANES: u32;

struct Step { heads: u32, kv_heads: u32, head_width: u32, value_width: u32 }

@group(0) @binding(2) var<storage, read> probs: array<f32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> head_out: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let width = select(step.value_width, step.head_width, step.value_width == 0u);
  if (id.x >= width) { return; }
  let token = id.y;
  let head = id.z;
  let cached = pass_.start + pass_.tokens;
  let kv_head = head / (step.heads / step.kv_heads);
  let row = (head * pass_.tokens + token) * cached;
  let stride = step.kv_heads * width;
  let column = kv_head * width + id.x;
  var sum = 0.0;
  let gap = row_gap(token);
  for (var key = 0u; key <= pass_.start + token; key++) {
    if (key >= gap.x && key < gap.y) { continue; } // another branch's value may be anything
    sum = fma(probs[row + key], values[key * stride + column], sum);
  }
  head_out[(token * step.heads + head) * width + id.x] = sum;
}
