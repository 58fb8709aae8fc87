/** What is compared of a tensor that is not alike in both files, and what is found. */
import type { Cause } from "../../diagnosis/causes.ts";
import type { Band } from "./bands.ts";
import type { Numbers } from "./numbers.ts";
import type { Similarity } from "./similarity.ts";

/** What can be wrong with a tensor: causes that a comparison of passes knows too, and those that only files can have. */
export type DiffCause = Cause | "missing" | "extra" | "renamed" | "shape";

/** What was found. */
export interface Finding {
  readonly cause: DiffCause;
  /** For people: what is wrong, and where. */
  readonly detail: string;
  /** The NMSE when it is undone. */
  readonly undone?: number;
}

/** A tensor of both files that are not alike. */
export interface Suspect {
  readonly name: string;
  readonly a: Numbers;
  readonly b: Numbers;
  readonly band: Band;
  readonly blockSize: number;
  /** Undefined where their shapes differ. */
  readonly found?: Similarity;
}
