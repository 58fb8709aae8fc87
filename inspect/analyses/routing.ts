/** Mixtures of experts: which experts positions go to. */
import type { Table } from "../tables/arrow.ts";
import type { Run } from "../run/run.ts";
import { NotCapturedError } from "../run/run.ts";
import {
  analysisTable,
  type CapturedPoint,
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
  ...TOKEN,
  rank: "int32",
  expert: "int32",
  value: "float64",
} as const;

/**
 * Which experts each captured position goes to in each layer, the best first (`rank` counts from 0), and what each counts (`value`: its
 * weight). The run must have captured `blk.*.ffn_expert_ids` and `blk.*.ffn_expert_weights`.
 *
 * @throws {NotCapturedError} also for a model without experts
 */
export function routing(run: Run): Table {
  const rows: Row<typeof SCHEMA>[] = [];
  for (const { name, layer } of capturedPoints(run, ["ffn_expert_ids"])) {
    const weighted = `blk.${layer}.ffn_expert_weights`;
    if (!run.captured.includes(weighted)) throw new NotCapturedError(weighted, run.captured);
    for (const sequence of run.sequences.keys()) {
      const place = placesOf(run, sequence);
      const weights = new Map(
        Array.from(capturedRows(run, weighted, sequence), ({ position, vector }) => [
          position,
          vector,
        ]),
      );
      for (const { position, vector } of capturedRows(run, name, sequence)) {
        const values = weights.get(position);
        if (!values) throw new NotCapturedError(weighted, run.captured);
        vector.forEach((expert, rank) =>
          rows.push({ ...place(position), layer, rank, expert, value: values[rank] })
        );
      }
    }
  }
  rows.sort((a, b) =>
    a.sequence! - b.sequence! || a.layer! - b.layer! || a.position! - b.position!
  );
  return analysisTable("routing", SCHEMA, rows, {
    meaning: "which experts each position goes to in each layer, and what each counts",
    model: run.meta.model,
  });
}

const LOADS = {
  layer: "int32",
  expert: "int32",
  count: "int32",
  weight: "float64",
  value: "float64",
} as const;

/**
 * How often each expert of each layer was chosen, over all captured positions of all sequences: `count`, the sum of its weights where
 * they were captured (`weight`), and its share of the positions (`value`: 1 where all went to it; shares of a layer sum to the number of
 * experts that a position goes to). Experts that nobody went to are there too. The run must have captured `blk.*.ffn_expert_ids`.
 *
 * @throws {NotCapturedError} also for a model without experts
 */
export function expertLoads(run: Run): Table {
  const rows = capturedPoints(run, ["ffn_expert_ids"]).flatMap((point) => loadsOf(run, point));
  return analysisTable("expert_loads", LOADS, rows, {
    meaning: "how often each expert was chosen",
    model: run.meta.model,
  });
}

function loadsOf(run: Run, { name, layer }: CapturedPoint): Row<typeof LOADS>[] {
  const router = run.points.find((point) => point.name === `blk.${layer}.ffn_router`)!;
  const experts = router.shape[1] as number;
  const weighted = `blk.${layer}.ffn_expert_weights`;
  const counts = new Int32Array(experts);
  const weights = new Float64Array(experts);
  const isWeighted = run.captured.includes(weighted);
  let positions = 0;
  for (const sequence of run.sequences.keys()) {
    const ids = [...capturedRows(run, name, sequence)];
    const values = isWeighted ? [...capturedRows(run, weighted, sequence)] : [];
    positions += ids.length;
    ids.forEach(({ vector }, row) =>
      vector.forEach((expert, rank) => {
        counts[expert]++;
        weights[expert] += values[row]?.vector[rank] ?? 0;
      })
    );
  }
  return Array.from(counts, (count, expert) => ({
    ...{ layer, expert, count },
    weight: isWeighted ? weights[expert] : null,
    value: count / positions,
  }));
}
