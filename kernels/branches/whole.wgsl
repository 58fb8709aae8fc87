// The pass is one sequence.
fn row_begin(token: u32) -> u32 { return 0u; }
