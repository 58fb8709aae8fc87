// W·x of chosen experts for few positions, as in products/matvec.wgsl: a workgroup has some rows of one expert of one position.
override LANES: u32;
override COLUMN_LANES: u32;

@group(0) @binding(4) var<storage, read> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

var<private> lane_: u32;
var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  lane_ = lane;
  let tile = group.x * (LANES / COLUMN_LANES) + lane / COLUMN_LANES;
  let pair = group.y;
  let first = ids[pair] * step.rows;
  let x_row = select(pair, pair / step.used, step.shared_ == 1u);
  let r0 = part_row(first, tile * 4u);
  let r1 = part_row(first, tile * 4u + 1u);
  let r2 = part_row(first, tile * 4u + 2u);
  let r3 = part_row(first, tile * 4u + 3u);
  // A part of a split matrix has nothing of most experts.
  let chunks = select(0u, step.groups / CHUNK_GROUPS, part_has(first));
  var sum = vec4<f32>(0.0);
  for (var c = first_chunk(lane); c < chunks; c += COLUMN_LANES) {
    let columns = load_columns(x_row, c);
    sum += vec4<f32>(
      dot_columns(r0, c, columns),
      dot_columns(r1, c, columns),
      dot_columns(r2, c, columns),
      dot_columns(r3, c, columns),
    );
  }
  if (COLUMN_LANES > 1u) {
    partial[lane] = sum;
    workgroupBarrier();
    for (var i = 1u; lane % COLUMN_LANES == 0u && i < COLUMN_LANES; i++) { sum += partial[lane + i]; }
  }
  if (lane % COLUMN_LANES == 0u) { store(pair, first, tile, sum); }
}
