// W·x for few positions. A workgroup's lanes are COLUMN_LANES × rows: a lane computes a tile of four rows for one position, over the
// chunks of columns that are its own; the sums of lanes that share a tile are added up in a fixed order.
override LANES: u32;
override COLUMN_LANES: u32;

var<private> lane_: u32;
var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  lane_ = lane;
  // Tiles may outnumber what one dimension of a dispatch can count.
  let tile = (group.x + group.z * 32768u) * (LANES / COLUMN_LANES) + lane / COLUMN_LANES;
  let token = group.y;
  let r0 = weight_row(tile, 0u);
  let r1 = weight_row(tile, 1u);
  let r2 = weight_row(tile, 2u);
  let r3 = weight_row(tile, 3u);
  let chunks = step.groups / CHUNK_GROUPS;
  var sum = vec4<f32>(0.0);
  for (var c = first_chunk(lane); c < chunks; c += COLUMN_LANES) {
    let columns = load_columns(token, c);
    sum += vec4<f32>(
      dot_columns(r0, c, columns),
      dot_columns(r1, c, columns),
      dot_columns(r2, c, columns),
      dot_columns(r3, c, columns),
    );
  }
  if (COLUMN_LANES > 1u) {
    // One lane adds up: a barrier and a short sum cost less than a tree with a barrier per level.
    partial[lane] = sum;
    leave_squares(lane);
    workgroupBarrier();
    for (var i = 1u; lane % COLUMN_LANES == 0u && i < COLUMN_LANES; i++) {
      sum += partial[lane + i];
      add_squares(lane + i);
    }
  }
  sum = finished(sum);
  if (lane % COLUMN_LANES == 0u) { store(token, tile, sum); }
  if (group.x == 0u && group.z == 0u) { store_norm(token, lane); }
}
