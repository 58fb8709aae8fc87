// −ln p of the id that follows a row of logits, one row per workgroup. What is wrong is told by the bits, since compilers may assume of floats
// that NaN does not occur.
override LANES: u32;

struct Step { columns: u32 }

@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> next: array<u32>;
@group(0) @binding(4) var<storage, read_write> nats: array<u32>;

const LEAST = -0x1.fffffep+127f;
const NAN = 0x7fc00000u;

// Terms of one lane that are added up on their own: short chains of additions round less.
const RUN = 16u;

var<workgroup> most: array<f32, LANES>;
var<workgroup> wrong: array<u32, LANES>;
var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * step.columns;
  var largest = LEAST;
  var odd = 0u;
  for (var i = lane; i < step.columns; i += LANES) {
    let bits = x[base + i];
    if (bits == 0x7f800000u || (bits & 0x7fffffffu) > 0x7f800000u) {
      odd = 1u;
    } else if (bits != 0xff800000u) {
      largest = max(largest, bitcast<f32>(bits));
      odd |= 2u;
    }
  }
  most[lane] = largest;
  wrong[lane] = odd;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      most[lane] = max(most[lane], most[lane + half]);
      wrong[lane] |= wrong[lane + half];
    }
  }
  workgroupBarrier();
  largest = most[0];

  var sum = 0.0;
  for (var first = lane; first < step.columns; first += LANES * RUN) {
    var run = 0.0;
    let end = min(step.columns, first + LANES * RUN);
    for (var i = first; i < end; i += LANES) {
      if (x[base + i] != 0xff800000u) { run += exp(bitcast<f32>(x[base + i]) - largest); }
    }
    sum += run;
  }
  partial[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] += partial[lane + half]; }
  }
  if (lane == 0u) {
    let id = next[group.x];
    var bits = NAN;
    if (wrong[0] == 2u && id < step.columns) {
      let own = x[base + id];
      // Of −∞ the surprisal is infinite.
      bits = select(bitcast<u32>(log(partial[0]) - (bitcast<f32>(own) - largest)), 0x7f800000u, own == 0xff800000u);
    }
    nats[group.x] = bits;
  }
}
