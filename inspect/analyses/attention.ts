/** What attention heads look at, in numbers. */
import type { Table } from "../tables/arrow.ts";
import { type Piece, rowPositions } from "../run/capture.ts";
import { visibleKeys } from "../points/visible_keys.ts";
import type { Run } from "../run/run.ts";
import { entropy } from "./numbers.ts";
import { analysisTable, capturedPoints, type Row, SEQUENCE } from "./analysis_table.ts";

const SCHEMA = {
  ...SEQUENCE,
  layer: "int32",
  head: "int32",
  entropy: "float64",
  previous_token: "float64",
  first_token: "float64",
  self: "float64",
} as const;

/**
 * For each head, means over the captured queries of the prompt (`step` 0) and of each generated token: `entropy` of its attention in nats, and the attention that it pays to the
 * `previous_token`, to the `first_token` and to the token itself (`self`). Position 0 sees nothing else and counts in none of
 * them. The run must have captured `blk.*.attn_probs`.
 *
 * @throws {NotCapturedError}
 */
export function attentionStatistics(run: Run): Table {
  const rows: Row<typeof SCHEMA>[] = [];
  const points = capturedPoints(run, ["attn_probs"]);
  for (const sequence of run.sequences.keys()) {
    for (const { name, layer } of points) {
      for (const [step, pieces] of Map.groupBy(run.pieces(name, sequence), ({ step }) => step)) {
        const [heads] = pieces[0].shape;
        for (let head = 0; head < heads; head++) {
          rows.push({
            sequence,
            step,
            layer,
            head,
            entropy: meanOverQueries(pieces, head, (probs) => entropy(probs)),
            previous_token: meanOverQueries(pieces, head, (probs, query) => probs[query - 1]),
            first_token: meanOverQueries(pieces, head, (probs) => probs[0]),
            self: meanOverQueries(pieces, head, (probs, query) => probs[query]),
          });
        }
      }
    }
  }
  return analysisTable("attention_statistics", SCHEMA, rows, {
    meaning: "what each head looks at: means over the queries of each step",
    model: run.meta.model,
  });
}

/**
 * Mean of a figure over the captured queries of a head from a position on (1); null where there are none. The figure gets the
 * attention to each key up to the query and the query's position.
 */
export function meanOverQueries(
  pieces: readonly Piece[],
  head: number,
  figure: (probabilities: Float32Array, query: number) => number,
  from = 1,
): number | null {
  let sum = 0;
  let count = 0;
  for (const piece of pieces) {
    const { shape: [, queries, keys], data } = piece;
    for (const [row, query] of rowPositions(piece, queries).entries()) {
      if (query < from) continue;
      const first = (head * queries + row) * keys;
      // Keys from 0 on, so that a place is a position.
      sum += figure(data.subarray(first, first + visibleKeys(query)[1]), query);
      count++;
    }
  }
  return count === 0 ? null : sum / count;
}
