/** The local verdict: how far what our kernels make of a reference's own inputs may be from what the reference made of them. */
import { compareTensors, type Difference, localAllowance } from "./compare.ts";
import type { ParityOptions } from "./cases.ts";
import type { LocalValue } from "./local.ts";
import type { Provenance, ReferencePass } from "../references/reference.ts";
import { judgedByRounding } from "./weights_judge.ts";

/** Judges one operation's outcome; `pass` has what the reference shows of its inputs. */
export type Judge = (value: LocalValue, pass: ReferencePass) => Difference | Promise<Difference>;

/** The judge of a comparison with a reference whose activations are of some type, and perhaps its weights of another than ours. */
export function judgeOf(
  { activations }: Pick<Provenance, "activations">,
  { weights }: Pick<ParityOptions, "weights">,
): Judge {
  return (value, pass) => {
    const { point, ours, reference, start } = value;
    const allowance = localAllowance(point, activations);
    const difference = compareTensors(point, ours, reference, allowance, start);
    return weights ? judgedByRounding(value, pass, weights, difference, allowance) : difference;
  };
}
