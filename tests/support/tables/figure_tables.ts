/** Tables by hand, and what is in figures, for tests of figures. */
import type { Figure, Table } from "../../../mod.ts";
import { analysisTable, type Row, type Schema } from "../../../inspect/analyses/analysis_table.ts";
import type { Scatter } from "../../../inspect/figures/drawing/figure.ts";

export function tableOf<S extends Schema>(
  name: string,
  schema: S,
  rows: readonly Row<S>[],
  notes: Record<string, string> = {},
): Table {
  return analysisTable(name, schema, rows, { meaning: "", model: "tiny", ...notes });
}

export const scatters = ({ data }: Figure) => data as Scatter[];
export const named = (figure: Figure, name: string) =>
  scatters(figure).filter((each) => each.name === name);
