// q, k and v in one dispatch, q and k turned by RoPE, k and v written to the cache: qkv.wgsl and rope_store.wgsl in one. A tile is two pairs
// of rows that RoPE turns together.
override TAP_Q: bool = false;
override TAP_K: bool = false;
override TAP_V: bool = false;
override TAP_K_ROPE: bool = false;

@group(0) @binding(4) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> q_rope: array<f32>;
@group(0) @binding(6) var<storage, read_write> cache_k: array<f32>;
@group(0) @binding(7) var<storage, read_write> cache_v: array<f32>;
@group(0) @binding(8) var<storage, read_write> q: array<f32>;
@group(0) @binding(9) var<storage, read_write> k: array<f32>;
@group(0) @binding(10) var<storage, read_write> v: array<f32>;
@group(0) @binding(11) var<storage, read_write> k_rope: array<f32>;

// Number of a pair among those of its head that are turned; a larger one where it is none of them.
fn turned_pair(pair: u32) -> u32 { return pair % (step.head_width / 2u) - step.rope_start / 2u; }

// The two rows of a pair; those of v are neighbours and are not turned.
fn pair_rows(pair: u32) -> vec2<u32> {
  let pairs = step.head_width / 2u;
  let turned = step.rope_width / 2u;
  let base = pair / pairs * step.head_width;
  let within = turned_pair(pair);
  if (step.half_style == 1u && within < turned) {
    return base + step.rope_start + vec2<u32>(within, within + turned);
  }
  return base + 2u * (pair % pairs) + vec2<u32>(0u, 1u);
}

fn weight_row(tile: u32, i: u32) -> u32 {
  let pair = min(2u * tile + (i >> 1u), step.rows / 2u - 1u);
  let rows = pair_rows(pair);
  return step.weight_row + select(rows.x, rows.y, (i & 1u) == 1u);
}

// out_row holds the rows of q, out_rows those of k; the rest are v's.
fn store2(token: u32, pair: u32, sum: vec2<f32>) {
  if (pair >= step.rows / 2u) { return; }
  let rows = pair_rows(pair);
  let after_q = step.out_row;
  let after_k = after_q + step.out_rows;
  let position = pass_.start + token;
  let turned = step.rope_width / 2u;
  let within = turned_pair(pair);
  var turn = vec2<f32>(1.0, 0.0);
  if (within < turned && rows.x < after_k) { turn = table[position * turned + within]; }
  let result = vec2<f32>(sum.x * turn.x - sum.y * turn.y, sum.x * turn.y + sum.y * turn.x);
  if (rows.x < after_q) {
    let at = token * after_q + rows;
    q_rope[at.x] = result.x;
    q_rope[at.y] = result.y;
    if (TAP_Q) {
      q[at.x] = sum.x;
      q[at.y] = sum.y;
    }
  } else if (rows.x < after_k) {
    let slot = position * step.out_rows + rows - after_q;
    let at = token * step.out_rows + rows - after_q;
    cache_k[slot.x] = result.x;
    cache_k[slot.y] = result.y;
    if (TAP_K) {
      k[at.x] = sum.x;
      k[at.y] = sum.y;
    }
    if (TAP_K_ROPE) {
      k_rope[at.x] = result.x;
      k_rope[at.y] = result.y;
    }
  } else {
    let width = step.rows - after_k;
    let slot = position * width + rows - after_k;
    let at = token * width + rows - after_k;
    cache_v[slot.x] = sum.x;
    cache_v[slot.y] = sum.y;
    if (TAP_V) {
      v[at.x] = sum.x;
      v[at.y] = sum.y;
    }
  }
}

fn store(token: u32, tile: u32, sum: vec4<f32>) {
  store2(token, 2u * tile, sum.xy);
  store2(token, 2u * tile + 1u, sum.zw);
}
