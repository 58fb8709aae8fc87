// A lane goes over its rows by eight columns.
const CHUNK_GROUPS = 1u;

fn load_columns(token: u32, chunk: u32) -> mat2x4<f32> {
  return x8(token, chunk);
}
