// Beginning of every kernel over packed weights; a form (forms/*.wgsl) follows and defines load8(row, group).
// Planes lie one behind another in one buffer; `scales` and `highs` are the word offsets of the later ones.
struct Step {
  columns: u32,
  groups: u32,      // ⌈columns / 8⌉
  scales: u32,
  highs: u32,
  weight_row: u32,  // first row in the planes
  rows: u32,        // rows that this dispatch computes
  out_row: u32,     // where the first of them stands in the whole tensor
  out_rows: u32,    // rows of the whole tensor
  heads: u32,       // only where columns belong to heads
}

@group(0) @binding(3) var<storage, read> weights: array<u32>;
