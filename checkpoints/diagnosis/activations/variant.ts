/** What a suspected fault would make of an operation. */
import type { Cause } from "../causes.ts";

/** What one fault would make of one operation. */
export interface Variant {
  /** `unknown` for a fault without a name, which can be told from those that have one. */
  readonly cause: Cause;
  /** The fault in figures: which base, which offset, which order. The same fault of several operations has the same words. */
  readonly what: string;
  /** The weight that is concerned. */
  readonly where?: string;
  /** Whether it has numbers of its own that were fitted to the data: then it has to explain more. */
  readonly fitted?: boolean;
  make(): Float32Array;
}

/** The largest number of a 16-bit float. */
export const LARGEST_F16 = 65504;
/** Scores of hidden keys are below this. */
export const HIDDEN = -1e29;
