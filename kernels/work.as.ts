// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** How threads share the work of a step. */

/** Takes the next `count` items of a step's work; the first of them. Whoever gets one behind the last has finished. */
export function take(step: usize, count: i32): i32 {
  return atomic.add<i32>(step + 252, count);
}
