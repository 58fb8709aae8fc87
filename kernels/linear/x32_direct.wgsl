// A lane goes over its rows by blocks of 32 columns and loads those of x itself.
const CHUNK_GROUPS = 4u;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn load_columns(token: u32, block: u32) -> array<mat2x4<f32>, 4> {
  let at = token * (step.columns >> 2u) + 8u * block;
  return array<mat2x4<f32>, 4>(
    mat2x4<f32>(x[at], x[at + 1u]),
    mat2x4<f32>(x[at + 2u], x[at + 3u]),
    mat2x4<f32>(x[at + 4u], x[at + 5u]),
    mat2x4<f32>(x[at + 6u], x[at + 7u]),
  );
}
