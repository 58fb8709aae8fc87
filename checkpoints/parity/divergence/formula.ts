/** One number of an operation by its formula, in 64-bit floats and with all that goes into it: written apart from the kernels' twins. */
import type { Pass } from "../../../kernels/kernel.ts";
import type { ElementPlace } from "../compare.ts";
import { elementAt, type OperationRecord, type Settings } from "./evidence.ts";
import { ATTENTION_FORMULAS } from "./formulas/attention.ts";
import { EXPERT_FORMULAS } from "./formulas/experts.ts";
import { NUMBER_FORMULAS } from "./formulas/numbers.ts";
import { ROW_FORMULAS } from "./formulas/rows.ts";
import type { Formula, Formulas } from "./formulas/said.ts";

export type { Formula, Terms } from "./formulas/said.ts";

/**
 * Computes a place of an operation; undefined where the operation's outcome has no such place.
 *
 * @param settings the operation's own, or the other side's
 */
export function formulaAt(
  { operation, output }: OperationRecord,
  settings: Settings,
  pass: Pass,
  place: ElementPlace,
): Formula | undefined {
  const element = elementAt(output, pass.start, place);
  if (element === undefined) return undefined;
  const absent = settings.inputs.find(({ data }) => data.length === 0);
  if (absent) {
    return {
      text: `made of ${absent.name}, which is too large for the bundle`,
      facts: [],
      size: 0,
    };
  }
  const { position, head = 0 } = place;
  const said = FORMULAS[operation]?.({
    ...settings,
    ...{ output, pass, place, element, head, token: position - pass.start },
  });
  return said && { size: Math.abs(said.value ?? 0), ...said };
}

/** Of every operation that a plan has, but for the choice of ids. */
const FORMULAS: Formulas = {
  ...ROW_FORMULAS,
  ...NUMBER_FORMULAS,
  ...ATTENTION_FORMULAS,
  ...EXPERT_FORMULAS,
};
