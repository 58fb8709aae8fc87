// The weights of experts that have been chosen.
@group(0) @binding(3) var<storage, read> ids: array<u32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  find_gates(group.x * step.experts, lane);
  for (var i = lane; i < step.used; i += LANES) { chosen[i] = ids[group.x * step.used + i]; }
  workgroupBarrier();
  store_weights(group.x, lane);
}
