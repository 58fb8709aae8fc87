// Causal attention of one query and one head per workgroup, without holding the scores: keys are taken in tiles, and a
// running maximum and sum rescale what was mixed so far (Milakov & Gimelshein 2018; Dao et al. 2022, "FlashAttention").
override LANES: u32;
override SPLIT: bool = false;

const MAX_HEAD_WIDTH = 256u;
const TILE = 64u;

struct Step { heads: u32, kv_heads: u32, head_width: u32, scale: f32 }

@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> head_out: array<f32>;

var<workgroup> query: array<f32, MAX_HEAD_WIDTH>;
var<workgroup> mixed: array<f32, MAX_HEAD_WIDTH>;
var<workgroup> score: array<f32, TILE>;
var<workgroup> weight: array<f32, TILE>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let token = group.y;
  let head_width = step.head_width;
  let kv_head = head / (step.heads / step.kv_heads);
  let stride = step.kv_heads * head_width;
  let kv_base = kv_head * head_width;
  let q_base = (token * step.heads + head) * head_width;
  let visible = pass_.start + token + 1u;

  for (var i = lane; i < head_width; i += LANES) {
    query[i] = q[q_base + i] * step.scale;
    mixed[i] = 0.0;
  }
  workgroupBarrier();
  let gap = row_gap(token);
  var range = vec2<u32>(next_key(0u, gap), visible);
  var out_base = q_base;
  if (SPLIT) {
    // A row for each part: the mix, then its largest score and its sum.
    range = part_range(group.z, visible);
    out_base = ((token * step.heads + head) * part_count() + group.z) * (head_width + 4u);
  }
  var largest = LEAST_SCORE;
  var sum = 0.0;
  for (var first = range.x; first < range.y;) {
    let count = min(TILE, run_end(first, gap, range.y) - first);
    for (var s = lane; s < count; s += LANES) {
      let k_base = (first + s) * stride + kv_base;
      var total = 0.0;
      for (var i = 0u; i < head_width; i++) { total = fma(query[i], keys[k_base + i], total); }
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
    for (var i = lane; i < head_width; i += LANES) {
      var mix = mixed[i] * shrink;
      var at = first * stride + kv_base + i;
      for (var s = 0u; s < count; s++) {
        mix = fma(weight[s], values[at], mix);
        at += stride;
      }
      mixed[i] = mix;
    }
    first = next_key(first + count, gap);
  }
  if (SPLIT) {
    if (range.x == range.y) { return; }
    for (var i = lane; i < head_width; i += LANES) { head_out[out_base + i] = mixed[i]; }
    for (var i = lane; i < 4u; i += LANES) {
      head_out[out_base + head_width + i] = select(select(0.0, sum, i == 1u), largest, i == 0u);
    }
  } else {
    // Where no key is seen the mix is 0.
    let total = select(sum, 1.0, sum == 0.0);
    for (var i = lane; i < head_width; i += LANES) { head_out[out_base + i] = mixed[i] / total; }
  }
}
