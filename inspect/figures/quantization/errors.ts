/** What quantization changes in the weights, layers and positions, in pictures. */
import type { Table } from "../../tables/mod.ts";
import { cellMap } from "../drawing/cell_map.ts";
import { Figure, type Scatter } from "../drawing/figure.ts";
import { layerLabel, layerStep, positionSide } from "../lens.ts";
import { logAxis } from "../drawing/log_axis.ts";
import { short } from "../drawing/numbers.ts";
import { shade } from "./divergence.ts";
import {
  allOf,
  distinct,
  type PlotRows,
  plotRows,
  tokensByPosition,
} from "../drawing/table_rows.ts";
import { axis, plotLayout, titled } from "../drawing/theme.ts";
import { html } from "../drawing/tokens.ts";

const WIDTH = 760;

const ACTIVATIONS = ["type", "layer", "position", "token", "error"];
const FROM_ACTIVATIONS = "quantizationLadder(): ladder.activations()";

/**
 * How far each type takes the residual stream from the model's own after each layer: the length of the difference as a part of the
 * stream's, the mean over positions, a line per type. Coarser types are darker.
 *
 * @param table of `quantizationLadder()`: `ladder.activations()`
 * @throws {TypeError | RangeError} for another table or an empty one
 */
export function quantizationLayerErrors(table: Table): Figure {
  const rows = plotRows(table, "errors of layers", ACTIVATIONS, FROM_ACTIVATIONS);
  const types = [...Map.groupBy(allOf(rows), (row) => rows.text("type", row))];
  const layers = distinct(rows, "layer");
  const lines = types.map(([type, own]) => {
    const byLayer = Map.groupBy(own, (row) => rows.number("layer", row));
    return {
      type,
      means: layers.map((layer) =>
        mean((byLayer.get(layer) ?? []).map((row) => rows.number("error", row)))
      ),
    };
  });
  const scale = logAxis(lines.flatMap(({ means }) => means));
  const title = titled("error of the residual stream after each layer", {
    model: rows.note("model"),
  }, ["as a part of its length, mean over the text; −1 is the embedding"]);
  return new Figure(
    lines.map(({ type, means }, i): Scatter => ({
      type: "scatter",
      mode: "lines+markers",
      name: html(type),
      x: layers,
      y: means.map((error) => short(scale.place(error))),
      customdata: means.map((error) => error.toPrecision(3)),
      line: { color: shade(i, lines.length), width: 2 },
      marker: { color: shade(i, lines.length), size: 5 },
      hovertemplate: `${html(type)}, layer %{x}: %{customdata}<extra></extra>`,
    })),
    plotLayout(320, {
      title,
      width: WIDTH,
      margin: { l: 76, r: 110, b: 54 },
      xaxis: axis({ title: { text: "layer" }, dtick: layerStep(layers.length) }),
      yaxis: axis({ ...scale.axis, title: { text: "relative error" } }),
      showlegend: true,
      legend: { x: 1.02, y: 1, traceorder: "reversed" },
    }),
  );
}

/**
 * The same for one type, by layer (upwards) and position, on a logarithmic scale: at which tokens do small errors grow?
 *
 * @param table of `quantizationLadder()`: `ladder.activations()`
 * @throws {TypeError | RangeError} for another table, an empty one, and a type that is not there
 */
export function quantizationErrorMap(
  table: Table,
  options: { /** Default: the last one of the table. */ readonly type?: string } = {},
): Figure {
  const rows = plotRows(table, "errors of positions", ACTIVATIONS, FROM_ACTIVATIONS);
  const types = new Set(allOf(rows).map((row) => rows.text("type", row)));
  const { type = [...types].at(-1)! } = options;
  if (!types.has(type)) {
    throw new RangeError(`Cannot draw type ${type}: the table has ${[...types].join(", ")}`);
  }
  const layers = distinct(rows, "layer");
  const positions = distinct(rows, "position");
  const places = new Map(positions.map((position, i) => [position, i]));
  const errors = layers.map(() => new Float64Array(positions.length).fill(NaN));
  for (const row of allOf(rows)) {
    if (rows.text("type", row) !== type) continue;
    const layer = layers.indexOf(rows.number("layer", row));
    errors[layer][places.get(rows.number("position", row))!] = rows.number("error", row);
  }
  return cellMap({
    title: titled(`error of the residual stream with ${html(type)}`, {
      model: rows.note("model"),
    }, ["as a part of its length, on a logarithmic scale", exactNote(errors)]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: positionSide(positions, tokensByPosition(rows)),
    values: errors.map((row) => row.map(Math.log10)),
    more: errors.map((row) => Array.from(row, (error) => `error ${error.toPrecision(3)}`)),
    legend: "log₁₀",
    upwards: true,
  });
}

/**
 * What each type changes in each tensor: the error of its weights as a part of their size, types by tensors, on a logarithmic scale.
 * Mixed types (`Q4_K_M`) store some tensors in finer ones: the hover says how.
 *
 * @param table of `quantizationLadder()`: `ladder.weights()`
 * @throws {TypeError | RangeError} for another table, an empty one, and one without errors
 */
export function quantizationWeightErrors(table: Table): Figure {
  const rows = plotRows(
    table,
    "errors of weights",
    ["type", "tensor", "layer", "kind", "stored_as", "error"],
    "quantizationLadder(): ladder.weights()",
  );
  const known = allOf(rows).filter((row) => rows.has("error", row));
  const all = distinctTexts(rows, "type");
  const types = all.filter((type) => known.some((row) => rows.text("type", row) === type));
  const changed = known.filter((row) => rows.number("error", row) > 0);
  if (changed.length === 0) {
    throw new RangeError("Cannot draw errors of weights: no type of the table changes one");
  }
  const tensors = new Map(changed.map((row) => [rows.text("tensor", row), row]));
  const kinds = [...new Set(changed.map((row) => rows.text("kind", row)))];
  const columns = [...tensors].sort(([, a], [, b]) =>
    kinds.indexOf(rows.text("kind", a)) - kinds.indexOf(rows.text("kind", b)) ||
    (rows.number("layer", a) - rows.number("layer", b) || 0)
  );
  const cells = new Map(known.map((row) => [
    `${rows.text("type", row)} ${rows.text("tensor", row)}`,
    row,
  ]));
  const grid = <T>(make: (row: number | undefined) => T) =>
    types.map((type) => columns.map(([tensor]) => make(cells.get(`${type} ${tensor}`))));
  const errors = grid((row) => row === undefined ? NaN : rows.number("error", row));
  const kept = distinctTexts(rows, "tensor").length - columns.length;
  const unread = all.filter((type) =>
    allOf(rows).some((row) => rows.text("type", row) === type && !rows.has("error", row))
  );
  return cellMap({
    title: titled("error of the weights", { model: rows.note("model") }, [
      "as a part of their size, on a logarithmic scale",
      exactNote(errors),
      kept > 0 ? `tensors that no type changes are left out: ${kept}` : undefined,
      unread.length > 0
        ? `what is not read here yet is left empty: ${unread.map(html).join(", ")}`
        : undefined,
    ]),
    rows: { title: "type", labels: types },
    columns: {
      title: "tensor",
      labels: columns.map(([, row]) => {
        const kind = rows.text("kind", row).replace(/\.weight$/, "");
        return rows.has("layer", row) ? `${kind} ${rows.text("layer", row)}` : kind;
      }),
      hovers: columns.map(([tensor]) => html(tensor)),
    },
    values: errors.map((row) => row.map(Math.log10)),
    more: grid((row) =>
      row === undefined
        ? ""
        : `error ${rows.number("error", row).toPrecision(3)}, stored as ${
          rows.text("stored_as", row)
        }`
    ),
    legend: "log₁₀",
  });
}

function distinctTexts(rows: PlotRows, column: string): string[] {
  return [...new Set(allOf(rows).map((row) => rows.text(column, row)))];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A logarithm has no place for no error at all. */
function exactNote(errors: readonly ArrayLike<number>[]): string | undefined {
  return errors.some((row) => Array.from(row).includes(0)) ? "empty: no error at all" : undefined;
}
