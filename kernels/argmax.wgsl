// The index of the largest number of one row per workgroup; of equal ones the first.
override LANES: u32;

struct Step { columns: u32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;

var<workgroup> best: array<f32, LANES>;
var<workgroup> place: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * step.columns;
  var value = -3.4e38;
  var at = 0u;
  for (var i = lane; i < step.columns; i += LANES) {
    if (x[base + i] > value) {
      value = x[base + i];
      at = i;
    }
  }
  best[lane] = value;
  place[lane] = at;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      let other = lane + half;
      if (best[other] > best[lane] || (best[other] == best[lane] && place[other] < place[lane])) {
        best[lane] = best[other];
        place[lane] = place[other];
      }
    }
  }
  if (lane == 0u) { index[group.x] = place[0]; }
}
