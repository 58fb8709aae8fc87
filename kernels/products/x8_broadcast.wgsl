// Lanes go over their rows by eight columns together: each of eight lanes loads one of x and hands it on within the subgroup.
const CHUNK_GROUPS = 1u;
alias Own = f32;

@group(0) @binding(2) var<storage, read> x: array<f32>;

// Lanes that hand on stay together: compilers want to see it, so that nothing of the loop may depend on the lane.
fn first_chunk(lane: u32) -> u32 { return 0u; }

fn own_columns(token: u32, group: u32) -> Own {
  let column = 8u * group + lane_;
  // What lies past the row's end may be anything, and zero weights do not stop a NaN.
  return taken1(select(0.0, x[token * step.columns + column], column < step.columns), column);
}

fn all_squares(own: f32) -> f32 { return subgroupAdd(own); }
fn four_columns(at: u32) -> vec4<f32> {
  return vec4<f32>(x[4u * at], x[4u * at + 1u], x[4u * at + 2u], x[4u * at + 3u]);
}

fn columns8(own: Own, i: u32) -> mat2x4<f32> {
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

fn load_columns(token: u32, group: u32) -> mat2x4<f32> {
  return columns8(own_columns(token, group), 0u);
}
