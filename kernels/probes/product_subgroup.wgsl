// y [positions, rows] = x · Wᵀ: a lane computes four rows, LANES apart, for eight positions; of eight columns of x each lane loads one and
// hands it on within the subgroup. x lies as [positions, columns], W as [columns, rows]. LANES is the subgroup's size, 8 or more.
override LANES: u32;

struct Shape { positions: u32, rows: u32, columns: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;

// What this lane has loaded of the eight positions, and their sums: the four rows of each.
struct Own { p0: f32, p1: f32, p2: f32, p3: f32, p4: f32, p5: f32, p6: f32, p7: f32 }
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

// The column that lane i has loaded.
fn add_column(own: Own, i: u32, at: u32, sums: Sums) -> Sums {
  let v = vec4<f32>(w[at], w[at + LANES], w[at + 2u * LANES], w[at + 3u * LANES]);
  return Sums(
    fma(v, vec4<f32>(subgroupShuffle(own.p0, i)), sums.s0),
    fma(v, vec4<f32>(subgroupShuffle(own.p1, i)), sums.s1),
    fma(v, vec4<f32>(subgroupShuffle(own.p2, i)), sums.s2),
    fma(v, vec4<f32>(subgroupShuffle(own.p3, i)), sums.s3),
    fma(v, vec4<f32>(subgroupShuffle(own.p4, i)), sums.s4),
    fma(v, vec4<f32>(subgroupShuffle(own.p5, i)), sums.s5),
    fma(v, vec4<f32>(subgroupShuffle(own.p6, i)), sums.s6),
    fma(v, vec4<f32>(subgroupShuffle(own.p7, i)), sums.s7),
  );
}

fn put(at: u32, sum: vec4<f32>) {
  y[at] = sum.x;
  y[at + LANES] = sum.y;
  y[at + 2u * LANES] = sum.z;
  y[at + 3u * LANES] = sum.w;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let n = shape.rows;
  let c = shape.columns;
  let row = group.x * 4u * LANES + lane;
  let t = group.y * 8u;
  var sums = Sums();
  var at = row;
  for (var k = 0u; k < c; k += 8u) {
    let p = t * c + k + (lane & 7u);
    let own = Own(
      x[p],
      x[p + c],
      x[p + 2u * c],
      x[p + 3u * c],
      x[p + 4u * c],
      x[p + 5u * c],
      x[p + 6u * c],
      x[p + 7u * c],
    );
    sums = add_column(own, 0u, at, sums);
    sums = add_column(own, 1u, at + n, sums);
    sums = add_column(own, 2u, at + 2u * n, sums);
    sums = add_column(own, 3u, at + 3u * n, sums);
    sums = add_column(own, 4u, at + 4u * n, sums);
    sums = add_column(own, 5u, at + 5u * n, sums);
    sums = add_column(own, 6u, at + 6u * n, sums);
    sums = add_column(own, 7u, at + 7u * n, sums);
    at += 8u * n;
  }
  let to = t * n + row;
  put(to, sums.s0);
  put(to + n, sums.s1);
  put(to + 2u * n, sums.s2);
  put(to + 3u * n, sums.s3);
  put(to + 4u * n, sums.s4);
  put(to + 5u * n, sums.s5);
  put(to + 6u * n, sums.s6);
  put(to + 7u * n, sums.s7);
}
