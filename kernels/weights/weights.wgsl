// Beginning of every kernel over packed weights; a packing (packings/*.wgsl) follows. It defines load8(row, group), eight columns of a row;
// load_block(row, block) and eight(block, i), a block of its columns and eight of them; and dot_columns(row, block, x), the product of
// a block with as many numbers of x. Blocks have 32 columns, of plain types 8.
// Planes lie one behind another in one buffer; `scales` and `highs` are the word offsets of the later ones.
struct Step {
  columns: u32,
  groups: u32,      // ⌈columns / 8⌉
  scales: u32,
  highs: u32,
  weight_row: u32,  // first row in the planes
  rows: u32,        // rows that this dispatch computes
  out_row: u32,     // where the first of them stands in the whole tensor
  out_rows: u32,    // rows of the whole tensor; of experts, those in the planes
  heads: u32,       // only where columns belong to heads
  epsilon: f32,     // only where x is normed
  head_width: u32,  // these only where q and k are turned by RoPE
  rope_width: u32,
  half_style: u32,
  rope_start: u32,
  used: u32,        // these only where a position has several experts
  shared_: u32,     // `shared`, which WGSL keeps for itself
}

@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;

fn word(i: u32) -> u32 {
  return weights[i >> 2u][i & 3u];
}

// sum + w · x, column by column: four sums that are added up at the end (see total).
fn fma8(w: mat2x4<f32>, x: mat2x4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return fma(w[1], x[1], fma(w[0], x[0], sum));
}

fn total(sum: vec4<f32>) -> f32 {
  return (sum.x + sum.y) + (sum.z + sum.w);
}
