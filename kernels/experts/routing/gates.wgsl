// Gates of a position's experts, and the weights of the chosen: see route.ts. A workgroup has one position.
override LANES: u32;

// Must equal the numbers in route.ts.
const MOST_EXPERTS = 1024u;
const MOST_USED = 64u;
const LARGEST = 0x1.fffffep+127f;

struct Step {
  experts: u32,
  used: u32,
  gating: u32,      // 0 softmax, 1 sigmoid, 2 softmax over the chosen
  normalize: u32,
  groups: u32,
  groups_used: u32,
  scale: f32,
}

@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;

var<workgroup> gates: array<f32, MOST_EXPERTS>;
var<workgroup> chosen: array<u32, MOST_USED>;
var<workgroup> own: array<f32, MOST_USED>;
var<workgroup> partial: array<f32, LANES>;

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

// Gates of all experts; nobody else may read them before a barrier.
fn find_gates(base: u32, lane: u32) {
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
  }
}

// Weights of those in `chosen`.
fn store_weights(position: u32, lane: u32) {
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
    weights[position * step.used + i] = own[i] / divisor * step.scale;
  }
}
