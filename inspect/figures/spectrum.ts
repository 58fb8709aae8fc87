/** Singular values of weights as lines. */
import { inLayer } from "../../base/layer_names.ts";
import type { Table } from "../tables/mod.ts";
import { Figure, type Scatter } from "./drawing/figure.ts";
import { short } from "./drawing/numbers.ts";
import { allOf, plotRows } from "./drawing/table_rows.ts";
import { axis, PALETTE, plotLayout, SEQUENTIAL, titled } from "./drawing/theme.ts";
import { colourOf } from "./coloured_text.ts";
import { html } from "./drawing/tokens.ts";

/** Layers that a legend has room for; of more there is a colour bar. */
const MOST_NAMED = 12;

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
  // Files list layer 10 before layer 2.
  const byTensor = [...Map.groupBy(all, (row) => rows.text("tensor", row))]
    .sort(([, [a]], [, [b]]) => rows.number("layer", a) - rows.number("layer", b) || 0);
  const kinds = new Set(byTensor.map(([tensor]) => inLayer(tensor, "*")));
  const [kind] = kinds;
  const one = kinds.size === 1 && byTensor.length > 1;
  const colour = (i: number) =>
    one ? shade(i / (byTensor.length - 1)) : PALETTE[i % PALETTE.length];
  const layers = byTensor.map(([, [row]]) => rows.number("layer", row));
  const hasBar = one && byTensor.length > MOST_NAMED;
  const title = titled("singular values", {
    model: rows.note("model"),
    at: kinds.size === 1 ? kind : undefined,
  });
  const lines = byTensor.map(([tensor, own], i): Scatter => ({
    type: "scatter",
    mode: "lines",
    name: one ? `layer ${rows.number("layer", own[0])}` : html(tensor),
    x: own.map((row) => rows.number("rank", row)),
    y: own.map((row) => short(rows.number("value", row))),
    line: { color: colour(i), width: 1.8 },
    hovertemplate: "rank %{x}: %{y}",
  }));
  return new Figure(
    hasBar ? [...lines, layerBar(layers)] : lines,
    plotLayout(280, {
      title,
      width: 720,
      xaxis: axis({ title: { text: "rank" } }),
      yaxis: axis({ title: { text: "singular value" }, type: "log", dtick: 1 }),
      showlegend: !hasBar,
      legend: { x: 1.02, y: 1 },
    }),
  );
}

/** From the first layer (0) to the last (1): pale, but seen on white, to dark. */
function shade(place: number): string {
  return colourOf(SEQUENTIAL, 0.25 + 0.75 * place);
}

/** Has the colour bar of the layers, and no points. */
function layerBar(layers: readonly number[]): Scatter {
  const [cmin, cmax] = [layers[0], layers.at(-1)!];
  return {
    type: "scatter",
    mode: "markers",
    x: [null, null],
    y: [null, null],
    marker: {
      color: [cmin, cmax],
      colorscale: [0, 0.25, 0.5, 0.75, 1].map((place) => [place, shade(place)] as const),
      cmin,
      cmax,
      showscale: true,
      colorbar: { thickness: 11, title: { text: "layer", side: "top" } },
    },
    hoverinfo: "skip",
    showlegend: false,
  };
}
