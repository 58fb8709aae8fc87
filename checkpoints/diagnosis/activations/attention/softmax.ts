/** Scores and probabilities [H, T, S], row by row, and the softmax between them with its variations. */
import { type Extent, isEmptyRow, type Mask } from "./masks.ts";
import type { Operation } from "../operation.ts";

/** The sizes of an operation on scores or probabilities. */
export function extentOf({ config: { heads }, pass: { tokens, start } }: Operation): Extent {
  return { heads, queries: tokens, keys: start + tokens, start };
}

/** Calls with each head, query (absolute) and the place of the row's first number. */
export function forRows(
  { heads, queries, keys, start }: Extent,
  visit: (head: number, query: number, at: number) => void,
): void {
  for (let head = 0; head < heads; head++) {
    for (let t = 0; t < queries; t++) visit(head, start + t, (head * queries + t) * keys);
  }
}

/** Places in [H, T, S] of keys up to the query's own. */
export function visiblePlaces(operation: Operation): number[] {
  const visible: number[] = [];
  forRows(extentOf(operation), (_, query, at) => {
    for (let i = at; i <= at + query; i++) visible.push(i);
  });
  return visible;
}

/** What a query sees. */
export const causal = (query: number, key: number) => key <= query;

/** How a softmax is made, where not as it should be. */
export interface SoftmaxOptions {
  /** Whether there is one more score of 0. */
  readonly sink?: boolean;
  readonly scale?: number;
  /** A score of each head that has no value [H]. */
  readonly sinks?: Float32Array;
  /** What rows hold in which no key is seen: no number, zeros, the same for all keys, or what no mask makes of them. */
  readonly empty?: "none" | "zeros" | "uniform" | "all";
  /** Whether rows are divided by the sum over all keys, whatever the mask lets through. */
  readonly cut?: boolean;
}

/** Softmax of scores [H, T, S] over the keys that a mask lets through. */
export function softmaxOver(
  scores: Float32Array,
  extent: Extent,
  sees: Mask["sees"],
  { sink = false, scale = 1, sinks, empty = "none", cut = false }: SoftmaxOptions = {},
): Float32Array {
  const { keys } = extent;
  const out = new Float32Array(scores.length);
  forRows(extent, (head, query, at) => {
    const isEmpty = isEmptyRow({ what: "", sees }, head, query, keys);
    if (isEmpty && empty !== "all") {
      out.fill({ none: NaN, zeros: 0, uniform: 1 / keys }[empty], at, at + keys);
      return;
    }
    const counts = (key: number) => isEmpty || cut || sees(query, key, head);
    const own = sinks?.[head] ?? (sink ? 0 : -Infinity);
    let largest = own;
    for (let key = 0; key < keys; key++) {
      if (counts(key)) largest = Math.max(largest, scores[at + key] * scale);
    }
    let sum = own === -Infinity ? 0 : Math.exp(own - largest);
    const weights = new Float64Array(keys);
    for (let key = 0; key < keys; key++) {
      if (!counts(key)) continue;
      const weight = Math.exp(scores[at + key] * scale - largest);
      sum += weight;
      if (isEmpty || sees(query, key, head)) weights[key] = weight;
    }
    weights.forEach((weight, key) => out[at + key] = weight / sum);
  });
  return out;
}

/** Softmax over the queries that see a key. */
export function overQueries(
  scores: Float32Array,
  { heads, queries, keys, start }: Extent,
): Float32Array {
  const out = new Float32Array(scores.length);
  for (let head = 0; head < heads; head++) {
    for (let key = 0; key < keys; key++) {
      const places: number[] = [];
      for (let t = Math.max(0, key - start); t < queries; t++) {
        places.push((head * queries + t) * keys + key);
      }
      const largest = Math.max(...places.map((at) => scores[at]));
      const weights = places.map((at) => Math.exp(scores[at] - largest));
      const sum = weights.reduce((a, b) => a + b, 0);
      places.forEach((at, i) => out[at] = weights[i] / sum);
    }
  }
  return out;
}
