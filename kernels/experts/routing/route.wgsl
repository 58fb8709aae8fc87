// The experts of a position: an expert's place among the chosen is the number of those that are better.
override TAP_WEIGHTS: bool = false;

@group(0) @binding(3) var<storage, read_write> ids: array<u32>;

var<workgroup> keys: array<u32, MOST_EXPERTS>;
var<workgroup> group_keys: array<u32, MOST_USED>;

// The order of floats as that of whole numbers: compilers may assume of floats that NaN does not occur. It comes last.
fn key_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
  if (bits == 0x80000000u) { return 0x80000000u; } // −0 is 0
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
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
  find_gates(base, lane);
  for (var i = lane; i < step.experts; i += LANES) {
    keys[i] = key_of(choice_of(i, logits[base + i], gates[i]));
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
  for (var i = lane; i < step.used; i += LANES) { ids[group.x * step.used + i] = chosen[i]; }
  if (TAP_WEIGHTS) { store_weights(group.x, lane); }
}
