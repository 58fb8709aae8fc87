/** CSV (RFC 4180): a line per row; vectors and lists are one cell each, in JSON's brackets. */
import type { ColumnValues } from "./column.ts";

const LINE = "\r\n";

/** The first line. */
export function csvHeader(names: readonly string[]): string {
  return names.map(cell).join() + LINE;
}

/** Lines of some rows. Missing values are empty cells; 32-bit floats have the fewest digits that give them back. */
export function csvRows(columns: readonly ColumnValues[], rows: number): string {
  const lines: string[] = [];
  for (let row = 0; row < rows; row++) {
    lines.push(columns.map((column) => cell(valueText(column, row))).join() + LINE);
  }
  return lines.join("");
}

function valueText(column: ColumnValues, row: number): string {
  const value = column[row];
  if (value instanceof Float32Array) return `[${Array.from(value, float32Text).join(", ")}]`;
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  if (column instanceof Float32Array) return float32Text(column[row]);
  return value === null ? "" : `${value}`;
}

/** Nine digits give every 32-bit float back; most need fewer. NaN and Infinity stand as such. */
function float32Text(value: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return `${short}`;
  }
  return `${Number.isFinite(value) ? Number(value.toPrecision(9)) : value}`;
}

function cell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
