@group(0) @binding(5) var<storage, read> bias: array<f32>;

// Experts are chosen by their gates and a bias.
fn bias_of(expert: u32) -> f32 { return bias[expert]; }
fn choice_of(expert: u32, logit: f32, gate: f32) -> f32 { return gate + bias[expert]; }
