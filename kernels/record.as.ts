// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** What a step's record and a pass hold: see engine/cpu/records.ts. */

/** Address of an input, in the order of the kernel's bindings. */
@inline
export function input(step: usize, i: i32): usize {
  return <usize> load<u32>(step + (<usize> i << 2), 8);
}

/** Address of a weight: plain numbers, or the descriptor of a matrix. */
@inline
export function weight(step: usize, i: i32): usize {
  return <usize> load<u32>(step + (<usize> i << 2), 32);
}

/** Address of an output; 0 for a tap that is not wanted. */
@inline
export function output(step: usize, i: i32): usize {
  return <usize> load<u32>(step + (<usize> i << 2), 48);
}

/** A constant that is a whole number. */
@inline
export function constant(step: usize, i: i32): i32 {
  return load<i32>(step + (<usize> i << 2), 96);
}

/** A constant that is a 32-bit float. */
@inline
export function float(step: usize, i: i32): f32 {
  return load<f32>(step + (<usize> i << 2), 96);
}

/** Whether the rows of a step belong to several branches. */
@inline
export function ofBranches(step: usize): bool {
  return load<u32>(step, 160) != 0;
}

/** Whether a step is made for few positions. */
@inline
export function forFew(step: usize): bool {
  return load<u32>(step, 168) != 0;
}

/** T: positions of a pass. */
@inline
export function tokensOf(pass: usize): i32 {
  return load<i32>(pass);
}

/** Positions that the cache held before. */
@inline
export function startOf(pass: usize): i32 {
  return load<i32>(pass, 4);
}

/** R: rows of logits. */
@inline
export function rowsOf(pass: usize): i32 {
  return load<i32>(pass, 8);
}

/** Address of a thread's own scratch memory. */
@inline
export function scratchOf(pass: usize, thread: i32): usize {
  return <usize> load<u32>(pass, 12) + <usize> thread * <usize> load<u32>(pass, 16);
}

/** First slot of the gap that a row of a branch does not see; `gaps` 0: no branches. */
@inline
export function gapOf(gaps: usize, token: i32): i32 {
  return gaps ? load<i32>(gaps + (<usize> token << 3)) : 0;
}

/** The slot behind that gap. */
@inline
export function gapEndOf(gaps: usize, token: i32): i32 {
  return gaps ? load<i32>(gaps + (<usize> token << 3), 4) : 0;
}
