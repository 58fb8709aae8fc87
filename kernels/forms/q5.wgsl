// Five bits per weight: low nibbles as in q4.wgsl, and a plane with one word of fifth bits per block of
// 32, bit i for column i.
fn quants8(row: u32, group: u32) -> mat2x4<f32> {
  let word = weights[row * step.groups + group];
  let high = weights[step.highs + row * (step.groups >> 2u) + (group >> 2u)] >> ((group & 3u) * 8u);
  let first = vec4<u32>(high, high >> 1u, high >> 2u, high >> 3u) & vec4<u32>(1u);
  let second = vec4<u32>(high >> 4u, high >> 5u, high >> 6u, high >> 7u) & vec4<u32>(1u);
  return mat2x4<f32>(
    vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu) | (first << vec4<u32>(4u))),
    vec4<f32>(unpack4xU8((word >> 4u) & 0x0f0f0f0fu) | (second << vec4<u32>(4u))),
  );
}
