// y [positions, rows] = x · Wᵀ: lanes are rows, a lane computes eight positions for two rows that lie LANES apart.
// x lies as [positions, columns / 4], W as [columns, rows].
override LANES: u32;

struct Shape { positions: u32, rows: u32, columns: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> shape: Shape;

fn put(t: u32, row: u32, a: vec4<f32>, b: vec4<f32>) {
  let at = t * shape.rows + row;
  let apart = shape.rows;
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
  let t = group.y * 8u;
  let row = group.x * 2u * LANES + lane;
  var a0 = vec4<f32>(); var b0 = vec4<f32>();
  var a1 = vec4<f32>(); var b1 = vec4<f32>();
  let n = shape.rows;
  let fours = shape.columns / 4u;
  var at = row;
  for (var k = 0u; k < fours; k++) {
    let p = t * fours + k;
    let low = transpose(mat4x4<f32>(x[p], x[p + fours], x[p + 2u * fours], x[p + 3u * fours]));
    let high = transpose(
      mat4x4<f32>(x[p + 4u * fours], x[p + 5u * fours], x[p + 6u * fours], x[p + 7u * fours]),
    );
    let v0 = vec4<f32>(w[at], w[at + n], w[at + 2u * n], w[at + 3u * n]);
    let second = at + LANES;
    let v1 = vec4<f32>(w[second], w[second + n], w[second + 2u * n], w[second + 3u * n]);
    a0 = fma(low[0], v0.xxxx, fma(low[1], v0.yyyy, fma(low[2], v0.zzzz, fma(low[3], v0.wwww, a0))));
    b0 = fma(high[0], v0.xxxx, fma(high[1], v0.yyyy, fma(high[2], v0.zzzz, fma(high[3], v0.wwww, b0))));
    a1 = fma(low[0], v1.xxxx, fma(low[1], v1.yyyy, fma(low[2], v1.zzzz, fma(low[3], v1.wwww, a1))));
    b1 = fma(high[0], v1.xxxx, fma(high[1], v1.yyyy, fma(high[2], v1.zzzz, fma(high[3], v1.wwww, b1))));
    at += 4u * n;
  }
  put(t, row, a0, b0);
  put(t, row + LANES, a1, b1);
}
