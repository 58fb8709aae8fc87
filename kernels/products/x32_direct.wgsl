// A lane goes over its rows by blocks of 32 columns and loads those of x itself.
const CHUNK_GROUPS = 4u;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn first_chunk(lane: u32) -> u32 { return lane % COLUMN_LANES; }

fn load_columns(token: u32, block: u32) -> array<mat2x4<f32>, 4> {
  let at = token * (step.columns >> 2u);
  let i = 8u * block;
  return array<mat2x4<f32>, 4>(
    columns8(at, i),
    columns8(at, i + 2u),
    columns8(at, i + 4u),
    columns8(at, i + 6u),
  );
}

fn columns8(at: u32, i: u32) -> mat2x4<f32> {
  return mat2x4<f32>(taken(x[at + i], i), taken(x[at + i + 1u], i + 1u));
}

fn all_squares(own: f32) -> f32 { return own; }
fn four_columns(at: u32) -> vec4<f32> { return x[at]; }
