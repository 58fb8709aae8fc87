/** Singular values of weights as lines. */
import type { Table } from "../tables.ts";
import { Figure, type Scatter } from "./figure.ts";
import { short } from "./numbers.ts";
import { allOf, plotRows } from "./rows.ts";
import { axis, layout, PALETTE, SEQUENTIAL, titled, topMargin } from "./theme.ts";
import { colourOf } from "./text.ts";
import { html } from "./tokens.ts";

/**
 * Singular values by rank, a line per weight, on a logarithmic scale: a line that falls early is a matrix of few directions. Lines of
 * many layers go from light to dark.
 *
 * @param table of `weightSpectrum()`
 * @throws {TypeError | RangeError} for another table or an empty one
 */
export function weightSpectra(table: Table): Figure {
  const rows = plotRows(
    table,
    "weight spectra",
    ["tensor", "layer", "rank", "value"],
    "weightSpectrum()",
  );
  const all = allOf(rows);
  const byTensor = [...Map.groupBy(all, (row) => rows.text("tensor", row))];
  const kinds = new Set(byTensor.map(([tensor]) => tensor.replace(/^blk\.\d+\./, "blk.*.")));
  const [kind] = kinds;
  const one = kinds.size === 1 && byTensor.length > 1;
  const colour = (i: number) =>
    one
      ? colourOf(SEQUENTIAL, 0.25 + 0.75 * i / (byTensor.length - 1))
      : PALETTE[i % PALETTE.length];
  const title = titled("singular values", {
    model: rows.note("model"),
    at: kinds.size === 1 ? kind : undefined,
  });
  const width = 720;
  const top = topMargin(title, width);
  return new Figure(
    byTensor.map(([tensor, own], i): Scatter => ({
      type: "scatter",
      mode: "lines",
      name: one ? `layer ${rows.number("layer", own[0])}` : html(tensor),
      x: own.map((row) => rows.number("rank", row)),
      y: own.map((row) => short(rows.number("value", row))),
      line: { color: colour(i), width: 1.8 },
      hovertemplate: "rank %{x}: %{y}",
    })),
    layout({
      title,
      width,
      height: top + 280 + 50,
      margin: { t: top, b: 50 },
      xaxis: axis({ title: { text: "rank" } }),
      yaxis: axis({ title: { text: "singular value" }, type: "log", dtick: 1 }),
      showlegend: true,
      legend: { x: 1.02, y: 1 },
    }),
  );
}
