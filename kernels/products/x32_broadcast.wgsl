// Lanes go over their rows by blocks of 32 columns together: each of eight lanes loads four of x and hands them on within the subgroup.
const CHUNK_GROUPS = 4u;
alias Own = vec4<f32>;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// Lanes that hand on stay together: compilers want to see it, so that nothing of the loop may depend on the lane.
fn first_chunk(lane: u32) -> u32 { return 0u; }

fn own_columns(token: u32, block: u32) -> Own {
  let i = 8u * block + lane_;
  return taken(x[token * (step.columns >> 2u) + i], i);
}

fn all_squares(own: f32) -> f32 { return subgroupAdd(own); }
fn four_columns(at: u32) -> vec4<f32> { return x[at]; }

// Eight of a block's columns, i from 0 to 3.
fn columns8(own: Own, i: u32) -> mat2x4<f32> {
  return mat2x4<f32>(subgroupShuffle(own, 2u * i), subgroupShuffle(own, 2u * i + 1u));
}

fn load_columns(token: u32, block: u32) -> array<mat2x4<f32>, 4> {
  let own = own_columns(token, block);
  return array<mat2x4<f32>, 4>(
    columns8(own, 0u),
    columns8(own, 1u),
    columns8(own, 2u),
    columns8(own, 3u),
  );
}
