// xIELU: softplus(αp)·x² + βx above 0, (β + softplus(αn))·(exp(min(x, ε)) − 1 − x) + βx elsewhere.
override LANES: u32;

struct Step { columns: u32, alpha_n: f32, alpha_p: f32, beta: f32, epsilon: f32 }

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> act: array<f32>;

// ln(1 + exp(x)) = max(x, 0) + ln(1 + e) with e = exp(−|x|), and ln(1 + e) = 2·artanh(e / (2 + e)): WGSL's log is too coarse near 1.
fn softplus(x: f32) -> f32 {
  let e = exp(-min(abs(x), 80.0));
  let s = e / (2.0 + e);
  let z = s * s;
  var sum = fma(z, 1.0 / 15.0, 1.0 / 13.0);
  sum = fma(z, sum, 1.0 / 11.0);
  sum = fma(z, sum, 1.0 / 9.0);
  sum = fma(z, sum, 1.0 / 7.0);
  sum = fma(z, sum, 1.0 / 5.0);
  sum = fma(z, sum, 1.0 / 3.0);
  sum = fma(z, sum, 1.0);
  return max(x, 0.0) + 2.0 * s * sum;
}

// exp(x) − 1 − x of a number that is not positive: near 0 x² times a polynomial, where the difference would lose its digits. The polynomial is
// the minimax one of its relative error for x ≥ −½, 3.4e-10, found by iteratively reweighted least squares.
fn above_tangent(x: f32) -> f32 {
  if (x < -0.5) { return exp(max(x, -80.0)) - 1.0 - x; }
  var p = fma(x, 0.00016467593, 0.0013704507);
  p = fma(x, p, 0.008328598);
  p = fma(x, p, 0.041666113);
  p = fma(x, p, 0.16666664);
  p = fma(x, p, 0.5);
  return p * x * x;
}

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.columns) { return; }
  let at = id.y * step.columns + id.x;
  let value = x[at];
  if (value > 0.0) {
    act[at] = softplus(step.alpha_p) * value * value + step.beta * value;
    return;
  }
  let low = select(value, step.epsilon, value > step.epsilon);
  let bend = above_tangent(low) + (low - value);
  act[at] = (step.beta + softplus(step.alpha_n)) * bend + step.beta * value;
}
