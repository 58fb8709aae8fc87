// W·x for many positions: one invocation computes two tiles of four rows for four positions that lie LANES apart.
// Weights are read once for the four positions, positions once for the eight rows.
override LANES: u32;

// Groups of eight columns in one run.
const RUN = 8u;

@group(0) @binding(2) var<storage, read> x: array<f32>;

// Eight columns of one position; positions past the end repeat the last one and are not stored. Columns past the row's end
// become zero: what lies there may be anything, and zero weights do not stop a NaN.
fn load_x(token: u32, column: u32) -> mat2x4<f32> {
  let at = min(token, pass_.tokens - 1u) * step.columns + column;
  let a = vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
  let b = vec4<f32>(x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
  if (column + 8u <= step.columns) { return mat2x4<f32>(a, b); }
  let left = vec4<u32>(step.columns - column);
  return mat2x4<f32>(
    select(vec4<f32>(0.0), a, vec4<u32>(0u, 1u, 2u, 3u) < left),
    select(vec4<f32>(0.0), b, vec4<u32>(4u, 5u, 6u, 7u) < left),
  );
}

fn dots(w: mat2x4<f32>, x0: mat2x4<f32>, x1: mat2x4<f32>, x2: mat2x4<f32>, x3: mat2x4<f32>) -> vec4<f32> {
  return vec4<f32>(dot(w[0], x0[0]), dot(w[0], x1[0]), dot(w[0], x2[0]), dot(w[0], x3[0])) +
    vec4<f32>(dot(w[1], x0[1]), dot(w[1], x1[1]), dot(w[1], x2[1]), dot(w[1], x3[1]));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = 2u * (group.x + group.z * 32768u);
  let t0 = group.y * LANES * 4u + lane;
  let t1 = t0 + LANES;
  let t2 = t1 + LANES;
  let t3 = t2 + LANES;
  let r0 = weight_row(tile, 0u);
  let r1 = weight_row(tile, 1u);
  let r2 = weight_row(tile, 2u);
  let r3 = weight_row(tile, 3u);
  let r4 = weight_row(tile + 1u, 0u);
  let r5 = weight_row(tile + 1u, 1u);
  let r6 = weight_row(tile + 1u, 2u);
  let r7 = weight_row(tile + 1u, 3u);
  // sN: row N of the two tiles, one component per position.
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  var s4 = vec4<f32>(0.0);
  var s5 = vec4<f32>(0.0);
  var s6 = vec4<f32>(0.0);
  var s7 = vec4<f32>(0.0);
  for (var first = 0u; first < step.groups; first += RUN) {
    // Sums of a run of columns, added up on their own: short chains of additions round less.
    var p0 = vec4<f32>(0.0);
    var p1 = vec4<f32>(0.0);
    var p2 = vec4<f32>(0.0);
    var p3 = vec4<f32>(0.0);
    var p4 = vec4<f32>(0.0);
    var p5 = vec4<f32>(0.0);
    var p6 = vec4<f32>(0.0);
    var p7 = vec4<f32>(0.0);
    let end = min(first + RUN, step.groups);
    for (var g = first; g < end; g++) {
      let x0 = load_x(t0, g * 8u);
      let x1 = load_x(t1, g * 8u);
      let x2 = load_x(t2, g * 8u);
      let x3 = load_x(t3, g * 8u);
      p0 += dots(load8(r0, g), x0, x1, x2, x3);
      p1 += dots(load8(r1, g), x0, x1, x2, x3);
      p2 += dots(load8(r2, g), x0, x1, x2, x3);
      p3 += dots(load8(r3, g), x0, x1, x2, x3);
      p4 += dots(load8(r4, g), x0, x1, x2, x3);
      p5 += dots(load8(r5, g), x0, x1, x2, x3);
      p6 += dots(load8(r6, g), x0, x1, x2, x3);
      p7 += dots(load8(r7, g), x0, x1, x2, x3);
    }
    s0 += p0;
    s1 += p1;
    s2 += p2;
    s3 += p3;
    s4 += p4;
    s5 += p5;
    s6 += p6;
    s7 += p7;
  }
  if (t0 < pass_.tokens) {
    store(t0, tile, vec4<f32>(s0.x, s1.x, s2.x, s3.x));
    store(t0, tile + 1u, vec4<f32>(s4.x, s5.x, s6.x, s7.x));
  }
  if (t1 < pass_.tokens) {
    store(t1, tile, vec4<f32>(s0.y, s1.y, s2.y, s3.y));
    store(t1, tile + 1u, vec4<f32>(s4.y, s5.y, s6.y, s7.y));
  }
  if (t2 < pass_.tokens) {
    store(t2, tile, vec4<f32>(s0.z, s1.z, s2.z, s3.z));
    store(t2, tile + 1u, vec4<f32>(s4.z, s5.z, s6.z, s7.z));
  }
  if (t3 < pass_.tokens) {
    store(t3, tile, vec4<f32>(s0.w, s1.w, s2.w, s3.w));
    store(t3, tile + 1u, vec4<f32>(s4.w, s5.w, s6.w, s7.w));
  }
}
