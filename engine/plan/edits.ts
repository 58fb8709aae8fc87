/** Interventions: values of the forward pass that are changed before the steps after them read them. */
import type { HostTensor } from "../host_tensor.ts";

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
  /** Absolute position of the first row. */
  readonly firstPosition: number;
  /** Of attention: keys of each row, at least as many as the last position sees. */
  readonly keys?: number;
}

/** x → x · scale + operand, on the device; keys that a query does not see keep their mask. */
export interface LinearEdit {
  /** Tells it from a {@linkcode FunctionEdit}. */
  readonly kind: "linear";
  /** Canonical name of the point. */
  readonly point: string;
  /** What it touches; everything without it. */
  readonly where?: Selection;
  /** Factor on the numbers that are touched: 0 replaces them. */
  readonly scale: number;
  /** A vector [heads · features] added to each row. */
  readonly vector?: Float32Array;
  /** Rows added to those from `firstPosition` on; others are left alone. */
  readonly rows?: EditRows;
}

/** Any function of the values: the pass waits while they are on the host. */
export interface FunctionEdit {
  /** Tells it from a {@linkcode LinearEdit}. */
  readonly kind: "function";
  /** Canonical name of the point. */
  readonly point: string;
  /**
   * Gets the value as this pass made it and the absolute position of its first row; returns the numbers that take its
   * place, or nothing when it changed `tensor.data` itself.
   */
  readonly apply: (tensor: HostTensor, start: number) => Float32Array | void;
}

/** One edit. In a list they are made one after the other. */
export type Edit = LinearEdit | FunctionEdit;

/** The edit list of passes without edits. */
export const NO_EDITS: readonly Edit[] = [];

/** An edit that cannot be made: which point, and why. */
export class EditError extends RangeError {
  /** The class's name. */
  override readonly name = "EditError";
  /**
   * Thrown before the pass that the edit belongs to; of a function, when it has returned.
   *
   * @param point the canonical name, or the alias that was asked for
   * @param problem what the message goes on with
   */
  constructor(readonly point: string, problem: string) {
    super(`Cannot edit ${point}: ${problem}`);
  }
}
