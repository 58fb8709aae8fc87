// The pass has several branches: of each row, the slots from which its branch goes on end at x, and its own begin at y.
@group(0) @binding(BRANCH_BINDING) var<storage, read> branch_gaps: array<vec2<u32>>;

fn row_gap(token: u32) -> vec2<u32> { return branch_gaps[token]; }
