// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/** The heads' own contributions to the residual stream: see edit.ts. */
import { many } from "../products/cpu/many.as.ts";
import { unpackTile } from "../weights/read.as.ts";
import { take } from "../work.as.ts";

/** head_out [T, heads · d] → [T, heads, rows]: each head's columns of the matrix [rows, heads · d] times its own part of x. */
export function head_result(step: usize, pass: usize, thread: i32, _threads: i32): void {
  const tokens = load<i32>(pass), heads = load<i32>(step, 96);
  const columns = load<i32>(step, 100), rows = load<i32>(step, 104);
  const x = <usize> load<u32>(step, 8), weight = <usize> load<u32>(step, 32);
  const y = <usize> load<u32>(step, 48);
  const sums = <usize> load<u32>(pass, 12) + <usize> thread * <usize> load<u32>(pass, 16);
  const free = sums + (<usize> tokens << 5);
  if (free + (<usize> (columns + 3) << 5) > sums + <usize> load<u32>(pass, 16)) unreachable();
  const width = columns / heads, tiles = (rows + 7) >> 3;
  for (let i = take(step, 1); i < tiles; i = take(step, 1)) {
    const tile = unpackTile(weight, i, free), count = min(8, rows - (i << 3));
    for (let head = 0; head < heads; head++) {
      const first = <usize> head * width;
      many(tile + (first << 5), x + (first << 2), <usize> columns << 2, width, tokens, sums);
      for (let t = 0; t < tokens; t++) {
        const out = y + (((<usize> t * heads + head) * rows + (i << 3)) << 2);
        for (let r = 0; r < count; r++) {
          store<f32>(out + (<usize> r << 2), load<f32>(sums + (<usize> t << 5) + (<usize> r << 2)));
        }
      }
    }
  }
}
