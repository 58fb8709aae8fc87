/** What suspected faults would make of each operation, with the cause that it stands for. */
import type { Step } from "../../../engine/plan/plan.ts";
import { activationVariants, addVariants } from "./elementwise.ts";
import { embedVariants } from "./embed.ts";
import { mixVariants, scoresVariants } from "./heads.ts";
import { biasVariants, linearVariants } from "./linear.ts";
import { normalizeVariants, rmsVariants, scaleVariants } from "./norm.ts";
import type { Operation } from "./operation.ts";
import { ropeVariants, storeVariants } from "./rope.ts";
import type { Variant } from "./variant.ts";

/** Lists the variants of one operation. */
type Suspect = (operation: Operation) => Promise<readonly Variant[]> | readonly Variant[];

const SUSPECTS: Readonly<Partial<Record<Step["operation"], Suspect>>> = {
  embed: embedVariants,
  rms: rmsVariants,
  normalize: normalizeVariants,
  scale_columns: scaleVariants,
  linear: linearVariants,
  add_bias: biasVariants,
  rope: ropeVariants,
  store: storeVariants,
  scores: scoresVariants,
  mix: mixVariants,
  swiglu: activationVariants,
  add: addVariants,
};

/** What the known causes would make of an operation. */
export async function variantsOf(operation: Operation): Promise<readonly Variant[]> {
  return await SUSPECTS[operation.step.operation]?.(operation) ?? [];
}
