/** Tables as figures read them. */
import { type Table, tableColumns } from "../../tables/mod.ts";

/** What a figure reads from a table. */
export interface PlotRows {
  /** How many rows. */
  readonly length: number;
  /** A number; NaN where it is missing. */
  number(column: string, row: number): number;
  /** A text; "" where it is missing. */
  text(column: string, row: number): string;
  /** Whether a value is there. */
  has(column: string, row: number): boolean;
  /** Whether there is such a column. */
  hasColumn(column: string): boolean;
  /** What the table says about itself; undefined where it does not. */
  note(key: string): string | undefined;
}

/**
 * The rows of a table that a figure needs.
 *
 * @param what the figure: `a logit lens`
 * @param columns those that must be there
 * @param from what gives such a table: `logitLens()`
 * @throws {TypeError} for a table of something else
 * @throws {RangeError} for one without rows
 */
export function plotRows(
  table: Table,
  what: string,
  columns: readonly string[],
  from: string,
): PlotRows {
  const all = tableColumns(table);
  const name = table.schema.metadata.get("table") ?? table.schema.metadata.get("point");
  const missing = columns.filter((column) => !(column in all));
  if (missing.length > 0) {
    throw new TypeError(
      `Cannot draw ${what}: the table${name ? ` ${name}` : ""} has no column ${
        missing.join(", ")
      }; give that of ${from}`,
    );
  }
  if (table.numRows === 0) throw new RangeError(`Cannot draw ${what}: the table has no rows`);
  return {
    length: table.numRows,
    number: (column, row) => Number(all[column][row] ?? NaN),
    text: (column, row) => `${all[column][row] ?? ""}`,
    has: (column, row) => (all[column]?.[row] ?? null) !== null,
    hasColumn: (column) => column in all,
    note: (key) => table.schema.metadata.get(key),
  };
}

/** The numbers of all rows. */
export function allOf(rows: PlotRows): number[] {
  return Array.from({ length: rows.length }, (_, row) => row);
}

/** The different values of a column, ascending. */
export function distinct(rows: PlotRows, column: string): number[] {
  const values = new Set<number>();
  for (let row = 0; row < rows.length; row++) {
    if (rows.has(column, row)) values.add(rows.number(column, row));
  }
  return [...values].sort((a, b) => a - b);
}

/** The token at each position that a table has, by its columns `position` and `token`. */
export function tokensByPosition(rows: PlotRows): Map<number, string> {
  const tokens = new Map<number, string>();
  for (let row = 0; row < rows.length; row++) {
    if (rows.has("position", row)) {
      tokens.set(rows.number("position", row), rows.text("token", row));
    }
  }
  return tokens;
}

/**
 * The rows of one sequence.
 *
 * @param sequence 0 where nothing is said
 * @throws {RangeError} for one that the table does not have
 */
export function ofSequence(rows: PlotRows, sequence = 0): number[] {
  const all = allOf(rows);
  if (!rows.hasColumn("sequence")) return all;
  const found = all.filter((row) => rows.number("sequence", row) === sequence);
  if (found.length > 0) return found;
  throw new RangeError(
    `Cannot draw sequence ${sequence}: the table has ${distinct(rows, "sequence").join(", ")}`,
  );
}
