// Columns of x that all eight lanes of a subgroup need: each loads a part and hands it on. Rows of x must begin at multiples of four
// numbers.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn x8(token: u32, group: u32) -> mat2x4<f32> {
  let column = 8u * group + lane_;
  let at = token * step.columns + column;
  // What lies past the row's end may be anything, and zero weights do not stop a NaN.
  let own = select(0.0, x[at >> 2u][at & 3u], column < step.columns);
  return mat2x4<f32>(
    subgroupBroadcast(own, 0u),
    subgroupBroadcast(own, 1u),
    subgroupBroadcast(own, 2u),
    subgroupBroadcast(own, 3u),
    subgroupBroadcast(own, 4u),
    subgroupBroadcast(own, 5u),
    subgroupBroadcast(own, 6u),
    subgroupBroadcast(own, 7u),
  );
}

fn x32(token: u32, block: u32) -> array<mat2x4<f32>, 4> {
  let own = x[token * (step.columns >> 2u) + 8u * block + lane_];
  return array<mat2x4<f32>, 4>(
    mat2x4<f32>(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u)),
    mat2x4<f32>(subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u)),
    mat2x4<f32>(subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u)),
    mat2x4<f32>(subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u)),
  );
}
