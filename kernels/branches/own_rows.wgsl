// The pass has several branches: the row at which that of each row begins.
@group(0) @binding(BRANCH_BINDING) var<storage, read> branch_first: array<u32>;

fn row_begin(token: u32) -> u32 { return branch_first[token]; }
