/** How long the vectors of the residual stream are. */
import type { Table } from "../tables/arrow.ts";
import type { Run } from "../run/run.ts";
import { STREAM_KINDS, STREAM_STARTS } from "../points/stream.ts";
import { dot } from "./numbers.ts";
import {
  analysisTable,
  capturedPoints,
  capturedRows,
  placesOf,
  type Row,
  SEQUENCE,
  TOKEN,
} from "./analysis_table.ts";

const SCHEMA = {
  ...SEQUENCE,
  layer: "int32",
  point: "utf8",
  ...TOKEN,
  value: "float64",
} as const;

/**
 * Euclidean length of each captured row of the residual stream: what enters the first block (`token_embd`, layer −1), `ffn_inp` and `out`; or of the other
 * kinds of points that are named (`attn_out` and `ffn_out`: what a layer writes).
 *
 * @throws {NotCapturedError} when the run captured none of them
 */
export function residualNorms(
  run: Run,
  options: { readonly kinds?: readonly string[] } = {},
): Table {
  const found = capturedPoints(run, options.kinds ?? STREAM_KINDS);
  // Of what the stream begins with only the last is the stream.
  const start = STREAM_STARTS.findLast((name) => found.some((each) => each.name === name));
  const points = options.kinds
    ? found
    : found.filter(({ name, layer }) => layer >= 0 || name === start);
  const rows: Row<typeof SCHEMA>[] = [];
  for (const sequence of run.sequences.keys()) {
    const place = placesOf(run, sequence);
    for (const { name, layer } of points) {
      for (const { position, vector } of capturedRows(run, name, sequence)) {
        const value = Math.sqrt(dot(vector, vector));
        rows.push({ ...place(position), layer, point: name, value });
      }
    }
  }
  return analysisTable("residual_norms", SCHEMA, rows, {
    meaning: "length of each row of the residual stream",
    model: run.meta.model,
  });
}
