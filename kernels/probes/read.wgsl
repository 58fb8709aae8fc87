// Streaming read: each workgroup reads a run of the buffer from front to back, its lanes side by side, or each lane a part of its
// own. `Word` (u32 or vec4<u32>) stands in front.
override LANES: u32;
// Words for each lane, a multiple of 8.
override RUN: u32;
override APART: bool;

@group(0) @binding(0) var<storage, read> data: array<Word>;
@group(0) @binding(1) var<storage, read_write> sums: array<Word>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let stride = select(LANES, 1u, APART);
  var at = group.x * LANES * RUN + lane * select(1u, RUN, APART);
  var sum = Word();
  for (var i = 0u; i < RUN; i += 8u) {
    let a = data[at] ^ data[at + stride];
    let b = data[at + 2u * stride] ^ data[at + 3u * stride];
    let c = data[at + 4u * stride] ^ data[at + 5u * stride];
    let d = data[at + 6u * stride] ^ data[at + 7u * stride];
    sum ^= (a ^ b) ^ (c ^ d);
    at += 8u * stride;
  }
  // A store for each lane, or nothing would have to be read.
  sums[group.x * LANES + lane] = sum;
}
