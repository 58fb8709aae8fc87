// RoPE of q and k, and k and v written to the cache: rope.wgsl twice and store.wgsl twice in one dispatch.
override LANES: u32;
override TAP_K_ROPE: bool = false;

struct Step {
  heads: u32,
  kv_heads: u32,
  head_width: u32,
  rope_width: u32,
  half_style: u32,
  rope_start: u32,
}

@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> q_rope: array<f32>;
@group(0) @binding(7) var<storage, read_write> cache_k: array<f32>;
@group(0) @binding(8) var<storage, read_write> cache_v: array<f32>;
@group(0) @binding(9) var<storage, read_write> k_rope: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pairs = step.head_width / 2u;
  let turned = step.rope_width / 2u;
  let token = id.y;
  let head = id.x / pairs;
  let pair = id.x % pairs;
  // Less than `turned` of pairs that are turned, and of no other.
  let within = pair - step.rope_start / 2u;
  var first = 2u * pair;
  var second = first + 1u;
  if (step.half_style == 1u && within < turned) {
    first = step.rope_start + within;
    second = first + turned;
  }
  var turn = vec2<f32>(1.0, 0.0);
  let gap = row_gap(token);
  if (within < turned) { turn = table[(pass_.start + token - (gap.y - gap.x)) * turned + within]; }
  if (head < step.heads) {
    let at = (token * step.heads + head) * step.head_width;
    let a = q[at + first];
    let b = q[at + second];
    q_rope[at + first] = a * turn.x - b * turn.y;
    q_rope[at + second] = a * turn.y + b * turn.x;
  } else if (head < step.heads + step.kv_heads) {
    let at = (token * step.kv_heads + head - step.heads) * step.head_width;
    let slot = ((pass_.start + token) * step.kv_heads + head - step.heads) * step.head_width;
    let a = k[at + first];
    let b = k[at + second];
    let c = a * turn.x - b * turn.y;
    let d = a * turn.y + b * turn.x;
    cache_k[slot + first] = c;
    cache_k[slot + second] = d;
    if (TAP_K_ROPE) {
      k_rope[at + first] = c;
      k_rope[at + second] = d;
    }
    cache_v[slot + first] = v[at + first];
    cache_v[slot + second] = v[at + second];
  }
}
