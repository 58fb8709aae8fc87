/** What one pass is asked for. */
import type { Edit } from "./plan/edits.ts";
import type { BranchSize } from "./plan/passes/branch.ts";
import type { SamplingOptions } from "./sampling.ts";

/** What one pass computes. */
export interface PassRequest {
  /**
   * Token ids of this pass; or `"next"`: the one id that the previous pass chose for its last row, taken without a read-back. That
   * pass must have been asked for `sample` (which counts where both are) or `argmax`. Where that is −1, since its logits are not all
   * numbers, this pass's results are good for nothing.
   */
  readonly ids: readonly number[] | "next";
  /** R: how many of the last rows get logits. Default 1. */
  readonly rows?: number;
  /**
   * Points to bring back. Default `["logits"]`. Beside those that have names for people: `argmax`, the likeliest id of each of the
   * R rows, and `sample`, the one id that follows the last row by `sampling`; −1 where the logits are not all numbers. `surprisal` is
   * −ln p of `nextIds` for the R rows, in nats; NaN where the id is not known or the logits are not all numbers.
   */
  readonly wanted?: readonly string[];
  /** How `sample` is chosen: these options, the logits and the ids of the sequence decide, nothing else. Default: greedy. */
  readonly sampling?: SamplingOptions;
  /** Absolute positions whose rows come back; all of the pass's where left out. */
  readonly positions?: readonly number[];
  /** Points of which all rows come back in spite of `positions`. */
  readonly whole?: readonly string[];
  /** Points of which only the last row comes back. */
  readonly lastRow?: readonly string[];
  /** The ids that follow the R rows, for `surprisal`; undefined where that is not known. */
  readonly nextIds?: readonly (number | undefined)[];
  /** Interventions, one after the other. The same list again is prepared only once. */
  readonly edits?: readonly Edit[];
  /**
   * Several sequences in this pass, each with so many of the ids: each goes on from some of the session's first positions and sees
   * nothing of the others, and the session stays where it is. Rows of logits are then the last ones of each. See branches.ts.
   */
  readonly branches?: readonly BranchSize[];
  /** Values that are handed in instead of being computed: the pass resumes from them. They are dense, for all of its positions. */
  readonly given?: ReadonlyMap<string, Float32Array>;
}
