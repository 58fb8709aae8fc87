// Blocks of 32 columns of rows of x; each lane loads them itself.
const CHUNK_GROUPS = 4u;
// Of a lane: where its columns begin.
alias Own = u32;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

fn first_chunk(lane: u32) -> u32 { return lane % COLUMN_LANES; }

fn own_columns(row: u32, block: u32) -> Own {
  return row * (step.columns >> 2u) + 8u * block;
}

// Eight of a block's columns, i from 0 to 3.
fn columns8(own: Own, i: u32) -> mat2x4<f32> {
  return mat2x4<f32>(x[own + 2u * i], x[own + 2u * i + 1u]);
}
