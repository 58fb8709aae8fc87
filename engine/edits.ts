/** Interventions: values of the forward pass that are changed before the steps after them read them. */
import type { HostTensor } from "./backend.ts";

/** Which numbers of a value an edit touches; everything, where a list is left out. */
export interface Selection {
  /** Heads (of `k`, `v` and the cache: key/value heads). */
  readonly heads?: readonly number[];
  /** Absolute positions; of attention rows, those of the queries. */
  readonly positions?: readonly number[];
  /** Features; of attention rows, keys. */
  readonly features?: readonly number[];
}

/** Rows of consecutive positions. */
export interface EditRows {
  /** [positions, heads, features]; of attention [positions, heads, keys]. */
  readonly data: Float32Array;
  readonly firstPosition: number;
  /** Of attention: keys of each row, at least as many as the last position sees. */
  readonly keys?: number;
}

/** x → x · scale + operand, on the device; keys that a query does not see keep their mask. */
export interface LinearEdit {
  readonly kind: "linear";
  readonly point: string;
  readonly where?: Selection;
  readonly scale: number;
  /** A vector [heads · features] added to each row. */
  readonly vector?: Float32Array;
  /** Rows added to those from `firstPosition` on; others are left alone. */
  readonly rows?: EditRows;
}

/** Any function of the values: the pass waits while they are on the host. */
export interface FunctionEdit {
  readonly kind: "function";
  readonly point: string;
  /**
   * Gets the value as this pass made it and the absolute position of its first row; returns the numbers that take its
   * place, or nothing when it changed `tensor.data` itself.
   */
  readonly apply: (tensor: HostTensor, start: number) => Float32Array | void;
}

/** One edit. In a list they are made one after the other. */
export type Edit = LinearEdit | FunctionEdit;

/** An edit that cannot be made: which point, and why. */
export class EditError extends RangeError {
  override readonly name = "EditError";
  constructor(readonly point: string, problem: string) {
    super(`Cannot edit ${point}: ${problem}`);
  }
}
