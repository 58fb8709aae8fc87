/** The local verdict: how far what our kernels make of a reference's own inputs may be from what the reference made of them. */
import { compareTensors, type Difference, judgedByNmse, localAllowance } from "./compare.ts";
import type { ParityOptions } from "./cases.ts";
import type { LocalValue } from "./local.ts";
import type { ChainModel } from "./rounded_chain.ts";
import { roundedJudge } from "./rounded_judge.ts";
import { isRounded } from "./rounding.ts";
import type { Provenance, ReferencePass } from "../references/reference.ts";

/** Judges one operation's outcome; `pass` has what the reference shows of its inputs. */
export type Judge = (value: LocalValue, pass: ReferencePass) => Difference | Promise<Difference>;

/**
 * The judge of a comparison with a reference whose activations are of some type, and perhaps its weights of another than ours.
 *
 * @param model what is compared: from it follows what rounding may make of a point
 * @throws {RangeError} for rounded activations without the file of the weights
 */
export function judgeOf(
  { activations }: Pick<Provenance, "activations">,
  { usualError, file }: Pick<ParityOptions, "usualError" | "file">,
  model: Omit<ChainModel, "file">,
): Judge {
  if (isRounded(activations) && !usualError) {
    if (!file) throw new RangeError("Cannot judge an engine that rounds without the weights' file");
    return roundedJudge({ ...model, file }, activations);
  }
  return ({ point, ours, reference, start, step }) => {
    const allowance = localAllowance(point);
    const difference = compareTensors(point, ours, reference, allowance, start);
    const usual = usualError?.(step.weights);
    return usual === undefined ? difference : judgedByNmse(difference, usual);
  };
}
