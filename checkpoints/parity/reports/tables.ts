/** What a comparison found, as Arrow tables. */
import { kindOf, layerOf } from "../../../base/layer_names.ts";
import type { Table } from "../../../inspect/tables/arrow.ts";
import { analysisTable, type Row } from "../../../inspect/analyses/analysis_table.ts";
import type { ParityResult } from "../comparison.ts";
import { checkpointRows } from "./report.ts";

const POINTS = {
  case: "utf8",
  step: "int32",
  layer: "int32",
  point: "utf8",
  kind: "utf8",
  checkpoint: "utf8",
  verdict: "utf8",
  rms: "float64",
  error: "float64",
  tolerance: "float64",
  share: "float64",
  rounding: "utf8",
  rounding_value: "float64",
  rounding_limit: "float64",
  nmse: "float64",
  cosine: "float64",
  head: "int32",
  position: "int32",
  index: "int32",
  ours: "float64",
  reference: "float64",
  oracle_rms: "float64",
  oracle_ratio: "float64",
  passed: "bool",
} as const;

/** A row per compared point and verdict. */
export function parityTable(model: string, { rows, provenance }: ParityResult): Table {
  const table: Row<typeof POINTS>[] = rows.flatMap((row) =>
    (["local", "cumulative"] as const).flatMap((verdict) => {
      const difference = row[verdict];
      if (!difference) return [];
      const { place: { head = null, position, index }, rms, error, nmse, cosine } = difference;
      const { ours, reference, share, passed } = difference;
      const { oracle } = row;
      return [{
        case: row.case,
        step: row.step,
        layer: layerOf(row.point) ?? null,
        point: row.point,
        kind: kindOf(row.point),
        checkpoint: row.checkpoint,
        verdict,
        ...{ rms, error, tolerance: difference.allowed, share, nmse, cosine },
        rounding: difference.rounding?.measure ?? null,
        rounding_value: difference.rounding?.value ?? null,
        rounding_limit: difference.rounding?.limit ?? null,
        ...{ head, position, index, ours, reference },
        oracle_rms: oracle?.ours ?? null,
        oracle_ratio: oracle?.reference ? oracle.ours / oracle.reference : null,
        passed,
      }];
    })
  );
  return analysisTable("parity", POINTS, table, {
    meaning: `every compared point of ${model}, with ${provenance.name}`,
    ...notesOf(model, provenance),
  });
}

const CHECKPOINTS = {
  checkpoint: "utf8",
  title: "utf8",
  status: "utf8",
  why: "utf8",
  layer: "int32",
  point: "utf8",
  verdict: "utf8",
  error: "float64",
  tolerance: "float64",
  share: "float64",
  outcome: "utf8",
} as const;

/** A row per checkpoint. */
export function checkpointTable(model: string, result: ParityResult): Table {
  const outcomes = checkpointRows(result).map((cells) => cells.at(-1)!);
  const table = result.checkpoints.map((each, i): Row<typeof CHECKPOINTS> => {
    const { checkpoint, status, why = null, worst, verdict } = each;
    return {
      checkpoint: checkpoint.id,
      title: checkpoint.title,
      status,
      why,
      layer: worst ? layerOf(worst.point) ?? null : null,
      point: worst?.point ?? null,
      verdict: verdict ? (verdict === worst?.local ? "local" : "cumulative") : null,
      error: verdict?.error ?? null,
      tolerance: verdict?.allowed ?? null,
      share: verdict?.share ?? null,
      outcome: outcomes[i],
    };
  });
  return analysisTable("checkpoints", CHECKPOINTS, table, {
    meaning: `the thirteen checkpoints of ${model}, with ${result.provenance.name}`,
    ...notesOf(model, result.provenance),
  });
}

function notesOf(model: string, { name, version, weights }: ParityResult["provenance"]) {
  return { model, reference: name, reference_version: version, weights };
}
