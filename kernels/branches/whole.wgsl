// The pass is one sequence.
fn row_gap(token: u32) -> vec2<u32> { return vec2<u32>(0u); }
