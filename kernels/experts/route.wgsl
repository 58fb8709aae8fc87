// The experts of a position, and their weights: see route.ts. A workgroup has one position; an expert's place is the number of experts that
// are better.
override LANES: u32;

// Must equal the numbers in route.ts.
const MOST_EXPERTS = 1024u;
const MOST_USED = 64u;
const LARGEST = 0x1.fffffep+127f;

struct Step {
  experts: u32,
  used: u32,
  gating: u32, // 0 softmax, 1 sigmoid, 2 softmax over the chosen
  normalize: u32,
  groups: u32,
  groups_used: u32,
  scale: f32,
}

@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;

var<workgroup> gates: array<f32, MOST_EXPERTS>;
var<workgroup> keys: array<u32, MOST_EXPERTS>;
var<workgroup> group_keys: array<u32, MOST_USED>;
var<workgroup> chosen: array<u32, MOST_USED>;
var<workgroup> own: array<f32, MOST_USED>;
var<workgroup> partial: array<f32, LANES>;

// The order of floats as that of whole numbers: compilers may assume of floats that NaN does not occur. It comes last.
fn key_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
  if (bits == 0x80000000u) { return 0x80000000u; } // −0 is 0
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}

fn all_largest(lane: u32, largest: f32) -> f32 {
  partial[lane] = largest;
  workgroupBarrier();
  var result = partial[0];
  for (var i = 1u; i < LANES; i++) { result = max(result, partial[i]); }
  workgroupBarrier();
  return result;
}

fn all_sum(lane: u32, sum: f32) -> f32 {
  partial[lane] = sum;
  workgroupBarrier();
  var result = partial[0];
  for (var i = 1u; i < LANES; i++) { result += partial[i]; }
  workgroupBarrier();
  return result;
}

// How good a group is: its two best gates together.
fn group_key(group: u32) -> u32 {
  let width = step.experts / step.groups;
  var best = -LARGEST;
  var second = -LARGEST;
  for (var i = group * width; i < (group + 1u) * width; i++) {
    let gate = gates[i] + bias_of(i);
    second = max(second, min(best, gate));
    best = max(best, gate);
  }
  return key_of(select(best + second, best, width == 1u));
}

fn group_allowed(group: u32) -> bool {
  let key = group_keys[group];
  var better = 0u;
  for (var i = 0u; i < step.groups; i++) {
    better += select(0u, 1u, group_keys[i] > key || (group_keys[i] == key && i < group));
  }
  return better < step.groups_used;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * step.experts;
  var largest = 0.0;
  var total = 1.0;
  if (step.gating == 0u) {
    largest = -LARGEST;
    for (var i = lane; i < step.experts; i += LANES) { largest = max(largest, logits[base + i]); }
    largest = all_largest(lane, largest);
    var sum = 0.0;
    for (var i = lane; i < step.experts; i += LANES) { sum += exp(logits[base + i] - largest); }
    total = all_sum(lane, sum);
  }
  for (var i = lane; i < step.experts; i += LANES) {
    let logit = logits[base + i];
    var gate = logit;
    if (step.gating == 0u) { gate = exp(logit - largest) / total; }
    // exp of a large number would overflow to infinity, which WGSL does not promise to survive.
    if (step.gating == 1u) { gate = 1.0 / (1.0 + exp(min(-logit, 80.0))); }
    gates[i] = gate;
    keys[i] = key_of(choice_of(i, logit, gate));
  }
  workgroupBarrier();
  if (step.groups > 1u) {
    for (var i = lane; i < step.groups; i += LANES) { group_keys[i] = group_key(i); }
    workgroupBarrier();
    let width = step.experts / step.groups;
    for (var i = lane; i < step.experts; i += LANES) {
      if (!group_allowed(i / width)) { keys[i] = 0u; }
    }
    workgroupBarrier();
  }
  for (var i = lane; i < step.experts; i += LANES) {
    let key = keys[i];
    var better = 0u;
    for (var j = 0u; j < step.experts; j++) {
      better += select(0u, 1u, keys[j] > key || (keys[j] == key && j < i));
    }
    if (better < step.used) { chosen[better] = i; }
  }
  workgroupBarrier();
  for (var i = lane; i < step.used; i += LANES) { own[i] = gates[chosen[i]]; }
  workgroupBarrier();
  if (step.gating == 2u) {
    var most = -LARGEST;
    for (var i = 0u; i < step.used; i++) { most = max(most, own[i]); }
    workgroupBarrier();
    for (var i = lane; i < step.used; i += LANES) { own[i] = exp(own[i] - most); }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < step.used; i++) { sum += own[i]; }
    workgroupBarrier();
    for (var i = lane; i < step.used; i += LANES) { own[i] /= sum; }
    workgroupBarrier();
  }
  var divisor = 1.0;
  if (step.normalize == 1u) {
    var sum = 0.0;
    for (var i = 0u; i < step.used; i++) { sum += own[i]; }
    divisor = max(sum, 0x1p-14f);
  }
  for (var i = lane; i < step.used; i += LANES) {
    ids[group.x * step.used + i] = chosen[i];
    weights[group.x * step.used + i] = own[i] / divisor * step.scale;
  }
}
