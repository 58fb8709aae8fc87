// An intervention: y = x where nothing is selected, else x · scale + operand. What is selected say three lists of flags
// (heads, features, positions), each used only where it does not cover everything. Of attention rows only keys that the query
// sees are touched: the others keep their mask, and a mask is not scaled but only replaced.
override LANES: u32;

struct Step {
  heads: u32,
  features: u32,          // of one head; 0: the keys of an attention row
  scale: f32,
  operand: u32,           // 0: none, 1: [heads, columns], 2: [positions, heads, columns]
  operand_columns: u32,   // features, or as many keys as the rows of attention that are handed in have
  first_position: u32,    // of the operand's rows
  some_heads: u32,
  some_features: u32,     // their number of flags
  some_positions: u32,
}

@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> operand: array<f32>;
// Flags: heads, then features, then positions.
@group(0) @binding(4) var<storage, read> selected: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let attention = step.features == 0u;
  let features = select(step.features, pass_.start + pass_.tokens, attention);
  if (id.x >= features) { return; }
  let feature = id.x;
  let token = id.y;
  let head = id.z;
  // Attention rows lie [heads, positions, keys], everything else [positions, heads, features].
  let row = select(token * step.heads + head, head * pass_.tokens + token, attention);
  let at = row * features + feature;
  let position = pass_.start + token;
  // Flags of features: as many as a head has, or as many as there can be keys.
  let after_features = step.heads + step.some_features;
  // By its bits: of a scale that is NaN compilers may assume that it does not occur.
  let replaces = (bitcast<u32>(step.scale) & 0x7fffffffu) == 0u;
  let hidden = attention && (feature > position || (x[at] <= MASKED && !replaces));
  let chosen = !hidden &&
    (step.some_heads == 0u || selected[head] == 1.0) &&
    (step.some_features == 0u || selected[step.heads + feature] == 1.0) &&
    (step.some_positions == 0u || selected[after_features + position] == 1.0);
  if (!chosen) {
    y[at] = x[at];
    return;
  }
  // Zeroing must also remove NaN and infinity.
  var value = 0.0;
  if (!replaces) { value = x[at] * step.scale; }
  if (step.operand == 1u) {
    value += operand[head * step.operand_columns + feature];
  } else if (step.operand == 2u) {
    let operand_row = (position - step.first_position) * step.heads + head;
    value += operand[operand_row * step.operand_columns + feature];
  }
  y[at] = value;
}
