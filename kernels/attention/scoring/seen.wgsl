// Which of the cached keys a row sees: those of its sequence up to its own, and of these the last `window` ones or those of its own chunk,
// where there are windows or chunks. Both are counted in positions.

// The first slot that a row sees.
fn first_key(token: u32, gap: vec2<u32>) -> u32 {
  let hidden = gap.y - gap.x;
  let position = pass_.start + token - hidden;
  var first = 0u;
  if (step.window > 0u && position >= step.window) { first = position + 1u - step.window; }
  if (step.chunk > 0u) { first = max(first, position - position % step.chunk); }
  return first + select(0u, hidden, first >= gap.x);
}

// How many positions a key lies before a row.
fn distance_to(key: u32, token: u32, gap: vec2<u32>) -> u32 {
  return pass_.start + token - key - select(0u, gap.y - gap.x, key < gap.x);
}
