/** A pass in portions, so that long ones let Ctrl-C in. */
import type { Pass } from "../../kernels/kernel.ts";
import { onLastRows, type Plan } from "./plan.ts";

/**
 * Multiplications in one portion of a prompt's pass, about. The processor, and software drivers, compute on the thread that submits: for
 * as long as a portion takes (a fraction of a second at some 10⁹ a second) nobody hears Ctrl-C.
 */
const PORTION = 2e9;

/** The steps of a pass in runs that are computed one after the other; decoding is one. */
export function* portions(
  plan: Plan,
  { pass, tail }: { readonly pass: Pass; readonly tail: Pass },
): Generator<{ from: number; to: number; last: boolean }> {
  let from = 0;
  let work = 0;
  for (const [i, step] of plan.entries()) {
    const { rows = 0, columns = 0 } = step.constants;
    work += rows * columns * (onLastRows(step) ? tail : pass).tokens;
    const last = i + 1 === plan.length;
    if (!last && (work < PORTION || pass.tokens === 1)) continue;
    yield { from, to: i + 1, last };
    from = i + 1;
    work = 0;
  }
}
