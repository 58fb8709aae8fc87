/** Where the positions of a text go in mixtures of experts, in pictures. */
import { expertLoads, routing } from "../analyses/routing.ts";
import { Run } from "../run/run.ts";
import type { Table } from "../tables/mod.ts";
import { cellMap } from "./drawing/cell_map.ts";
import type { Figure } from "./drawing/figure.ts";
import { allOf, distinct, ofSequence, plotRows, tokensByPosition } from "./drawing/table_rows.ts";
import { titled } from "./drawing/theme.ts";
import { positionSide, type SequenceOption } from "./lens.ts";

/**
 * The share of positions that went to each expert of each layer: experts that everybody or nobody goes to are seen at once.
 *
 * @param source a run, or the table of `expertLoads()`
 * @throws {NotCapturedError} when the run did not capture `blk.*.ffn_expert_ids`
 * @throws {TypeError | RangeError} for another table, or an empty one
 */
export function expertLoadMap(source: Run | Table): Figure {
  const table = source instanceof Run ? expertLoads(source) : source;
  const columns = ["layer", "expert", "count", "value"];
  const rows = plotRows(table, "experts' loads", columns, "expertLoads()");
  const [layers, experts] = [distinct(rows, "layer"), distinct(rows, "expert")];
  const byPlace = new Map(
    allOf(rows).map((row) => [`${rows.number("layer", row)},${rows.number("expert", row)}`, row]),
  );
  const grid = <T>(give: (row: number | undefined) => T) =>
    layers.map((layer) => experts.map((expert) => give(byPlace.get(`${layer},${expert}`))));
  return cellMap({
    title: titled("share of positions that go to an expert", { model: rows.note("model") }),
    rows: { title: "layer", labels: layers.map(String) },
    columns: { title: "expert", labels: experts.map(String) },
    values: grid((row) => row === undefined ? NaN : rows.number("value", row)),
    more: grid((row) => row === undefined ? "" : `${rows.number("count", row)} positions`),
    legend: "share",
    format: ".3f",
    upwards: true,
  });
}

/**
 * The expert that counts most at each position of a text, in each layer: its number in the cell, its weight the colour, the others in the
 * hover.
 *
 * @param source a run, or the table of `routing()`
 * @throws {NotCapturedError} when the run did not capture `blk.*.ffn_expert_ids` and `blk.*.ffn_expert_weights`
 * @throws {TypeError | RangeError} for another table, an empty one, a sequence that is not there
 */
export function routingMap(source: Run | Table, options: SequenceOption = {}): Figure {
  const table = source instanceof Run ? routing(source) : source;
  const columns = ["layer", "position", "token", "rank", "expert", "value"];
  const rows = plotRows(table, "a routing", columns, "routing()");
  const own = ofSequence(rows, options.sequence);
  const numbers = (column: string) =>
    [...new Set(own.map((row) => rows.number(column, row)))].sort((a, b) => a - b);
  const [layers, positions] = [numbers("layer"), numbers("position")];
  const byPlace = Map.groupBy(
    own,
    (row) => `${rows.number("layer", row)},${rows.number("position", row)}`,
  );
  const grid = <T>(give: (found: readonly number[]) => T) =>
    layers.map((layer) =>
      positions.map((position) =>
        give(
          (byPlace.get(`${layer},${position}`) ?? [])
            .toSorted((a, b) => rows.number("value", b) - rows.number("value", a)),
        )
      )
    );
  const named = (row: number) =>
    `expert ${rows.number("expert", row)}: ${rows.number("value", row).toPrecision(3)}`;
  return cellMap({
    title: titled("experts that positions go to", {
      model: rows.note("model"),
      sequence: options.sequence,
    }),
    rows: { title: "layer", labels: layers.map(String) },
    columns: positionSide(positions, tokensByPosition(rows)),
    values: grid(([best]) => best === undefined ? NaN : rows.number("value", best)),
    words: grid(([best]) => best === undefined ? "" : `${rows.number("expert", best)}`),
    more: grid((found) => found.map(named).join("<br>")),
    legend: "weight",
    format: ".3f",
    upwards: true,
  });
}
