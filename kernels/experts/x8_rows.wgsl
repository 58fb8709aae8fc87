// Eight columns of rows of x that begin anywhere; each lane loads them itself.
const CHUNK_GROUPS = 1u;
// Of a lane: where its columns begin, and how many of the row are left.
alias Own = vec2<u32>;

@group(0) @binding(2) var<storage, read> x: array<f32>;

fn first_chunk(lane: u32) -> u32 { return lane % COLUMN_LANES; }

fn own_columns(row: u32, group: u32) -> Own {
  return vec2<u32>(row * step.columns + 8u * group, step.columns - 8u * group);
}

// Columns past the row's end become zero: what lies there may be anything, and zero weights do not stop a NaN.
fn columns8(own: Own, i: u32) -> mat2x4<f32> {
  let at = own.x;
  let a = vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
  let b = vec4<f32>(x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
  let left = vec4<u32>(own.y);
  return mat2x4<f32>(
    select(vec4<f32>(0.0), a, vec4<u32>(0u, 1u, 2u, 3u) < left),
    select(vec4<f32>(0.0), b, vec4<u32>(4u, 5u, 6u, 7u) < left),
  );
}
