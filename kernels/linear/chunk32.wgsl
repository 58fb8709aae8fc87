// A lane goes over its rows by blocks of 32 columns.
const CHUNK_GROUPS = 4u;

fn load_columns(token: u32, chunk: u32) -> array<mat2x4<f32>, 4> {
  return x32(token, chunk);
}
