// y [positions, rows] = x · Wᵀ in tiles of 64 × 64: 64 lanes, each with eight positions and eight rows; both tiles go through
// workgroup memory, 16 columns at a time. x lies as [columns, positions / 4], W as [columns, rows / 4].
struct Shape { positions: u32, rows: u32, columns: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> shape: Shape;

var<workgroup> xs: array<vec4<f32>, 256>;
var<workgroup> ws: array<vec4<f32>, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = lane / 8u; // positions 4t … 4t+3 and 32 + 4t …
  let r = lane % 8u; // rows, the same way
  var a0 = vec4<f32>(); var b0 = vec4<f32>();
  var a1 = vec4<f32>(); var b1 = vec4<f32>();
  var a2 = vec4<f32>(); var b2 = vec4<f32>();
  var a3 = vec4<f32>(); var b3 = vec4<f32>();
  var a4 = vec4<f32>(); var b4 = vec4<f32>();
  var a5 = vec4<f32>(); var b5 = vec4<f32>();
  var a6 = vec4<f32>(); var b6 = vec4<f32>();
  var a7 = vec4<f32>(); var b7 = vec4<f32>();
  let column = lane / 16u;
  let four = lane % 16u;
  for (var first = 0u; first < shape.columns; first += 16u) {
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      let k = column + 4u * i;
      xs[k * 16u + four] = x[(first + k) * (shape.positions / 4u) + group.y * 16u + four];
      ws[k * 16u + four] = w[(first + k) * (shape.rows / 4u) + group.x * 16u + four];
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let p = xs[k * 16u + t];
      let q = xs[k * 16u + 8u + t];
      let u = ws[k * 16u + r];
      let v = ws[k * 16u + 8u + r];
      a0 = fma(p.xxxx, u, a0); b0 = fma(p.xxxx, v, b0);
      a1 = fma(p.yyyy, u, a1); b1 = fma(p.yyyy, v, b1);
      a2 = fma(p.zzzz, u, a2); b2 = fma(p.zzzz, v, b2);
      a3 = fma(p.wwww, u, a3); b3 = fma(p.wwww, v, b3);
      a4 = fma(q.xxxx, u, a4); b4 = fma(q.xxxx, v, b4);
      a5 = fma(q.yyyy, u, a5); b5 = fma(q.yyyy, v, b5);
      a6 = fma(q.zzzz, u, a6); b6 = fma(q.zzzz, v, b6);
      a7 = fma(q.wwww, u, a7); b7 = fma(q.wwww, v, b7);
    }
  }
  let n = shape.rows / 4u;
  let at = (group.y * 64u + 4u * t) * n + group.x * 16u + r;
  y[at] = a0; y[at + 8u] = b0;
  y[at + n] = a1; y[at + n + 8u] = b1;
  y[at + 2u * n] = a2; y[at + 2u * n + 8u] = b2;
  y[at + 3u * n] = a3; y[at + 3u * n + 8u] = b3;
  let below = at + 32u * n;
  y[below] = a4; y[below + 8u] = b4;
  y[below + n] = a5; y[below + n + 8u] = b5;
  y[below + 2u * n] = a6; y[below + 2u * n + 8u] = b6;
  y[below + 3u * n] = a7; y[below + 3u * n + 8u] = b7;
}
