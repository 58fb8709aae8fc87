// The index of the largest number of one row per workgroup; of equal ones the first. NONE where there is no answer: a number is
// NaN or +infinity, or none is finite. That is told by the bits, since compilers may assume of floats that it does not occur.
override LANES: u32;

const NONE = 0xffffffffu;
const LARGEST = 0x1.fffffep+127f;

struct Step { columns: u32 }

@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read_write> index: array<u32>;

var<workgroup> best: array<f32, LANES>;
var<workgroup> place: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * step.columns;
  var value = -LARGEST;
  var at = NONE;
  var wrong = false;
  for (var i = lane; i < step.columns; i += LANES) {
    let bits = x[base + i];
    wrong = wrong | (bits == 0x7f800000u) | ((bits & 0x7fffffffu) > 0x7f800000u);
    let number = bitcast<f32>(bits);
    if (number > value) {
      value = number;
      at = i;
    }
  }
  // What is wrong is handed on as the largest of all.
  best[lane] = select(value, LARGEST, wrong);
  place[lane] = select(at, NONE, wrong);
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
