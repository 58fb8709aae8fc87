// One f16 scale per block of 32, two blocks to a word: weight = d · (q − OFFSET).
fn load8(row: u32, group: u32) -> mat2x4<f32> {
  let block = row * (((step.groups + 7u) >> 3u) << 1u) + (group >> 2u);
  let pair = unpack2x16float(weights[step.scales + (block >> 1u)]);
  let d = select(pair.x, pair.y, (block & 1u) == 1u);
  let q = quants8(row, group);
  return mat2x4<f32>((q[0] - OFFSET) * d, (q[1] - OFFSET) * d);
}
