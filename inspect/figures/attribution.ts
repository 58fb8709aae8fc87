/** Direct logit attribution in pictures. */
import type { Table } from "../tables/mod.ts";
import { bars } from "./drawing/bars.ts";
import { cellMap } from "./drawing/cell_map.ts";
import type { Figure } from "./drawing/figure.ts";
import { layerLabel } from "./lens.ts";
import { distinct, type PlotRows, plotRows } from "./drawing/table_rows.ts";
import { titled } from "./drawing/theme.ts";
import { tokenHtml } from "./drawing/tokens.ts";

const COLUMNS = ["layer", "head", "component", "value"];
const FROM = "directLogitAttribution()";

/** The logit, or the difference of two, that a table takes apart. */
function target(rows: PlotRows): string {
  const [token, against] = ["target", "against"].map((key) => rows.note(key));
  const name = (token: string) => `“${tokenHtml(token)}”`;
  if (token === undefined) return "direct logit attribution";
  return `what speaks for ${name(token)}${
    against === undefined ? "" : ` against ${name(against)}`
  }`;
}

/**
 * What each head and each layer's FFN adds to a logit, layer (upwards) by head; the FFN is the last column. Orange speaks for the
 * token, blue against it.
 *
 * @param table of `directLogitAttribution()`
 * @throws {TypeError | RangeError} for another table or an empty one
 */
export function attributionMap(table: Table): Figure {
  const rows = plotRows(table, "an attribution", COLUMNS, FROM);
  const layers = distinct(rows, "layer").filter((layer) => layer >= 0);
  const heads = distinct(rows, "head");
  const values = layers.map(() => new Float64Array(heads.length + 1).fill(NaN));
  for (let row = 0; row < rows.length; row++) {
    const layer = layers.indexOf(rows.number("layer", row));
    const component = rows.text("component", row);
    if (layer < 0 || component === "attention bias") continue;
    const column = component === "ffn" ? heads.length : heads.indexOf(rows.number("head", row));
    values[layer][column] = rows.number("value", row);
  }
  return cellMap({
    title: titled(target(rows), { model: rows.note("model"), at: whereOf(rows) }, [
      "what each part adds to the logit by itself: orange for, blue against",
    ]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: { title: "head", labels: [...heads.map(String), "FFN"] },
    values,
    legend: "logit",
    signed: true,
    upwards: true,
  });
}

/**
 * The parts that add most to a logit, for and against, as bars; what all others add together is the last one. All bars together are
 * the logit.
 *
 * @param table of `directLogitAttribution()`
 * @throws {TypeError | RangeError} for another table, an empty one, or a count that is no whole number above 0
 */
export function attributionBars(
  table: Table,
  options: { /** How many; 15. */ readonly top?: number } = {},
): Figure {
  const { top: most = 15 } = options;
  if (!Number.isInteger(most) || most < 1) {
    throw new RangeError(`Cannot draw ${most} bars: give an integer, 1 or more`);
  }
  const rows = plotRows(table, "an attribution", COLUMNS, FROM);
  const parts = Array.from({ length: rows.length }, (_, row) => ({
    name: partName(rows, row),
    value: rows.number("value", row),
  })).sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const rest = parts.slice(most).reduce((sum, { value }) => sum + value, 0);
  const total = parts.reduce((sum, { value }) => sum + value, 0);
  const shown = [
    ...parts.slice(0, most),
    ...(parts.length > most ? [{ name: `${parts.length - most} others`, value: rest }] : []),
  ];
  return bars(shown, {
    title: titled(target(rows), { model: rows.note("model"), at: whereOf(rows) }, [
      `the largest of ${parts.length} parts; together ${total.toPrecision(3)}`,
    ]),
    unit: "logit",
  });
}

function partName(rows: PlotRows, row: number): string {
  const component = rows.text("component", row);
  if (component === "embedding") return component;
  const layer = `layer ${rows.number("layer", row)}`;
  if (component === "head") return `${layer}, head ${rows.number("head", row)}`;
  return `${layer}, ${component === "ffn" ? "FFN" : component}`;
}

function whereOf(rows: PlotRows): string | undefined {
  if (!rows.hasColumn("position") || !rows.has("position", 0)) return undefined;
  return `position ${rows.number("position", 0)}`;
}
