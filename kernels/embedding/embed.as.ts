// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/** Rows of the embedding matrix: see embed.ts. */
import { read_row } from "../weights/read.as.ts";
import { take } from "../work.as.ts";

/** ids [T] → rows of the weight [T, columns]; NaN where an id has no row. */
export function embed(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = load<i32>(pass), columns = load<u32>(step, 96), weight = load<u32>(step, 32);
  const ids = load<u32>(step, 8), y = load<u32>(step, 48);
  for (let t = take(step, 1); t < tokens; t = take(step, 1)) {
    const id = load<u32>(ids + (t << 2)), out = y + ((t * columns) << 2);
    if (id < load<u32>(weight, 8)) {
      read_row(weight, id, out);
    } else {
      for (let i: u32 = 0; i < columns; i++) store<f32>(out + (i << 2), NaN);
    }
  }
}
