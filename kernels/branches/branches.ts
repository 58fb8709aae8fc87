/**
 * Passes of several branches: sequences that go on from the beginning of what is cached, each from a position of its own, or from none.
 * Their rows lie one behind another, and so do their slots in the cache, behind what is cached. A row sees the positions from which its
 * branch goes on and those of its own branch: all slots up to its own but a gap.
 */
import { bindings, type Kernel, kernel, type TwinArguments } from "../kernel.ts";
import ownRowsWgsl from "./own_rows.wgsl" with { type: "text" };
import wholeWgsl from "./whole.wgsl" with { type: "text" };

/** A kernel whose WGSL asks `row_gap(token)` which slots before its own a row does not see: none, in a pass of one. */
export function ofWholePasses(any: Kernel): Kernel {
  return {
    ...any,
    prologue: (knobs, packing) => wholeWgsl + (any.prologue?.(knobs, packing) ?? ""),
  };
}

/** The same kernel for passes of several branches: its last input `branch_gaps` [T, 2] says where a row's gap begins and ends. */
export function ofBranches(any: Kernel): Kernel {
  const binding = 2 + any.bindings.length;
  return kernel({
    ...any,
    branches: true,
    bindings: [...any.bindings, ...bindings("input branch_gaps u32")],
    prologue: (knobs, packing) =>
      `const BRANCH_BINDING = ${binding}u;\n` + ownRowsWgsl +
      (any.prologue?.(knobs, packing) ?? ""),
  });
}

/** First slot and end of a row's gap; `inputs` other inputs come before `branch_gaps`. */
export function rowGap(
  { inputs }: TwinArguments,
  count: number,
  token: number,
): readonly [first: number, end: number] {
  const gaps = inputs[count];
  return gaps ? [gaps[2 * token], gaps[2 * token + 1]] : [0, 0];
}
