/** Which keys a query of attention sees. What a pass has at the others is left over from its kernels and means nothing. */
import { MASKED } from "../../kernels/attention/scoring/score.ts";
import { rowPositions } from "../run/capture.ts";

/** Attention rows of one pass. */
export interface AttentionRows {
  /** [H, T, S]: heads, queries, keys. */
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
  /** Absolute position of the first query. */
  readonly start: number;
  /** Absolute positions of the queries where only some were kept. */
  readonly positions?: readonly number[];
}

/** What stands for a key that is not seen, by the kind of point. */
const HIDDEN: Readonly<Record<string, number>> = { attn_scores: -Infinity, attn_probs: 0 };

/** The keys that a query at a position sees: from the first (included) to the second (not included). */
export function visibleKeys(query: number): readonly [first: number, end: number] {
  return [0, query + 1]; // causal attention without a window
}

/** Puts −∞ (`attn_scores`) or 0 (`attn_probs`) at the keys that a query does not see; leaves other kinds of points alone. */
export function overwriteUnseen(kind: string, rows: AttentionRows): void {
  const { shape: [heads, queries, keys], data } = rows;
  const hidden = HIDDEN[kind];
  if (hidden === undefined) return;
  const seen = rowPositions(rows, queries).map(visibleKeys);
  for (let head = 0; head < heads; head++) {
    for (const [query, [first, end]] of seen.entries()) {
      const row = (head * queries + query) * keys;
      data.fill(hidden, row, row + first);
      data.fill(hidden, row + Math.min(end, keys), row + keys);
    }
  }
}

/**
 * Turns numbers as kernels hold them into numbers as people see them: what {@linkcode overwriteUnseen} does, and −∞ also for a
 * visible key's score that an edit has masked. Changes the array itself.
 */
export function unmask(kind: string, rows: AttentionRows): void {
  overwriteUnseen(kind, rows);
  if (kind === "attn_scores") replaceMasks(rows.data, -Infinity);
}

/** Undoes {@linkcode unmask}, whatever stands at the hidden keys: kernels want a finite mask. */
export function mask(kind: string, rows: AttentionRows): void {
  overwriteUnseen(kind, rows);
  maskFinitely(kind, rows.data);
}

/** Puts the kernels' mask for −∞ into scores in any order. */
export function maskFinitely(kind: string, data: Float32Array): void {
  if (kind === "attn_scores") replaceMasks(data, MASKED);
}

function replaceMasks(data: Float32Array, by: number): void {
  for (let i = 0; i < data.length; i++) if (data[i] <= MASKED) data[i] = by;
}
