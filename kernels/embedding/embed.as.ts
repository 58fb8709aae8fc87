// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
/** Rows of the embedding matrices: see embed.ts. */
import { gapEndOf, gapOf, ofBranches } from "../record.as.ts";
import { read_row } from "../weights/read.as.ts";
import { take } from "../work.as.ts";

/** ids [T] → rows of the weight [T, columns]; NaN where an id has no row. */
export function embed(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = load<i32>(pass), columns = load<u32>(step, 96), weight = load<u32>(step, 32);
  const ids = load<u32>(step, 8), y = load<u32>(step, 48);
  for (let t = take(step, 1); t < tokens; t = take(step, 1)) {
    copyRow(weight, load<u32>(ids + (t << 2)), columns, y + ((t * columns) << 2));
  }
}

/** Rows of the weight at the positions of the pass [T, columns], of branches at their own; NaN where a position has no row. */
export function embed_positions(step: usize, pass: usize, _thread: i32, _threads: i32): void {
  const tokens = load<i32>(pass), columns = load<u32>(step, 96), weight = load<u32>(step, 32);
  const start = load<i32>(pass, 4), y = load<u32>(step, 48);
  const gaps: usize = ofBranches(step) ? load<u32>(step, 8) : 0;
  for (let t = take(step, 1); t < tokens; t = take(step, 1)) {
    const position = start + t - (gapEndOf(gaps, t) - gapOf(gaps, t));
    copyRow(weight, position, columns, y + ((t * columns) << 2));
  }
}

function copyRow(weight: usize, row: u32, columns: u32, out: usize): void {
  if (row < load<u32>(weight, 8)) {
    read_row(weight, row, out);
  } else {
    for (let i: u32 = 0; i < columns; i++) store<f32>(out + (i << 2), NaN);
  }
}
