// Attention scores [H, T, S]: scale · q·k, capped and biased, for the keys that a query may see, a mask elsewhere.
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
}

@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let cached = pass_.start + pass_.tokens;
  if (id.x >= cached) { return; }
  let key = id.x;
  let token = id.y;
  let head = id.z;
  let at = (head * pass_.tokens + token) * cached + key;
  let gap = row_gap(token);
  if (key > pass_.start + token || key < first_key(token, gap) || (key >= gap.x && key < gap.y)) {
    scores[at] = MASKED;
    return;
  }
  let kv_head = head / (step.heads / step.kv_heads);
  let q_base = (token * step.heads + head) * step.head_width;
  let k_base = (key * step.kv_heads + kv_head) * step.head_width;
  var sum = 0.0;
  for (var i = 0u; i < step.head_width; i++) {
    sum = fma(q[q_base + i], keys[k_base + i], sum);
  }
  var score = sum * step.scale;
  if (step.cap > 0.0) { score = cap_score(score); }
  if (step.max_bias > 0.0) { score -= slope_of(head) * f32(distance_to(key, token, gap)); }
  scores[at] = score;
}
