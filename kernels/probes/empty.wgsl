// Nothing: what a dispatch costs.
@compute @workgroup_size(1)
fn main() {}
