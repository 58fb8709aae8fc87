// Experts are chosen by their logits: gates keep them in order.
fn bias_of(expert: u32) -> f32 { return 0.0; }
fn choice_of(expert: u32, logit: f32, gate: f32) -> f32 { return logit; }
