// Activations by their places in activations.ts.
const GELU_TANH = 1u;
const GELU = 2u;
const RELU2 = 3u;
const RELU = 4u;
const SIGMOID = 5u;
const SWIGLU_CLAMPED = 6u;

// NaN passes both, which min and max need not let through.
fn at_most(x: f32, limit: f32) -> f32 { return select(x, limit, x > limit); }
fn at_least(x: f32, limit: f32) -> f32 { return select(x, limit, x < limit); }

// exp of a large number would overflow to infinity, which WGSL does not promise to survive.
fn silu(x: f32) -> f32 { return x / (1.0 + exp(min(-x, 80.0))); }

// x·σ(w), with w = 2·√(2/π)·(x + 0.044715 x³). From ±10 on w is so large that more of it changes nothing.
fn gelu_tanh(x: f32) -> f32 {
  let near = clamp(x, -10.0, 10.0);
  let w = 1.59576912 * near * fma(0.044715, near * near, 1.0);
  return x / (1.0 + exp(min(-w, 80.0)));
}

// x·Φ(x). Φ(−a) = exp(−a²/2)·q(t) with t = 1 / (1 + 0.3 a): the minimax polynomial of its relative error for a ≤ 14, 3.5e-9, found by
// iteratively reweighted least squares. Beyond that exp is 0.
fn gelu(x: f32) -> f32 {
  let a = min(abs(x), 14.0);
  let t = 1.0 / fma(0.3, a, 1.0);
  var q = fma(-0.020612821, t, 0.11237574);
  q = fma(q, t, -0.2280674);
  q = fma(q, t, 0.19158155);
  q = fma(q, t, -0.079247214);
  q = fma(q, t, 0.096057765);
  q = fma(q, t, 0.0784256);
  q = fma(q, t, 0.11022732);
  q = fma(q, t, 0.11957284);
  q = fma(q, t, 0.11968663);
  let part = x * (q * t * exp(-0.5 * a * a));
  return select(x - part, part, x < 0.0);
}

fn activate(activation: u32, x: f32) -> f32 {
  switch activation {
    case GELU_TANH: { return gelu_tanh(x); }
    case GELU: { return gelu(x); }
    case RELU2: { return at_least(x, 0.0) * at_least(x, 0.0); }
    case RELU: { return at_least(x, 0.0); }
    case SIGMOID: { return 1.0 / (1.0 + exp(at_most(-x, 80.0))); }
    default: { return silu(x); }
  }
}

// act(g) · u.
fn gated(activation: u32, g: f32, u: f32) -> f32 {
  if (activation == SWIGLU_CLAMPED) {
    let limited = at_most(g, 7.0);
    let silu = limited / (1.0 + exp(min(-1.702 * limited, 80.0)));
    return silu * (at_least(at_most(u, 7.0), -7.0) + 1.0);
  }
  return activate(activation, g) * u;
}
