@group(0) @binding(4) var<storage, read> branch_rows: array<u32>;

fn taken_row(i: u32) -> u32 { return branch_rows[i]; }
