/** Generation beside another engine, in pictures. */
import type { Table } from "../../tables/mod.ts";
import { cellMap } from "../drawing/cell_map.ts";
import { Figure, type Scatter } from "../drawing/figure.ts";
import { layerLabel } from "../lens.ts";
import { short } from "../drawing/numbers.ts";
import { distinct, plotRows } from "../drawing/table_rows.ts";
import { axis, PALETTE, plotLayout, titled, TOKEN_FONT } from "../drawing/theme.ts";
import { tokenHtml, tokenLabel } from "../drawing/tokens.ts";

/**
 * The probability that each side gave the generated tokens, one over the other; below, on a logarithmic scale, how far apart both
 * distributions are (Kullback–Leibler divergence in nats). Where the sides prefer different tokens there is a diamond.
 *
 * @param table of the tokens of `compareGeneration()`
 * @throws {TypeError | RangeError} for another table or an empty one
 */
export function generationComparison(table: Table): Figure {
  const rows = plotRows(table, "a compared generation", [
    "step",
    "token",
    "probability",
    "reference_probability",
    "reference_token",
    "agrees",
    "kl",
  ], "compareGeneration().table()");
  const all = Array.from({ length: rows.length }, (_, row) => row);
  const x = all.map((row) => rows.number("step", row));
  const tokens = all.map((row) => tokenHtml(rows.text("token", row)));
  const reference = rows.note("reference") ?? "reference";
  const agrees = all.map((row) => rows.text("agrees", row) === "true");
  const line = (name: string, column: string, i: number, more: Partial<Scatter>): Scatter => ({
    type: "scatter",
    mode: "lines+markers",
    name,
    x,
    y: all.map((row) => short(rows.number(column, row))),
    customdata: tokens,
    line: { color: PALETTE[i], width: 2 },
    marker: { color: PALETTE[i], size: 6 },
    hovertemplate: `“%{customdata}”: %{y:.4g}`,
    ...more,
  });
  const differing = all.filter((_, i) => !agrees[i]);
  const width = Math.max(560, Math.min(980, 150 + 26 * x.length));
  const title = titled(`tokens beside ${reference}`, { model: rows.note("model") }, [
    "both run the same ids; what each gives the token that was chosen",
  ]);
  const ticks = {
    tickvals: x,
    ticktext: all.map((row) => tokenHtml(tokenLabel(rows.text("token", row), 10))),
    tickangle: -60,
    tickfont: { family: TOKEN_FONT, size: 10 },
    showgrid: false,
  };
  return new Figure(
    [
      line("ours", "probability", 0, {}),
      line(reference, "reference_probability", 1, {
        line: { color: PALETTE[1], width: 2, dash: "dot" },
      }),
      {
        type: "scatter",
        mode: "markers",
        name: "prefer different tokens",
        x: differing.map((row) => rows.number("step", row)),
        y: differing.map((row) => short(rows.number("reference_probability", row))),
        customdata: differing.map((row) => tokenHtml(rows.text("reference_token", row))),
        marker: { color: PALETTE[3], size: 11, symbol: "diamond" },
        hovertemplate: `${reference} prefers “%{customdata}”`,
        showlegend: differing.length > 0,
      },
      line("divergence", "kl", 2, { xaxis: "x2", yaxis: "y2", showlegend: false }),
    ],
    plotLayout(330, {
      title,
      width,
      margin: { t: 10, b: 90 },
      xaxis: axis({ ...ticks, domain: [0, 1], anchor: "y", showticklabels: false }),
      yaxis: axis({ title: { text: "probability" }, domain: [0.48, 1], range: [-0.03, 1.05] }),
      xaxis2: axis({ ...ticks, domain: [0, 1], anchor: "y2", matches: "x" }),
      yaxis2: axis({
        title: { text: "KL, nats" },
        domain: [0, 0.4],
        anchor: "x2",
        type: "log",
        dtick: 2,
        tickformat: ".0e",
      }),
      showlegend: true,
      legend: { orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom" },
    }),
  );
}

/**
 * How far apart both sides are at a point of each layer (upwards), token by token: as a share of what the point's checkpoint allows, on
 * a logarithmic scale. Above 0 it would be too far.
 *
 * @param table of the errors of `compareGeneration()`
 * @throws {TypeError | RangeError} for another table, an empty one, or one without points in layers
 */
export function generationErrors(table: Table): Figure {
  const rows = plotRows(
    table,
    "errors of a compared generation",
    ["step", "layer", "point", "rms", "share"],
    "compareGeneration().errorTable()",
  );
  const layers = distinct(rows, "layer");
  if (layers.length === 0) {
    throw new RangeError("Cannot draw errors by layer: no point of a layer was compared");
  }
  const steps = distinct(rows, "step");
  const values = layers.map(() => new Float64Array(steps.length).fill(NaN));
  const more = layers.map(() => steps.map(() => ""));
  for (let row = 0; row < rows.length; row++) {
    if (!rows.has("layer", row)) continue;
    const layer = layers.indexOf(rows.number("layer", row));
    const step = steps.indexOf(rows.number("step", row));
    const share = Math.log10(rows.number("share", row));
    if (values[layer][step] >= share) continue;
    values[layer][step] = share;
    more[layer][step] = `${rows.text("point", row)}: RMS ${rows.number("rms", row).toPrecision(2)}`;
  }
  return cellMap({
    title: titled(`error beside ${rows.note("reference") ?? "the reference"}`, {
      model: rows.note("model"),
    }, ["share of what is allowed, as a power of ten; 0 is the limit"]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: { title: "generated token", labels: steps.map(String) },
    values,
    more,
    legend: "log₁₀",
    range: [-4, 0.5],
    format: ".2f",
    upwards: true,
  });
}
