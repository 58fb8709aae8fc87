// Heads have no sinks; largest scores begin with the least one.
const SINKS = false;

fn sink_of(head: u32) -> f32 { return LEAST_SCORE; }
