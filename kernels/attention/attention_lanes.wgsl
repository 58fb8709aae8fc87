// Causal attention of one position (PAIR: of two) and up to four heads that share their keys and values, by the eight lanes of a subgroup, without
// holding the scores (Dao et al. 2022, "FlashAttention"). Keys are taken by 32: for the scores a lane has four keys, for the mix it has
// four features of each head, and what lanes need of each other goes through the subgroup. The mix so far lies in the output.
override LANES: u32;
override SPLIT: bool = false;
override PAIR: bool = false;

// Keys at a time: four for each lane.
const KEYS = 32u;

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

// Of a lane's four keys, for the four heads of one position: scores, then weights.
struct Scores { s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32> }

fn add_keys(queries: mat4x4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>, s: Scores) -> Scores {
  return Scores(
    add4(queries, k0, s.s0),
    add4(queries, k1, s.s1),
    add4(queries, k2, s.s2),
    add4(queries, k3, s.s3),
  );
}

// Softmax so far: the largest score, the lane's sum of weights, and what earlier weights shrink by.
struct Running { largest: vec4<f32>, sum: vec4<f32>, shrink: vec4<f32> }

// Which keys a position sees, how many positions key 0 would lie before it if there were all between, and the slopes of its heads.
struct Row { first: u32, end: u32, place: u32, slopes: vec4<f32> }

fn finish_score(product: vec4<f32>, key: u32, row: Row) -> vec4<f32> {
  var s = product * step.scale;
  if (step.cap > 0.0) { s = vec4<f32>(cap_score(s.x), cap_score(s.y), cap_score(s.z), cap_score(s.w)); }
  if (step.max_bias > 0.0) { s -= row.slopes * f32(row.place - key); }
  return select(vec4<f32>(MASKED), s, key >= row.first && key < row.end);
}

fn weigh(scores: Scores, key: u32, row: Row, running: ptr<function, Running>) -> Scores {
  let s0 = finish_score(scores.s0, key, row);
  let s1 = finish_score(scores.s1, key + LANES, row);
  let s2 = finish_score(scores.s2, key + 2u * LANES, row);
  let s3 = finish_score(scores.s3, key + 3u * LANES, row);
  let before = *running;
  let largest = max(before.largest, subgroupMax(max(max(s0, s1), max(s2, s3))));
  let w = Scores(exp(s0 - largest), exp(s1 - largest), exp(s2 - largest), exp(s3 - largest));
  let shrink = exp(before.largest - largest);
  *running = Running(largest, fma(before.sum, shrink, (w.s0 + w.s1) + (w.s2 + w.s3)), shrink);
  return w;
}

fn load_mix(at: u32, row: u32, heads: u32, shrink: vec4<f32>) -> Mix {
  var mix = Mix(head_out[at] * shrink.x, vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
  if (heads > 1u) { mix.b = head_out[at + row] * shrink.y; }
  if (heads > 2u) { mix.c = head_out[at + 2u * row] * shrink.z; }
  if (heads > 3u) { mix.d = head_out[at + 3u * row] * shrink.w; }
  return mix;
}

fn store_mix(at: u32, row: u32, heads: u32, mix: Mix) {
  head_out[at] = mix.a;
  if (heads > 1u) { head_out[at + row] = mix.b; }
  if (heads > 2u) { head_out[at + 2u * row] = mix.c; }
  if (heads > 3u) { head_out[at + 3u * row] = mix.d; }
}

// What the mix is divided by after the last keys; nowhere else by anything. Where no key is seen the mix is 0.
fn divisor(sum: vec4<f32>, ends: bool) -> vec4<f32> {
  return select(vec4<f32>(1.0), sum, (sum != vec4<f32>(0.0)) & vec4<bool>(ends));
}

fn divide(mix: Mix, total: vec4<f32>) -> Mix {
  return Mix(mix.a / total.x, mix.b / total.y, mix.c / total.z, mix.d / total.w);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let sharing = step.heads / step.kv_heads;
  let blocks = (sharing + 3u) / 4u;
  let kv_head = group.x / blocks;
  let first_head = kv_head * sharing + group.x % blocks * 4u;
  let heads = min(4u, (kv_head + 1u) * sharing - first_head);
  // The second position is the first one again where there is none.
  let token = select(group.y, 2u * group.y, PAIR);
  let other = select(token, min(token + 1u, pass_.tokens - 1u), PAIR);
  let visible = pass_.start + token + 1u;
  let last = pass_.start + other;
  let gap = row_gap(token);
  let width = step.head_width / 4u;
  let value_width = select(step.value_width / 4u, width, step.value_width == 0u);
  let stride = step.kv_heads * width;
  let value_stride = step.kv_heads * value_width;
  let kv_base = kv_head * width;
  // Lanes 0 to 3 load a head's query each, 4 to 7 those of the second position; where there are fewer heads the last one is computed
  // again and not stored.
  let own_token = select(token, other, lane >= 4u);
  let q_base = (own_token * step.heads + first_head + min(lane & 3u, heads - 1u)) * width;
  let own_first = first_key(token, gap);
  let other_first = first_key(other, gap);
  var range = vec2<u32>(own_first, last + 1u);
  var row = value_width;
  var out_base = (token * step.heads + first_head) * value_width;
  if (SPLIT) {
    // A row for each part: the mix, then its largest score and its sum.
    range = part_range(group.z, range);
    row = (value_width + 1u) * part_count();
    out_base = (token * step.heads + first_head) * row + group.z * (value_width + 1u);
  }

  let nothing = vec4<f32>(0.0);
  var slopes = nothing;
  if (step.max_bias > 0.0) {
    slopes = vec4<f32>(
      slope_of(first_head),
      slope_of(first_head + 1u),
      slope_of(first_head + 2u),
      slope_of(first_head + 3u),
    );
  }
  var running = Running(vec4<f32>(LEAST_SCORE), nothing, nothing);
  if (SINKS) {
    let sinks = vec4<f32>(
      sink_of(first_head),
      sink_of(first_head + min(1u, heads - 1u)),
      sink_of(first_head + min(2u, heads - 1u)),
      sink_of(first_head + min(3u, heads - 1u)),
    );
    running.largest = max(running.largest, sinks);
    // The lanes' sums are added up.
    running.sum = vec4<f32>(select(0.0, 1.0, lane == 0u));
  }
  var other_running = running;
  for (var first = range.x; first < range.y;) {
    let key = first + lane;
    // Slots behind the visible ones may hold anything.
    let end = run_end(first, gap, range.y);
    let final_key = end - 1u;
    let next = next_key(min(first + KEYS, end), gap);
    let k0 = min(key, final_key) * stride + kv_base;
    let k1 = min(key + LANES, final_key) * stride + kv_base;
    let k2 = min(key + 2u * LANES, final_key) * stride + kv_base;
    let k3 = min(key + 3u * LANES, final_key) * stride + kv_base;
    var scores = Scores(nothing, nothing, nothing, nothing);
    var other_scores = scores;
    for (var i = 0u; i < width; i++) {
      let own = q[q_base + i];
      let a = keys[k0 + i];
      let b = keys[k1 + i];
      let c = keys[k2 + i];
      let d = keys[k3 + i];
      let queries = transpose(mat4x4<f32>(
        subgroupBroadcast(own, 0u),
        subgroupBroadcast(own, 1u),
        subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u),
      ));
      scores = add_keys(queries, a, b, c, d, scores);
      if (PAIR) {
        let others = transpose(mat4x4<f32>(
          subgroupBroadcast(own, 4u),
          subgroupBroadcast(own, 5u),
          subgroupBroadcast(own, 6u),
          subgroupBroadcast(own, 7u),
        ));
        other_scores = add_keys(others, a, b, c, d, other_scores);
      }
    }
    let place = visible - 1u - select(0u, gap.y - gap.x, first < gap.x);
    let w = weigh(scores, key, Row(own_first, min(visible, end), place, slopes), &running);
    var other_w = w;
    if (PAIR) {
      let other_row = Row(other_first, end, last, slopes);
      other_w = weigh(other_scores, key, other_row, &other_running);
    }
    let ends = next >= range.y && !SPLIT;
    let total = divisor(subgroupAdd(running.sum), ends);
    let other_total = divisor(subgroupAdd(other_running.sum), ends);
    for (var base = 0u; base < value_width; base += LANES) {
      let column = min(base + lane, value_width - 1u);
      let at = out_base + column;
      let other_at = at + (other - token) * step.heads * value_width;
      var mix = Mix(nothing, nothing, nothing, nothing);
      var other_mix = mix;
      if (first > range.x) {
        mix = load_mix(at, row, heads, running.shrink);
        if (PAIR) { other_mix = load_mix(other_at, row, heads, other_running.shrink); }
      }
      for (var i = 0u; i < min(LANES, range.y - range.x); i++) {
        let n = first + i;
        let v_base = kv_head * value_width + column;
        let v0 = values[min(n, final_key) * value_stride + v_base];
        let v1 = values[min(n + LANES, final_key) * value_stride + v_base];
        let v2 = values[min(n + 2u * LANES, final_key) * value_stride + v_base];
        let v3 = values[min(n + 3u * LANES, final_key) * value_stride + v_base];
        mix = add_value(subgroupShuffle(w.s0, i), v0, mix);
        mix = add_value(subgroupShuffle(w.s1, i), v1, mix);
        mix = add_value(subgroupShuffle(w.s2, i), v2, mix);
        mix = add_value(subgroupShuffle(w.s3, i), v3, mix);
        if (PAIR) {
          other_mix = add_value(subgroupShuffle(other_w.s0, i), v0, other_mix);
          other_mix = add_value(subgroupShuffle(other_w.s1, i), v1, other_mix);
          other_mix = add_value(subgroupShuffle(other_w.s2, i), v2, other_mix);
          other_mix = add_value(subgroupShuffle(other_w.s3, i), v3, other_mix);
        }
      }
      if (base + lane < value_width) {
        store_mix(at, row, heads, divide(mix, total));
        if (other > token) { store_mix(other_at, row, heads, divide(other_mix, other_total)); }
      }
    }
    first = next;
  }
  if (SPLIT && range.x < range.y) {
    let total = subgroupAdd(running.sum);
    let largest = running.largest;
    let none = vec2<f32>(0.0);
    if (lane == 0u) {
      store_mix(out_base + value_width, row, heads, Mix(
        vec4<f32>(largest.x, total.x, none),
        vec4<f32>(largest.y, total.y, none),
        vec4<f32>(largest.z, total.z, none),
        vec4<f32>(largest.w, total.w, none),
      ));
    }
  }
}
