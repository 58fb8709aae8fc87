// Softmax of one row per workgroup. Causal rows [H, T, S] weigh only keys up to the query's own position; the rest is 0. So are masks, all
// numbers of MASKED or less, −∞ among them, and a row of nothing else. A row with NaN or +∞ is NaN. That is told by the bits, since
// compilers may assume of floats that it does not occur.
override LANES: u32;

struct Step { columns: u32, causal: u32 }

@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

const NEGATIVE_INFINITY = 0xff800000u;
const NAN = 0x7fc00000u;

var<workgroup> largest_keys: array<u32, LANES>;
var<workgroup> partial: array<f32, LANES>;

// Terms of one lane that are added up on their own: short chains of additions round less.
const RUN = 16u;

// e^x for x ≤ 0, to about one unit in the last place: WGSL's own may be off by 3 + 2·|x| of them. x = n·ln 2 + r; ln 2 in two parts,
// of which the first has so few digits that n times it is exact; the rest by its Taylor series.
fn exp_exact(x: f32) -> f32 {
  if (x < -87.0) { return 0.0; }
  let n = round(x * 1.44269504);
  let r = fma(n, -1.4286068e-6, fma(n, -0.693145751953125, x));
  var p = 1.98412698e-4;
  p = fma(p, r, 1.38888889e-3);
  p = fma(p, r, 8.33333333e-3);
  p = fma(p, r, 4.16666667e-2);
  p = fma(p, r, 1.66666667e-1);
  p = fma(p, r, 0.5);
  p = fma(p, r, 1.0);
  p = fma(p, r, 1.0);
  return p * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

// Whole numbers in the order of the floats; a mask is the least, and of NaN and +∞ the largest.
const UNSEEN = 0u;
const NONE = 0xffffffffu;

fn key_of(bits: u32) -> u32 {
  if (bits >> 31u == 0u) { return select(bits | 0x80000000u, NONE, bits >= 0x7f800000u); }
  return select(select(~bits, UNSEEN, bits >= bitcast<u32>(f32(MASKED))), NONE, bits > NEGATIVE_INFINITY);
}

fn float_of(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >> 31u == 1u));
}

fn weight(bits: u32, largest: f32) -> f32 {
  if (key_of(bits) == UNSEEN) { return 0.0; }
  return exp_exact(bitcast<f32>(bits) - largest);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  var columns = step.columns;
  var visible = step.columns;
  var row = group.x;
  // Keys that are not seen: those of other branches.
  var gap = vec2<u32>(0u);
  if (step.causal == 1u) {
    columns = pass_.start + pass_.tokens;
    visible = pass_.start + group.x + 1u;
    row = group.y * pass_.tokens + group.x;
    gap = row_gap(group.x);
  }
  let base = row * columns;

  var largest_key = UNSEEN;
  for (var i = lane; i < visible; i += LANES) {
    if (i < gap.x || i >= gap.y) { largest_key = max(largest_key, key_of(x[base + i])); }
  }
  let sink = bitcast<u32>(sink_of(group.y));
  if (SINKS) { largest_key = max(largest_key, key_of(sink)); }
  largest_keys[lane] = largest_key;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { largest_keys[lane] = max(largest_keys[lane], largest_keys[lane + half]); }
  }
  workgroupBarrier();
  largest_key = largest_keys[0];
  let largest = select(float_of(largest_key), 0.0, largest_key == UNSEEN || largest_key == NONE);

  var sum = 0.0;
  for (var first = lane; first < visible; first += LANES * RUN) {
    var run = 0.0;
    let end = min(visible, first + LANES * RUN);
    for (var i = first; i < end; i += LANES) {
      if (i < gap.x || i >= gap.y) { run += weight(x[base + i], largest); }
    }
    sum += run;
  }
  partial[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] += partial[lane + half]; }
  }
  workgroupBarrier();
  sum = partial[0];
  if (SINKS) { sum += weight(sink, largest); }
  // Where no key is seen, all weights are 0.
  sum = select(sum, 1.0, largest_key == UNSEEN);

  for (var i = lane; i < columns; i += LANES) {
    let bits = select(bitcast<u32>(weight(x[base + i], largest) / sum), NAN, largest_key == NONE);
    y[base + i] = select(0u, bits, i < visible && (i < gap.x || i >= gap.y));
  }
}
