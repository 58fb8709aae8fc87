/** Turns the steps of a pass into those of a pass of several branches. */
import { kernelOf } from "../../../kernels/mod.ts";
import type { Plan, Step, Value } from "../plan.ts";

/** Rows of a pass, and where they belong. */
export interface BranchSize {
  /** Positions of the branch. */
  readonly tokens: number;
  /** Its last rows that get logits. */
  readonly rows: number;
  /** Cached positions that it goes on from. */
  readonly from: number;
}

const GAPS: Value = { name: "branch_gaps", shape: ["T", 2], dtype: "u32", kind: "ids" };
const ROWS: Value = { name: "branch_rows", shape: ["R"], dtype: "u32", kind: "ids" };

/** Steps in which a row's own branch counts read what it does not see; those that take rows, which ones. */
export function branch(plan: Plan): Plan {
  return plan.map((step): Step => {
    const branched = { ...step, branches: true };
    // Rows of logits see all of their numbers.
    const whole = step.operation === "softmax" && !step.constants.causal;
    if (whole || !kernelOf(branched)) return step;
    const value = step.operation === "take_rows" ? ROWS : GAPS;
    return { ...branched, inputs: [...step.inputs, value] };
  });
}

/** Of each row, the slots that its branch does not see, in a pass after `start` positions; and the rows that get logits. */
export function branchInputs(
  branches: readonly BranchSize[],
  start: number,
): { branch_gaps: number[]; branch_rows: number[] } {
  const branch_gaps: number[] = [];
  const branch_rows: number[] = [];
  for (const { tokens, rows, from } of branches) {
    const first = branch_gaps.length / 2;
    for (let i = 0; i < tokens; i++) branch_gaps.push(from, start + first);
    for (let i = tokens - rows; i < tokens; i++) branch_rows.push(first + i);
  }
  return { branch_gaps, branch_rows };
}
