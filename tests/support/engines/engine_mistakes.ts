/** What an engine can get wrong, and what it says of itself where it does. */
import type { GgmlType } from "../../../engine/gguf/types.ts";

/** A weight as an engine holds it: [rows, columns]; vectors are one row. */
export interface Weight {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
  /** As the file has it. */
  readonly stored?: Stored;
}

/** The bytes of a weight. */
export interface Stored {
  readonly type: GgmlType;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** How positions turn q and k. */
export interface Rope {
  readonly base: number;
  /** Numbers of a head that turn. */
  readonly width: number;
  /** Divides positions. */
  readonly factor: number;
  /** Added to positions. */
  readonly offset: number;
  readonly pairs: "adjacent" | "half";
  /** Divisors of the pairs' angles. */
  readonly divisors?: Float32Array;
  /** Numbers of a head before those that turn. */
  readonly skipped?: number;
  /** Instead of the pair's angle at a position. */
  readonly angle?: (position: number, pair: number) => number;
  /** What becomes of sines and cosines. */
  readonly table?: (number: number) => number;
}

/** Sizes of a model. */
export interface Shape {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly ffnWidth: number;
  readonly vocabulary: number;
  readonly epsilon: number;
  readonly rope: Rope;
}

/** A pass in which something is made. */
export interface Making {
  /** Position of its first token. */
  readonly start: number;
  /** T, the tokens that it runs. */
  readonly count: number;
  /** Undefined outside of blocks. */
  readonly layer?: number;
  /** What the same block has made before; names without `blk.<layer>.`. */
  of(point: string): Float32Array;
  /** What the pass has made before, by its full name. */
  at(name: string): Float32Array;
}

/** A score of attention. */
export interface Place {
  readonly head: number;
  /** Positions. */
  readonly query: number;
  readonly key: number;
  /** Of the pass. */
  readonly start: number;
}

/** What an engine can get wrong in a block, or outside of blocks; what is not named is right. */
export interface Mistakes {
  /** A weight as it was read: another one, or none. Names without `blk.<layer>.`. */
  readonly weight?: (
    name: string,
    weight: Weight,
    layer: number | undefined,
  ) => Weight | string | undefined;
  /** What goes into a product; `rows` many. */
  readonly input?: (name: string, x: Float32Array, rows: number) => Float32Array;
  readonly epsilon?: number;
  /** Whether norms subtract the mean. */
  readonly centred?: boolean;
  /** Rounds a norm's sum of squares. */
  readonly squares?: (sum: number) => number;
  /** Another norm of a row. */
  readonly norm?: (row: Float32Array, weight: Float32Array, epsilon: number) => Float32Array;
  /** In a pass that starts at a position, of q or k. */
  readonly rope?: (start: number, point: "q_rope" | "k_rope") => Partial<Rope>;
  /** Whether RoPE turns v: before it is shown, or on its way into the cache. */
  readonly turnsValues?: "shown" | "stored";
  /** The key/value head that a query head reads. */
  readonly keyHead?: (head: number) => number;
  /** Times the scale of attention. */
  readonly scale?: number;
  /** What becomes of a scaled score. */
  readonly score?: (score: number) => number;
  /** Keys after its own that a query sees. */
  readonly future?: number;
  /** Which keys a query sees, where those are not all up to its own. */
  readonly sees?: (place: Place) => boolean;
  /** What the scores that are shown hold at keys that a query does not see. */
  readonly floor?: number;
  /** Scores of zero without a value that each row of the softmax has besides. */
  readonly sink?: number;
  readonly activation?: (gate: number, up: number) => number;
  /** How often the stream goes into the sum after attention, and after the FFN. */
  readonly residual?: { readonly ffn_inp?: number; readonly out?: number };
  /** What becomes of a point's numbers; names without `blk.<layer>.`. */
  readonly made?: (point: string, numbers: Float32Array, pass: Making) => Float32Array;
}
