// W·x for few positions: one workgroup computes two tiles of four rows for one position, its lanes striding over the
// columns; partial sums are added up in a fixed order. Rows of x must begin at multiples of four numbers.
override LANES: u32;

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// Per lane: the sums of the first tile's four rows, then of the second's.
var<workgroup> partial: array<f32, LANES * 8u>;
var<workgroup> sums: array<f32, 8>;

// Sets the columns past the row's end to zero: what lies there may be anything, and zero weights do not stop a NaN.
fn cut(v: vec4<f32>, left: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  // Tiles may outnumber what one dimension of a dispatch can count.
  let tile = 2u * (group.x + group.z * 32768u);
  let token = group.y;
  let base = token * (step.columns / 4u);
  let r0 = weight_row(tile, 0u);
  let r1 = weight_row(tile, 1u);
  let r2 = weight_row(tile, 2u);
  let r3 = weight_row(tile, 3u);
  let r4 = weight_row(tile + 1u, 0u);
  let r5 = weight_row(tile + 1u, 1u);
  let r6 = weight_row(tile + 1u, 2u);
  let r7 = weight_row(tile + 1u, 3u);
  var first = vec4<f32>(0.0);
  var second = vec4<f32>(0.0);
  let groups = step.groups;
  let ragged = step.columns % 8u != 0u;
  for (var g = lane; g < groups; g += LANES) {
    var a = x[base + 2u * g];
    var b = x[base + 2u * g + 1u];
    if (ragged) {
      let left = step.columns - 8u * g;
      a = cut(a, left);
      b = cut(b, max(left, 4u) - 4u);
    }
    first += vec4<f32>(dot8(r0, g, a, b), dot8(r1, g, a, b), dot8(r2, g, a, b), dot8(r3, g, a, b));
    second += vec4<f32>(dot8(r4, g, a, b), dot8(r5, g, a, b), dot8(r6, g, a, b), dot8(r7, g, a, b));
  }
  for (var i = 0u; i < 4u; i++) {
    partial[lane * 8u + i] = first[i];
    partial[lane * 8u + 4u + i] = second[i];
  }
  // A lane for each row: two barriers and a short sum cost less than a tree with a barrier per level.
  workgroupBarrier();
  for (var row = lane; row < 8u; row += LANES) {
    var sum = 0.0;
    for (var i = row; i < LANES * 8u; i += 8u) { sum += partial[i]; }
    sums[row] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    store(token, tile, vec4<f32>(sums[0], sums[1], sums[2], sums[3]));
    store(token, tile + 1u, vec4<f32>(sums[4], sums[5], sums[6], sums[7]));
  }
}

fn dot8(row: u32, group: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
  let w = load8(row, group);
  return dot(w[0], a) + dot(w[1], b);
}
