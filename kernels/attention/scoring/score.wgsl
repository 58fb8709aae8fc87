// What becomes of a scaled score: a cap (Gemma 2), then ALiBi's bias (Press et al. 2022). tanh.wgsl is in front.

fn cap_score(score: f32) -> f32 { return step.cap * tanh_(score / step.cap); }

// 2^x for −126 ≤ x ≤ 127: WGSL's own may be off by 3 + 2·|x| units in the last place.
fn power_of_two(x: f32) -> f32 {
  let n = round(x);
  let r = (x - n) * 0.69314718;
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

// What a score loses for each position that its key lies before the query: see `slopeOf` in score.ts.
fn slope_of(head: u32) -> f32 {
  let power = 1u << firstLeadingBit(step.heads);
  let unit = step.max_bias / f32(power);
  return power_of_two(-select(
    unit * f32(head + 1u),
    unit * 0.5 * f32(2u * (head - power) + 1u),
    head >= power,
  ));
}
