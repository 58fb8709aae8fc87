// @ts-nocheck: AssemblyScript, which `./denow task kernels` compiles
// deno-fmt-ignore-file: it drops decorators
/** Which of the cached keys a row sees: see seen.ts. */

/** The first position that one sees. */
@inline
export function firstSeen(window: i32, chunk: i32, position: i32): i32 {
  const first: i32 = window > 0 ? max(0, position + 1 - window) : 0;
  return chunk > 0 ? max(first, position - position % chunk) : first;
}

/** The first slot that a row sees, where slots from `gap` to `gapEnd` are another branch's; `slot` is its own. */
@inline
export function firstSlot(window: i32, chunk: i32, slot: i32, gap: i32, gapEnd: i32): i32 {
  const hidden = gapEnd - gap;
  const first = firstSeen(window, chunk, slot - hidden);
  return first < gap ? first : first + hidden;
}
