// x goes into the product as it is.
fn taken(v: vec4<f32>, i: u32) -> vec4<f32> { return v; }
fn taken1(v: f32, column: u32) -> f32 { return v; }
fn leave_squares(lane: u32) {}
fn add_squares(lane: u32) {}
fn finished(sum: vec4<f32>) -> vec4<f32> { return sum; }
fn store_norm(token: u32, lane: u32) {}
