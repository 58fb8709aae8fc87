// Causal attention of one query and one head per workgroup, without holding the scores: keys are taken in tiles, and a
// running maximum and sum rescale what was mixed so far (Milakov & Gimelshein 2018; Dao et al. 2022, "FlashAttention").
override LANES: u32;
override SPLIT: bool = false;

// Numbers of a query and of a mix that lie in the workgroup's memory; what is more of a query is read where it is, and of a mix lies in
// the output.
const HELD = 256u;
const TILE = 64u;

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

@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> head_out: array<f32>;

var<workgroup> query: array<f32, HELD>;
var<workgroup> mixed: array<f32, HELD>;
var<workgroup> score: array<f32, TILE>;
var<workgroup> weight: array<f32, TILE>;

fn mixed_at(out_base: u32, i: u32) -> f32 {
  if (i < HELD) { return mixed[i]; }
  return head_out[out_base + i];
}

fn set_mixed(out_base: u32, i: u32, value: f32) {
  if (i < HELD) {
    mixed[i] = value;
  } else {
    head_out[out_base + i] = value;
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let token = group.y;
  let head_width = step.head_width;
  let value_width = select(step.value_width, head_width, step.value_width == 0u);
  let kv_head = head / (step.heads / step.kv_heads);
  let stride = step.kv_heads * head_width;
  let value_stride = step.kv_heads * value_width;
  let held = min(head_width, HELD);
  let q_base = (token * step.heads + head) * head_width;
  let visible = pass_.start + token + 1u;

  let gap = row_gap(token);
  var range = vec2<u32>(first_key(token, gap), visible);
  var out_base = (token * step.heads + head) * value_width;
  if (SPLIT) {
    // A row for each part: the mix, then its largest score and its sum.
    range = part_range(group.z, range);
    out_base = ((token * step.heads + head) * part_count() + group.z) * (value_width + 4u);
    if (range.x == range.y) { return; }
  }
  for (var i = lane; i < held; i += LANES) { query[i] = q[q_base + i] * step.scale; }
  for (var i = lane; i < value_width; i += LANES) { set_mixed(out_base, i, 0.0); }
  workgroupBarrier();
  var slope = 0.0;
  if (step.max_bias > 0.0) { slope = slope_of(head); }
  var largest = LEAST_SCORE;
  var sum = 0.0;
  if (SINKS) {
    largest = max(largest, sink_of(head));
    sum = 1.0;
  }
  for (var first = range.x; first < range.y;) {
    let count = min(TILE, run_end(first, gap, range.y) - first);
    for (var s = lane; s < count; s += LANES) {
      let k_base = (first + s) * stride + kv_head * head_width;
      var total = 0.0;
      for (var i = 0u; i < held; i++) { total = fma(query[i], keys[k_base + i], total); }
      for (var i = held; i < head_width; i++) {
        total = fma(q[q_base + i] * step.scale, keys[k_base + i], total);
      }
      if (step.cap > 0.0) { total = cap_score(total); }
      if (step.max_bias > 0.0) { total -= slope * f32(distance_to(first + s, token, gap)); }
      score[s] = total;
    }
    workgroupBarrier();
    // Every lane goes over all scores of the tile: cheaper than the barriers of a tree.
    var new_largest = largest;
    for (var s = 0u; s < count; s++) { new_largest = max(new_largest, score[s]); }
    for (var s = lane; s < count; s += LANES) { weight[s] = exp(score[s] - new_largest); }
    let shrink = exp(largest - new_largest);
    largest = new_largest;
    workgroupBarrier();
    var tile_sum = 0.0;
    for (var s = 0u; s < count; s++) { tile_sum += weight[s]; }
    sum = fma(sum, shrink, tile_sum);
    for (var i = lane; i < value_width; i += LANES) {
      var mix = mixed_at(out_base, i) * shrink;
      var at = first * value_stride + kv_head * value_width + i;
      for (var s = 0u; s < count; s++) {
        mix = fma(weight[s], values[at], mix);
        at += value_stride;
      }
      set_mixed(out_base, i, mix);
    }
    first = next_key(first + count, gap);
  }
  if (SPLIT) {
    for (var i = lane; i < value_width; i += LANES) {
      head_out[out_base + i] = mixed_at(out_base, i);
    }
    for (var i = lane; i < 4u; i += LANES) {
      head_out[out_base + value_width + i] = select(select(0.0, sum, i == 1u), largest, i == 0u);
    }
  } else {
    // Where no key is seen the mix is 0.
    let total = select(sum, 1.0, sum == 0.0);
    for (var i = lane; i < value_width; i += LANES) {
      head_out[out_base + i] = mixed_at(out_base, i) / total;
    }
  }
}
