// x goes through RMSNorm on its way into the product: it is multiplied by the norm's weight, and the sums are divided by the root mean
// square, for which the lanes that share a product have added up the squares of what they have read.
override TAP_NORM: bool = false;
override TAP_RMS: bool = false;
override TAP_PRE: bool = false;

@group(0) @binding(FIRST_NORM_BINDING) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(FIRST_NORM_BINDING + 1u) var<storage, read_write> norm_out: array<vec4<f32>>;
@group(0) @binding(FIRST_NORM_BINDING + 2u) var<storage, read_write> rms_out: array<f32>;
@group(0) @binding(FIRST_NORM_BINDING + 3u) var<storage, read_write> pre_out: array<vec4<f32>>;

var<private> squares: f32;
var<workgroup> partial_squares: array<f32, LANES>;

// Four columns of x, the i-th of a row; each is taken once by all the lanes that share a product.
fn taken(v: vec4<f32>, i: u32) -> vec4<f32> {
  squares += dot(v, v);
  return v * gain[i];
}

fn taken1(v: f32, column: u32) -> f32 {
  squares = fma(v, v, squares);
  return v * gain[column >> 2u][column & 3u];
}

fn leave_squares(lane: u32) { partial_squares[lane] = squares; }
fn add_squares(lane: u32) { squares += partial_squares[lane]; }

fn rms() -> f32 {
  return sqrt(all_squares(squares) / f32(step.columns) + step.epsilon);
}

fn finished(sum: vec4<f32>) -> vec4<f32> { return sum / rms(); }

// The norm itself where it is wanted, by the first workgroup.
fn store_norm(token: u32, lane: u32) {
  if (!TAP_NORM && !TAP_RMS && !TAP_PRE) { return; }
  let own = rms();
  // The first lane's is whole, and nobody reads its place but here.
  if (lane == 0u) { partial_squares[0] = own; }
  workgroupBarrier();
  let root = partial_squares[0];
  if (TAP_RMS && lane == 0u) { rms_out[token] = root; }
  for (var i = lane; 4u * i < step.columns; i += LANES) {
    let at = token * (step.columns >> 2u) + i;
    let pre = four_columns(at) / root;
    if (TAP_PRE) { pre_out[at] = pre; }
    if (TAP_NORM) { norm_out[at] = pre * gain[i]; }
  }
}
