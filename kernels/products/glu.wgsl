// act(Wg·x) · (Wu·x): the gate's rows lie before the up rows in the planes; a tile has two of each.
override ACTIVATION: u32;
override TAP_GATE: bool = false;
override TAP_UP: bool = false;

@group(0) @binding(4) var<storage, read_write> act: array<f32>;
@group(0) @binding(5) var<storage, read_write> gate: array<f32>;
@group(0) @binding(6) var<storage, read_write> up: array<f32>;

fn weight_row(tile: u32, i: u32) -> u32 {
  let row = min(tile * 2u + (i & 1u), step.rows - 1u);
  return step.weight_row + row + select(0u, step.rows, i >= 2u);
}

fn store1(token: u32, row: u32, g: f32, u: f32) {
  if (row >= step.rows) { return; }
  let at = token * step.rows + row;
  if (TAP_GATE) { gate[at] = g; }
  if (TAP_UP) { up[at] = u; }
  act[at] = gated(ACTIVATION, g, u);
}

fn store(token: u32, tile: u32, sum: vec4<f32>) {
  store1(token, tile * 2u, sum.x, sum.z);
  store1(token, tile * 2u + 1u, sum.y, sum.w);
}
