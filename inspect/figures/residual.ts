/** How large the residual stream is, in pictures. */
import { STREAM_STARTS } from "../points/stream.ts";
import type { Table } from "../tables/mod.ts";
import { cellMap } from "./drawing/cell_map.ts";
import { Figure, type Scatter } from "./drawing/figure.ts";
import { layerLabel, layerStep, positionSide, type SequenceOption } from "./lens.ts";
import { short } from "./drawing/numbers.ts";
import {
  distinct,
  ofSequence,
  type PlotRows,
  plotRows,
  tokensByPosition,
} from "./drawing/table_rows.ts";
import { axis, PALETTE, plotLayout, titled } from "./drawing/theme.ts";

const COLUMNS = ["layer", "point", "position", "token", "value"];
const FROM = "residualNorms()";

/** The last point of each layer: the stream that the layer leaves. */
function leaves(rows: PlotRows, sequence?: number): number[] {
  return ofSequence(rows, sequence).filter((row) => {
    const point = rows.text("point", row);
    return STREAM_STARTS.includes(point) || point.endsWith(".out");
  });
}

/**
 * Length of the residual stream after each layer (upwards) at each position, on a logarithmic scale.
 *
 * @param table of `residualNorms()`
 * @throws {TypeError | RangeError} for another table, an empty one, a sequence that is not there
 */
export function residualNormMap(table: Table, options: SequenceOption = {}): Figure {
  const rows = plotRows(table, "residual norms", COLUMNS, FROM);
  const own = leaves(rows, options.sequence);
  const layers = distinct(rows, "layer");
  const positions = [...new Set(own.map((row) => rows.number("position", row)))].sort((a, b) =>
    a - b
  );
  const values = layers.map(() => new Float64Array(positions.length).fill(NaN));
  for (const row of own) {
    const place = positions.indexOf(rows.number("position", row));
    values[layers.indexOf(rows.number("layer", row))][place] = Math.log10(
      rows.number("value", row),
    );
  }
  return cellMap({
    title: titled("length of the residual stream", {
      model: rows.note("model"),
      sequence: options.sequence,
    }, ["after each layer, on a logarithmic scale"]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: positionSide(positions, tokensByPosition(rows)),
    values,
    more: values.map((row) => [...row].map((value) => `length ${(10 ** value).toPrecision(4)}`)),
    legend: "log₁₀",
    upwards: true,
  });
}

/**
 * The same as lines over the layers: the median over the positions, their range, and the first position by itself, which is often
 * far longer than all others.
 *
 * @param table of `residualNorms()`
 * @throws {TypeError | RangeError} for another table, an empty one, a sequence that is not there
 */
export function residualNormLines(table: Table, options: SequenceOption = {}): Figure {
  const rows = plotRows(table, "residual norms", COLUMNS, FROM);
  const own = leaves(rows, options.sequence);
  const first = Math.min(...own.map((row) => rows.number("position", row)));
  const byLayer = [...Map.groupBy(own, (row) => rows.number("layer", row))]
    .sort(([a], [b]) => a - b);
  const layers = byLayer.map(([layer]) => layer);
  const others = byLayer.map(([, all]) =>
    all.filter((row) => rows.number("position", row) !== first || all.length === 1)
      .map((row) => rows.number("value", row)).sort((a, b) => a - b)
  );
  const line = (name: string, values: readonly number[], more: Partial<Scatter> = {}): Scatter => ({
    type: "scatter",
    mode: "lines",
    name,
    x: layers,
    y: values.map(short),
    hovertemplate: "layer %{x}: %{y}",
    ...more,
  });
  const [blue, orange] = PALETTE;
  const title = titled("length of the residual stream", {
    model: rows.note("model"),
    sequence: options.sequence,
  }, ["after each layer; −1 is the embedding"]);
  const faint = { line: { width: 0 }, hoverinfo: "skip", showlegend: false } as const;
  return new Figure(
    [
      line("smallest", others.map((all) => all[0]), { ...faint, hovertemplate: undefined }),
      line("range", others.map((all) => all[all.length - 1]), {
        line: { width: 0 },
        fill: "tonexty",
        fillcolor: "rgba(0, 114, 178, 0.18)",
        hoverinfo: "skip",
        hovertemplate: undefined,
        showlegend: true,
      }),
      line("median", others.map((all) => all[Math.floor(all.length / 2)]), {
        line: { color: blue, width: 2 },
      }),
      line(
        `position ${first}`,
        byLayer.map(([, all]) => {
          const row = all.find((each) => rows.number("position", each) === first);
          return row === undefined ? NaN : rows.number("value", row);
        }),
        { line: { color: orange, width: 2, dash: "dash" } },
      ),
    ],
    plotLayout(260, {
      title,
      width: 720,
      xaxis: axis({ title: { text: "layer" }, dtick: layerStep(layers.length) }),
      yaxis: axis({ title: { text: "Euclidean length" }, type: "log", dtick: 1 }),
      hovermode: "x unified",
      showlegend: true,
      legend: { x: 1.02, y: 1 },
    }),
  );
}
