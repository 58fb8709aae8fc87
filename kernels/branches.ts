/**
 * Passes of several branches: sequences that all go on from the same cached positions, or from none. Their rows lie one behind another,
 * and so do their slots in the cache. A row sees the positions from which its branch goes on and those of its own branch.
 */
import { bindings, type Kernel, type ReferenceArguments } from "./kernel.ts";
import ownRowsWgsl from "./branches/own_rows.wgsl" with { type: "text" };
import wholeWgsl from "./branches/whole.wgsl" with { type: "text" };

/** A kernel whose WGSL asks `row_begin(token)` at which row of the pass a row's branch begins: at the first, in a pass of one. */
export function ofWholePasses(kernel: Kernel): Kernel {
  const { variant } = kernel;
  return {
    ...kernel,
    variant: (knobs, form) => wholeWgsl + (variant?.(knobs, form) ?? ""),
  };
}

/** The same kernel for passes of several branches, `…_branches`: its last input `branch_first` [T] says where a row's begins. */
export function ofBranches(kernel: Kernel): Kernel {
  const { variant, name } = kernel;
  const binding = 2 + kernel.bindings.length;
  return {
    ...kernel,
    name: `${name}_branches`,
    bindings: [...kernel.bindings, ...bindings("input branch_first")],
    variant: (knobs, form) =>
      `const BRANCH_BINDING = ${binding}u;\n` + ownRowsWgsl + (variant?.(knobs, form) ?? ""),
  };
}

/** The row at which a row's branch begins; `inputs` other inputs come before `branch_first`. */
export function rowBegin({ inputs }: ReferenceArguments, count: number, token: number): number {
  return inputs[count]?.[token] ?? 0;
}

/** Whether a position's slot belongs to a branch before that of the row, which does not see it. */
export function unseen(
  { pass: { start } }: ReferenceArguments,
  begin: number,
  slot: number,
): boolean {
  return slot >= start && slot < start + begin;
}
