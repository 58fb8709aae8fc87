// A head's sink is the score of a key without a value: it takes a share of the weights (Xiao et al. 2024; gpt-oss).
const SINKS = true;
@group(0) @binding(SINK_BINDING) var<storage, read> sinks: array<f32>;

fn sink_of(head: u32) -> f32 { return sinks[head]; }
