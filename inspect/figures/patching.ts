/** Patching sweeps in pictures. */
import type { Table } from "../tables/mod.ts";
import { named } from "./attention/cells.ts";
import { cellMap, type Side } from "./drawing/cell_map.ts";
import type { Figure } from "./drawing/figure.ts";
import { layerLabel } from "./lens.ts";
import { distinct, type PlotRows, plotRows } from "./drawing/table_rows.ts";
import { titled } from "./drawing/theme.ts";
import { tokenHtml, tokenLabel } from "./drawing/tokens.ts";

/**
 * How much of the clean run one patched place brings back: layer (upwards) by position, by head, or, of a sweep over both, by head at
 * one position. 1: all of it; 0: nothing; below 0: the patch works against it. Where the prompts differ, both tokens stand below the map.
 *
 * @param table of `patchingSweep()`
 * @throws {TypeError | RangeError} for another table, an empty one, a position that is not there, and of a sweep over heads and
 *   positions without `position` when it has several
 */
export function patchingMap(
  table: Table,
  options: { /** Of a sweep over heads and positions. */ readonly position?: number } = {},
): Figure {
  const columns = ["layer", "head", "position", "token", "clean_token", "value"];
  const all = plotRows(table, "a patching sweep", columns, "patchingSweep()");
  const [layers, heads, positions] = ["layer", "head", "position"]
    .map((column) => distinct(all, column));
  const byHead = heads.length > 0;
  const position = byHead ? placeOf(positions, options.position) : undefined;
  const own = byHead ? heads : positions;
  const values = layers.map(() => new Float64Array(own.length).fill(NaN));
  for (let row = 0; row < all.length; row++) {
    if (position !== undefined && all.number("position", row) !== position) continue;
    const layer = layers.indexOf(all.number("layer", row));
    const place = own.indexOf(all.number(byHead ? "head" : "position", row));
    values[layer][place] = all.number("value", row);
  }
  const kind = all.note("point") ?? "";
  const side: Side = byHead
    ? { title: "head", labels: heads.map(String) }
    : positionSide(all, positions);
  return cellMap({
    title: titled(`patching ${kind}`, {
      model: all.note("model"),
      at: position === undefined ? undefined : `position ${position}`,
    }, [
      "how much of the clean run comes back when this place is patched into the corrupted one: 1 all, 0 nothing",
      all.note("complete") === "false"
        ? "stopped before the end: what is empty did not run"
        : undefined,
    ]),
    rows: { title: "layer", labels: layers.map(layerLabel) },
    columns: side,
    values,
    legend: "restored",
    format: ".3f",
    signed: true,
    upwards: true,
  });
}

function placeOf(positions: readonly number[], asked?: number): number | undefined {
  if (positions.length === 0) return undefined;
  const position = asked ?? (positions.length === 1 ? positions[0] : undefined);
  if (position !== undefined && positions.includes(position)) return position;
  throw new RangeError(
    position === undefined
      ? `Cannot draw heads at ${positions.length} positions at once: choose one with position (${
        positions.join(", ")
      })`
      : `Cannot draw position ${position}: the sweep has ${positions.join(", ")}`,
  );
}

/** Tokens of the corrupted prompt; where the clean one differs, that in front. */
function positionSide(rows: PlotRows, positions: readonly number[]): Side {
  const tokens = new Map<number, readonly [corrupted: string, clean: string]>();
  for (let row = 0; row < rows.length; row++) {
    tokens.set(rows.number("position", row), [
      rows.text("token", row),
      rows.text("clean_token", row),
    ]);
  }
  const both = positions.map((position) => [position, ...tokens.get(position)!] as const);
  return {
    title: "position",
    labels: both.map(([, bad, good]) =>
      bad === good ? tokenLabel(bad, 14) : `${tokenLabel(good, 9)}→${tokenLabel(bad, 9)}`
    ),
    hovers: both.map(([position, bad, good]) =>
      bad === good
        ? named(bad, position)
        : `"${tokenHtml(good)}" → "${tokenHtml(bad)}" (${position})`
    ),
  };
}
