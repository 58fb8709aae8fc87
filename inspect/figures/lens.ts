/** The logit lens in pictures. */
import type { Table } from "../tables/mod.ts";
import { named } from "./attention/cells.ts";
import { cellMap } from "./drawing/cell_map.ts";
import { Figure, type Scatter } from "./drawing/figure.ts";
import { logAxis } from "./drawing/log_axis.ts";
import { short } from "./drawing/numbers.ts";
import { distinct, ofSequence, plotRows, tokensByPosition } from "./drawing/table_rows.ts";
import { axis, PALETTE, plotLayout, titled } from "./drawing/theme.ts";
import { tokenHtml, tokenLabel } from "./drawing/tokens.ts";

/** Which of several sequences a figure shows. */
export interface SequenceOption {
  /** 0 without it. */
  readonly sequence?: number;
}

/** Powers of ten that a plot of probabilities has; what is smaller is below it. */
const DECADES = 10;

/** Layers as people count them; −1 is the embedding. */
export function layerLabel(layer: number): string {
  return layer < 0 ? "emb." : `${layer}`;
}

/**
 * The likeliest next token after each layer (upwards) and position, as words in cells that are the darker the surer the lens is. The
 * hover has the next ones.
 *
 * @param table of `logitLens()`
 * @throws {TypeError | RangeError} for another table, an empty one, a sequence that is not there
 */
export function logitLensMap(table: Table, options: SequenceOption = {}): Figure {
  const rows = plotRows(
    table,
    "a logit lens",
    ["layer", "position", "token", "rank", "predicted", "value"],
    "logitLens()",
  );
  const own = ofSequence(rows, options.sequence);
  const layers = distinct(rows, "layer");
  const positions = [...new Set(own.map((row) => rows.number("position", row)))]
    .sort((a, b) => a - b);
  const cells = Map.groupBy(
    own,
    (row) => `${rows.number("layer", row)} ${rows.number("position", row)}`,
  );
  const cell = (layer: number, position: number) =>
    (cells.get(`${layer} ${position}`) ?? [])
      .toSorted((a, b) => rows.number("rank", a) - rows.number("rank", b));
  const tokens = tokensByPosition(rows);
  const grid = <T>(make: (rowsOfCell: number[]) => T) =>
    layers.map((layer) => positions.map((position) => make(cell(layer, position))));
  const candidate = (row: number) =>
    `${tokenHtml(rows.text("predicted", row), 24)} ${percent(rows.number("value", row))}`;
  return cellMap({
    title: titled("logit lens", { model: rows.note("model"), sequence: options.sequence }, [
      "the likeliest next token if the model ended there; darker: surer",
    ]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: positionSide(positions, tokens),
    values: grid(([best]) => best === undefined ? NaN : rows.number("value", best)),
    words: grid(([best]) => best === undefined ? "" : tokenLabel(rows.text("predicted", best), 9)),
    more: grid((found) => found.map(candidate).join("<br>")),
    legend: "probability",
    format: ".3f",
    range: [0, 1],
    upwards: true,
  });
}

/**
 * Probabilities of chosen tokens after each layer, at one position: when does one overtake the others?
 *
 * @param table of `tokenProbabilities()`
 * @throws {TypeError | RangeError} for another table, an empty one, a position that is not there
 */
export function logitLensLines(
  table: Table,
  options: SequenceOption & {
    /** Absolute; the last one that is there without it. */ readonly position?: number;
  } = {},
): Figure {
  const rows = plotRows(
    table,
    "probabilities over layers",
    ["layer", "position", "token", "rank", "predicted_id", "predicted", "value"],
    "tokenProbabilities()",
  );
  const own = ofSequence(rows, options.sequence);
  const positions = [...new Set(own.map((row) => rows.number("position", row)))];
  const position = options.position ?? Math.max(...positions);
  if (!positions.includes(position)) {
    throw new RangeError(
      `Cannot draw position ${position}: the table has ${
        positions.sort((a, b) => a - b).join(", ")
      }`,
    );
  }
  const here = own.filter((row) => rows.number("position", row) === position);
  const byToken = [...Map.groupBy(here, (row) => rows.number("predicted_id", row)).values()];
  const values = here.map((row) => rows.number("value", row)).filter((value) => value > 0);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const floor = Math.max(least, most * 10 ** -DECADES);
  const scale = logAxis(values.filter((value) => value >= floor), [1]);
  const layers = distinct(rows, "layer");
  const title = titled("probability after each layer", {
    model: rows.note("model"),
    sequence: options.sequence,
    at: `after “${tokenLabel(rows.text("token", here[0]), 24)}” (${position})`,
  }, [
    "the final norm and output matrix on the residual stream of each layer",
    least < floor ? "the smallest lie below the plot" : undefined,
  ]);
  return new Figure(
    byToken.map((all, i): Scatter => {
      const found = all.toSorted((a, b) => rows.number("layer", a) - rows.number("layer", b));
      return {
        type: "scatter",
        mode: "lines+markers",
        name: tokenHtml(rows.text("predicted", found[0])),
        x: found.map((row) => rows.number("layer", row)),
        y: found.map((row) => short(rows.number("value", row))),
        customdata: found.map((row) => rows.number("rank", row) + 1),
        line: { color: PALETTE[i % PALETTE.length], width: 2 },
        marker: { color: PALETTE[i % PALETTE.length], size: 5 },
        hovertemplate: `layer %{x}: %{y:.3g}, rank %{customdata}`,
      };
    }),
    plotLayout(280, {
      title,
      width: 760,
      xaxis: axis({
        title: { text: "layer" },
        range: [layers[0] - 0.5, layers[layers.length - 1] + 0.5],
        dtick: layerStep(layers.length),
      }),
      yaxis: axis({ ...scale.axis, title: { text: "probability" } }),
      hovermode: "x unified",
      showlegend: true,
      legend: { x: 1.02, y: 1 },
    }),
  );
}

/** Ticks of an axis of so many layers. */
export function layerStep(layers: number): number {
  return [1, 2, 5].find((step) => layers / step <= 20) ?? 10;
}

/** A side of tokens. */
export function positionSide(positions: readonly number[], tokens: ReadonlyMap<number, string>) {
  return {
    title: "position",
    labels: positions.map((position) => tokenLabel(tokens.get(position) ?? "", 12)),
    hovers: positions.map((position) => named(tokens.get(position) ?? "", position)),
  };
}

/** `66 %`, `0.4 %`; what is less than a hundredth as `<0.01 %`, for places that are HTML. */
export function percent(probability: number): string {
  const value = probability * 100;
  if (value < 0.01) return "&lt;0.01 %";
  return `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
}
