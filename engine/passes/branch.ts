/** Turns the steps of a pass into those of a pass of several branches. */
import { KERNELS } from "../../kernels/mod.ts";
import type { Plan, Step, Value } from "../plan.ts";

/** Rows of a pass, and where they belong. */
export interface BranchSize {
  /** Positions of the branch. */
  readonly tokens: number;
  /** Its last rows that get logits. */
  readonly rows: number;
}

const FIRST: Value = { name: "branch_first", shape: ["T"], kind: "ids" };
const ROWS: Value = { name: "branch_rows", shape: ["R"], kind: "ids" };

/** Steps in which a row's own branch counts read where it begins; those that take rows, which ones. */
export function branch(plan: Plan): Plan {
  return plan.map((step): Step => {
    const kernel = `${step.kernel}_branches`;
    // Rows of logits see all of their numbers.
    if (!KERNELS.has(kernel) || (step.kernel === "softmax" && !step.constants.causal)) return step;
    const value = step.kernel === "take_rows" ? ROWS : FIRST;
    return { ...step, kernel, inputs: [...step.inputs, value] };
  });
}

/** The row at which the branch of each row begins, and the rows that get logits. */
export function branchInputs(
  branches: readonly BranchSize[],
): { branch_first: number[]; branch_rows: number[] } {
  const branch_first: number[] = [];
  const branch_rows: number[] = [];
  for (const { tokens, rows } of branches) {
    const first = branch_first.length;
    for (let i = 0; i < tokens; i++) branch_first.push(first);
    for (let i = tokens - rows; i < tokens; i++) branch_rows.push(first + i);
  }
  return { branch_first, branch_rows };
}
