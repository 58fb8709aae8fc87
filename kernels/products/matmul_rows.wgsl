// W·x for many positions where lanes hand columns of x on to each other: a lane computes a tile of four rows for eight positions.
// Weights are unpacked once for the eight positions, columns of x are loaded once for the 32 rows of eight lanes.
override LANES: u32;

var<private> lane_: u32;

struct Rows { a: Block, b: Block, c: Block, d: Block }
// What this lane has loaded of the eight positions, and their sums: the four rows of each.
struct Positions { p0: Own, p1: Own, p2: Own, p3: Own, p4: Own, p5: Own, p6: Own, p7: Own }
struct Sums {
  s0: vec4<f32>,
  s1: vec4<f32>,
  s2: vec4<f32>,
  s3: vec4<f32>,
  s4: vec4<f32>,
  s5: vec4<f32>,
  s6: vec4<f32>,
  s7: vec4<f32>,
}

// sum + W·x over eight columns: rows are the components, columns those of the two matrices.
fn add8(low: mat4x4<f32>, high: mat4x4<f32>, x: mat2x4<f32>, sum: vec4<f32>) -> vec4<f32> {
  var s = fma(low[0], vec4<f32>(x[0].x), sum);
  s = fma(low[1], vec4<f32>(x[0].y), s);
  s = fma(low[2], vec4<f32>(x[0].z), s);
  s = fma(low[3], vec4<f32>(x[0].w), s);
  s = fma(high[0], vec4<f32>(x[1].x), s);
  s = fma(high[1], vec4<f32>(x[1].y), s);
  s = fma(high[2], vec4<f32>(x[1].z), s);
  return fma(high[3], vec4<f32>(x[1].w), s);
}

// Columns 8·i … 8·i+7 of a chunk.
fn add_columns(rows: Rows, x: Positions, i: u32, sums: Sums) -> Sums {
  let a = eight(rows.a, i);
  let b = eight(rows.b, i);
  let c = eight(rows.c, i);
  let d = eight(rows.d, i);
  let low = transpose(mat4x4<f32>(a[0], b[0], c[0], d[0]));
  let high = transpose(mat4x4<f32>(a[1], b[1], c[1], d[1]));
  return Sums(
    add8(low, high, columns8(x.p0, i), sums.s0),
    add8(low, high, columns8(x.p1, i), sums.s1),
    add8(low, high, columns8(x.p2, i), sums.s2),
    add8(low, high, columns8(x.p3, i), sums.s3),
    add8(low, high, columns8(x.p4, i), sums.s4),
    add8(low, high, columns8(x.p5, i), sums.s5),
    add8(low, high, columns8(x.p6, i), sums.s6),
    add8(low, high, columns8(x.p7, i), sums.s7),
  );
}

// Positions past the end repeat the last one and are not stored.
fn own(token: u32, chunk: u32) -> Own {
  return own_columns(min(token, pass_.tokens - 1u), chunk);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  lane_ = lane;
  let tile = (group.x + group.z * 32768u) * LANES + lane;
  let t = group.y * 8u;
  let r0 = weight_row(tile, 0u);
  let r1 = weight_row(tile, 1u);
  let r2 = weight_row(tile, 2u);
  let r3 = weight_row(tile, 3u);
  let chunks = step.groups / CHUNK_GROUPS;
  var sums = Sums();
  for (var c = 0u; c < chunks; c++) {
    let rows = Rows(load_block(r0, c), load_block(r1, c), load_block(r2, c), load_block(r3, c));
    let x = Positions(
      own(t, c),
      own(t + 1u, c),
      own(t + 2u, c),
      own(t + 3u, c),
      own(t + 4u, c),
      own(t + 5u, c),
      own(t + 6u, c),
      own(t + 7u, c),
    );
    // Sums of a chunk are added up on their own: short chains of additions round less.
    var part = add_columns(rows, x, 0u, Sums());
    if (CHUNK_GROUPS > 1u) {
      part = add_columns(rows, x, 1u, part);
      part = add_columns(rows, x, 2u, part);
      part = add_columns(rows, x, 3u, part);
    }
    sums.s0 += part.s0;
    sums.s1 += part.s1;
    sums.s2 += part.s2;
    sums.s3 += part.s3;
    sums.s4 += part.s4;
    sums.s5 += part.s5;
    sums.s6 += part.s6;
    sums.s7 += part.s7;
  }
  store_at(t, tile, sums.s0);
  store_at(t + 1u, tile, sums.s1);
  store_at(t + 2u, tile, sums.s2);
  store_at(t + 3u, tile, sums.s3);
  store_at(t + 4u, tile, sums.s4);
  store_at(t + 5u, tile, sums.s5);
  store_at(t + 6u, tile, sums.s6);
  store_at(t + 7u, tile, sums.s7);
}

fn store_at(token: u32, tile: u32, sum: vec4<f32>) {
  if (token < pass_.tokens) { store(token, tile, sum); }
}
