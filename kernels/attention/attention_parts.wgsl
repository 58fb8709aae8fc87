// Keys are taken in runs: those from which a row's branch goes on, and its own; the gap between them is passed over.
fn next_key(key: u32, gap: vec2<u32>) -> u32 {
  return select(key, max(key, gap.y), key >= gap.x);
}

// The end of the run that a key is in.
fn run_end(key: u32, gap: vec2<u32>, end: u32) -> u32 {
  return select(end, min(end, gap.x), key < gap.x);
}

// How the keys of long contexts are shared out among workgroups: those that a pass of one sequence sees any of.
const PART_KEYS = 128u;
const MOST_PARTS = 16u;

fn parts_begin() -> u32 { return first_key(0u, vec2<u32>(0u)); }

// Keys of a part: whole tiles, but for the last part.
fn part_keys() -> u32 {
  let most = PART_KEYS * MOST_PARTS;
  return (pass_.start + pass_.tokens - parts_begin() + most - 1u) / most * PART_KEYS;
}

fn part_count() -> u32 {
  return (pass_.start + pass_.tokens - parts_begin() + part_keys() - 1u) / part_keys();
}

// Of the keys that a row sees, the first and the end of those in a part.
fn part_range(part: u32, seen: vec2<u32>) -> vec2<u32> {
  let first = parts_begin() + part * part_keys();
  return clamp(vec2<u32>(first, first + part_keys()), vec2<u32>(seen.x), vec2<u32>(seen.y));
}
