/** Causes of parts that a Llama does not have: faults of other families show them. */
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";

/** Each is injected in tests/checkpoints/diagnosis/families_test.ts. */
export const FAMILY_CAUSES = [
  ...["window", "alibi", "sinks", "clamp", "query-scaling", "qk-norm", "post-norm"],
  ...["embedding-scale", "residual-scale", "logit-scale", "rope-magnitude", "longrope-factors"],
  ...["expert-choice", "expert-weights", "shared-expert"],
] as readonly Cause[];
