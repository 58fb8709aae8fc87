// Keys are taken in runs: those from which a row's branch goes on, and its own; the gap between them is passed over.
fn next_key(key: u32, gap: vec2<u32>) -> u32 {
  return select(key, max(key, gap.y), key >= gap.x);
}

// The end of the run that a key is in.
fn run_end(key: u32, gap: vec2<u32>, end: u32) -> u32 {
  return select(end, min(end, gap.x), key < gap.x);
}

// How the keys of long contexts are shared out among workgroups.
const PART_KEYS = 128u;
const MOST_PARTS = 16u;

// Keys of a part: whole tiles, but for the last part.
fn part_keys() -> u32 {
  let most = PART_KEYS * MOST_PARTS;
  return (pass_.start + pass_.tokens + most - 1u) / most * PART_KEYS;
}

fn part_count() -> u32 {
  return (pass_.start + pass_.tokens + part_keys() - 1u) / part_keys();
}

// First key of a part and the end of its visible keys.
fn part_range(part: u32, visible: u32) -> vec2<u32> {
  let first = min(part * part_keys(), visible);
  return vec2<u32>(first, min(first + part_keys(), visible));
}
