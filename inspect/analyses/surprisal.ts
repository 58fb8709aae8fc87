/** How hard each token was to foresee. */
import { softmax } from "../softmax.ts";
import type { Table } from "../tables/arrow.ts";
import type { Run } from "../run/run.ts";
import { entropy } from "./numbers.ts";
import {
  analysisTable,
  capturedRows,
  checkIsRun,
  placesOf,
  type Row,
  SEQUENCE,
  TOKEN,
} from "./analysis_table.ts";

const SCHEMA = { ...SEQUENCE, ...TOKEN, surprisal: "float64", entropy: "float64" } as const;

/**
 * For each token, about the model's distribution before it: `surprisal`, −ln p of the token, and `entropy`, the surprisal that
 * was to be expected; both in nats. They are null where there is none: for the first token, after positions without logits,
 * and `entropy` where the run did not capture `logits`.
 */
export function surprisal(run: Run): Table {
  checkIsRun(run);
  const rows: Row<typeof SCHEMA>[] = [];
  for (const [sequence, { ids, surprisals }] of run.sequences.entries()) {
    const place = placesOf(run, sequence);
    const entropies = entropiesAfter(run, sequence);
    for (const position of ids.keys()) {
      rows.push({
        ...place(position),
        surprisal: Number.isNaN(surprisals[position]) ? null : surprisals[position],
        entropy: entropies.get(position - 1) ?? null,
      });
    }
  }
  return analysisTable("surprisal", SCHEMA, rows, {
    meaning: "how hard each token was to foresee, in nats",
    model: run.meta.model,
  });
}

/** Entropy of the distribution after each position whose logits were captured. */
function entropiesAfter(run: Run, sequence: number): Map<number, number> {
  const entropies = new Map<number, number>();
  for (const { position, vector } of capturedRows(run, "logits", sequence)) {
    entropies.set(position, entropy(softmax(vector)));
  }
  return entropies;
}
