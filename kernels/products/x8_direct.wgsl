// A lane goes over its rows by eight columns and loads those of x itself. Rows of x must begin at multiples of four numbers.
const CHUNK_GROUPS = 1u;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// Sets the columns past the row's end to zero: what lies there may be anything, and zero weights do not stop a NaN.
fn cut(v: vec4<f32>, left: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left));
}

fn first_chunk(lane: u32) -> u32 { return lane % COLUMN_LANES; }

fn load_columns(token: u32, group: u32) -> mat2x4<f32> {
  let i = 2u * group;
  let at = token * (step.columns >> 2u) + i;
  var columns = mat2x4<f32>(x[at], x[at + 1u]);
  let left = step.columns - 8u * group;
  if (left < 8u) {
    columns = mat2x4<f32>(cut(columns[0], left), cut(columns[1], max(left, 4u) - 4u));
  }
  return mat2x4<f32>(taken(columns[0], i), taken(columns[1], i + 1u));
}

fn all_squares(own: f32) -> f32 { return own; }
fn four_columns(at: u32) -> vec4<f32> { return x[at]; }
