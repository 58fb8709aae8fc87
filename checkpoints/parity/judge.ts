/** The local verdict: how far what our kernels make of a reference's own inputs may be from what the reference made of them. */
import { compareTensors, localAllowance } from "./compare.ts";
import type { ParityOptions } from "./cases.ts";
import type { Judge } from "./local.ts";
import type { ChainModel } from "./rounded_engines/rounded_chain.ts";
import { roundedJudge } from "./rounded_engines/rounded_judge.ts";
import { isRounded } from "./rounded_engines/rounding.ts";
import { activationsOf, type Provenance } from "../references/reference.ts";
import { judgedByRounding } from "./weights/weights_judge.ts";

/**
 * The judge of a comparison with a reference whose activations are of some type, and perhaps its weights of another than ours.
 *
 * @param model what is compared: from it follows what rounding may make of a point
 * @throws {RangeError} for rounded activations without the file of the weights
 */
export function judgeOf(
  provenance: Pick<Provenance, "activations" | "halves">,
  { weights, file }: Pick<ParityOptions, "weights" | "file">,
  model: Omit<ChainModel, "file">,
): Judge {
  const { activations } = provenance;
  if (isRounded(activations) && !weights) {
    if (!file) throw new RangeError("Cannot judge an engine that rounds without the weights' file");
    return roundedJudge({ ...model, file }, activations);
  }
  return (value, pass) => {
    const { point, ours, reference, start } = value;
    const allowance = localAllowance(point, activationsOf(point, provenance));
    const difference = compareTensors(point, ours, reference, allowance, start);
    return weights ? judgedByRounding(value, pass, weights, difference, allowance) : difference;
  };
}
