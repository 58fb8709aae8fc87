// y [positions, rows] = x · Wᵀ: lanes are positions, a lane computes eight rows for eight positions that lie LANES apart.
// x lies as [columns, positions], W as [rows, columns].
override LANES: u32;

struct Shape { positions: u32, rows: u32, columns: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;

fn put(t: u32, row: u32, a: vec4<f32>, b: vec4<f32>) {
  let at = t * shape.rows + row;
  let apart = LANES * shape.rows;
  y[at] = a.x;
  y[at + apart] = a.y;
  y[at + 2u * apart] = a.z;
  y[at + 3u * apart] = a.w;
  y[at + 4u * apart] = b.x;
  y[at + 5u * apart] = b.y;
  y[at + 6u * apart] = b.z;
  y[at + 7u * apart] = b.w;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = group.x * 8u * LANES + lane;
  let row = group.y * 8u;
  var a0 = vec4<f32>(); var b0 = vec4<f32>();
  var a1 = vec4<f32>(); var b1 = vec4<f32>();
  var a2 = vec4<f32>(); var b2 = vec4<f32>();
  var a3 = vec4<f32>(); var b3 = vec4<f32>();
  var a4 = vec4<f32>(); var b4 = vec4<f32>();
  var a5 = vec4<f32>(); var b5 = vec4<f32>();
  var a6 = vec4<f32>(); var b6 = vec4<f32>();
  var a7 = vec4<f32>(); var b7 = vec4<f32>();
  let c = shape.columns;
  var at = row * c;
  for (var k = 0u; k < c; k++) {
    let p = k * shape.positions + t;
    let xa = vec4<f32>(x[p], x[p + LANES], x[p + 2u * LANES], x[p + 3u * LANES]);
    let xb = vec4<f32>(x[p + 4u * LANES], x[p + 5u * LANES], x[p + 6u * LANES], x[p + 7u * LANES]);
    let w0 = vec4<f32>(w[at]);
    let w1 = vec4<f32>(w[at + c]);
    let w2 = vec4<f32>(w[at + 2u * c]);
    let w3 = vec4<f32>(w[at + 3u * c]);
    let w4 = vec4<f32>(w[at + 4u * c]);
    let w5 = vec4<f32>(w[at + 5u * c]);
    let w6 = vec4<f32>(w[at + 6u * c]);
    let w7 = vec4<f32>(w[at + 7u * c]);
    a0 = fma(w0, xa, a0); b0 = fma(w0, xb, b0);
    a1 = fma(w1, xa, a1); b1 = fma(w1, xb, b1);
    a2 = fma(w2, xa, a2); b2 = fma(w2, xb, b2);
    a3 = fma(w3, xa, a3); b3 = fma(w3, xb, b3);
    a4 = fma(w4, xa, a4); b4 = fma(w4, xb, b4);
    a5 = fma(w5, xa, a5); b5 = fma(w5, xb, b5);
    a6 = fma(w6, xa, a6); b6 = fma(w6, xb, b6);
    a7 = fma(w7, xa, a7); b7 = fma(w7, xb, b7);
    at++;
  }
  put(t, row, a0, b0);
  put(t, row + 1u, a1, b1);
  put(t, row + 2u, a2, b2);
  put(t, row + 3u, a3, b3);
  put(t, row + 4u, a4, b4);
  put(t, row + 5u, a5, b5);
  put(t, row + 6u, a6, b6);
  put(t, row + 7u, a7, b7);
}
