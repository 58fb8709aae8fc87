// Causal attention of one query and up to four heads that share their keys and values, by the eight lanes of a subgroup, without
// holding the scores (Dao et al. 2022, "FlashAttention"). Keys are taken by 32: for the scores a lane has four keys, for the mix it has
// four features of each head, and what lanes need of each other goes through the subgroup. The mix so far lies in the output.
override LANES: u32;
override SPLIT: bool = false;

// Keys at a time: four for each lane.
const KEYS = 32u;

struct Step { heads: u32, kv_heads: u32, head_width: u32, scale: f32 }

@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> head_out: array<vec4<f32>>;

// sum + the products of four features of a key with those of the queries: columns of `queries` are features, components heads.
fn add4(queries: mat4x4<f32>, key: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  var s = fma(queries[0], vec4<f32>(key.x), sum);
  s = fma(queries[1], vec4<f32>(key.y), s);
  s = fma(queries[2], vec4<f32>(key.z), s);
  return fma(queries[3], vec4<f32>(key.w), s);
}

// Four features of the mix for each of the four heads.
struct Mix { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn add_value(weight: vec4<f32>, value: vec4<f32>, mix: Mix) -> Mix {
  return Mix(
    fma(vec4<f32>(weight.x), value, mix.a),
    fma(vec4<f32>(weight.y), value, mix.b),
    fma(vec4<f32>(weight.z), value, mix.c),
    fma(vec4<f32>(weight.w), value, mix.d),
  );
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let sharing = step.heads / step.kv_heads;
  let blocks = (sharing + 3u) / 4u;
  let kv_head = group.x / blocks;
  let first_head = kv_head * sharing + group.x % blocks * 4u;
  let heads = min(4u, (kv_head + 1u) * sharing - first_head);
  let token = group.y;
  let visible = pass_.start + token + 1u;
  let width = step.head_width / 4u;
  let stride = step.kv_heads * width;
  let kv_base = kv_head * width;
  // Lanes 0 to 3 load a head's query each; where there are fewer heads the last one is computed again and not stored.
  let q_base = (token * step.heads + first_head + min(lane & 3u, heads - 1u)) * width;
  var range = vec2<u32>(0u, visible);
  var row = width;
  var out_base = (token * step.heads + first_head) * width;
  if (SPLIT) {
    // A row for each part: the mix, then its largest score and its sum.
    range = part_range(group.z, visible);
    row = (width + 1u) * part_count();
    out_base = (token * step.heads + first_head) * row + group.z * (width + 1u);
  }

  var largest = vec4<f32>(-1e30);
  var sum = vec4<f32>(0.0);
  for (var first = range.x; first < range.y; first += KEYS) {
    let n0 = first + lane;
    let n1 = n0 + LANES;
    let n2 = n1 + LANES;
    let n3 = n2 + LANES;
    // Slots behind the visible ones may hold anything.
    let k0 = min(n0, visible - 1u) * stride + kv_base;
    let k1 = min(n1, visible - 1u) * stride + kv_base;
    let k2 = min(n2, visible - 1u) * stride + kv_base;
    let k3 = min(n3, visible - 1u) * stride + kv_base;
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    for (var i = 0u; i < width; i++) {
      let own = q[q_base + i];
      let queries = transpose(mat4x4<f32>(
        subgroupBroadcast(own, 0u),
        subgroupBroadcast(own, 1u),
        subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u),
      ));
      s0 = add4(queries, keys[k0 + i], s0);
      s1 = add4(queries, keys[k1 + i], s1);
      s2 = add4(queries, keys[k2 + i], s2);
      s3 = add4(queries, keys[k3 + i], s3);
    }
    let masked = vec4<f32>(-1e30);
    s0 = select(masked, s0 * step.scale, n0 < visible);
    s1 = select(masked, s1 * step.scale, n1 < visible);
    s2 = select(masked, s2 * step.scale, n2 < visible);
    s3 = select(masked, s3 * step.scale, n3 < visible);
    let new_largest = max(largest, subgroupMax(max(max(s0, s1), max(s2, s3))));
    let shrink = exp(largest - new_largest);
    largest = new_largest;
    s0 = exp(s0 - largest);
    s1 = exp(s1 - largest);
    s2 = exp(s2 - largest);
    s3 = exp(s3 - largest);
    sum = fma(sum, shrink, (s0 + s1) + (s2 + s3));
    let total = select(vec4<f32>(1.0), subgroupAdd(sum), first + KEYS >= visible && !SPLIT);
    for (var base = 0u; base < width; base += LANES) {
      let at = min(base + lane, width - 1u);
      let out = out_base + at;
      var mix = Mix(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
      if (first > range.x) {
        mix.a = head_out[out] * shrink.x;
        if (heads > 1u) { mix.b = head_out[out + row] * shrink.y; }
        if (heads > 2u) { mix.c = head_out[out + 2u * row] * shrink.z; }
        if (heads > 3u) { mix.d = head_out[out + 3u * row] * shrink.w; }
      }
      for (var i = 0u; i < min(LANES, range.y - range.x); i++) {
        let n = first + i;
        let last = visible - 1u;
        let v_base = kv_base + at;
        mix = add_value(subgroupShuffle(s0, i), values[min(n, last) * stride + v_base], mix);
        mix = add_value(subgroupShuffle(s1, i), values[min(n + LANES, last) * stride + v_base], mix);
        mix = add_value(subgroupShuffle(s2, i), values[min(n + 2u * LANES, last) * stride + v_base], mix);
        mix = add_value(subgroupShuffle(s3, i), values[min(n + 3u * LANES, last) * stride + v_base], mix);
      }
      if (base + lane < width) {
        head_out[out] = mix.a / total.x;
        if (heads > 1u) { head_out[out + row] = mix.b / total.y; }
        if (heads > 2u) { head_out[out + 2u * row] = mix.c / total.z; }
        if (heads > 3u) { head_out[out + 3u * row] = mix.d / total.w; }
      }
    }
  }
  if (SPLIT && range.x < range.y) {
    let total = subgroupAdd(sum);
    let at = out_base + width;
    if (lane == 0u) {
      head_out[at] = vec4<f32>(largest.x, total.x, 0.0, 0.0);
      if (heads > 1u) { head_out[at + row] = vec4<f32>(largest.y, total.y, 0.0, 0.0); }
      if (heads > 2u) { head_out[at + 2u * row] = vec4<f32>(largest.z, total.z, 0.0, 0.0); }
      if (heads > 3u) { head_out[at + 3u * row] = vec4<f32>(largest.w, total.w, 0.0, 0.0); }
    }
  }
}
