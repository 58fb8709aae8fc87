import { printable } from "./escape.ts";

const SIZE_UNITS = ["B", "kB", "MB", "GB", "TB"];

/** A number of bytes for people: three digits and a decimal unit, `92.9 MB`. */
export function formatBytes(bytes: number): string {
  const unit = sizeUnit(bytes);
  return `${inUnit(bytes, unit)} ${SIZE_UNITS[unit]}`;
}

/** How many bytes of how many, in the unit of the whole: `39.1 of 92.9 MB`. */
export function formatBytesOf(done: number, total: number): string {
  return `${inUnit(done, sizeUnit(total))} of ${formatBytes(total)}`;
}

/** Index of the unit; what would round to 1000 takes the next. */
function sizeUnit(bytes: number): number {
  let unit = 0;
  while (bytes / 1000 ** unit >= 999.5 && unit < SIZE_UNITS.length - 1) unit++;
  return unit;
}

function inUnit(bytes: number, unit: number): string {
  const value = bytes / 1000 ** unit;
  if (unit === 0 || value >= 99.95) return value.toFixed(0);
  return value.toFixed(value >= 9.995 ? 1 : 2);
}

/** A duration in seconds for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`. */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (part: number) => String(part).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor(whole % 3600 / 60))} min`;
}

/** Rows as columns for a terminal, aligned as `alignment` says (`l` or `r` for each). */
export function formatTable(given: readonly (readonly string[])[], alignment: string): string {
  const rows = given.map((row) => row.map(printable));
  const widths = Array.from(
    alignment,
    (_, column) => Math.max(...rows.map((row) => row[column].length)),
  );
  return rows.map((row) =>
    row.map((cell, column) =>
      alignment[column] === "r" ? cell.padStart(widths[column]) : cell.padEnd(widths[column])
    ).join("  ").trimEnd()
  ).join("\n");
}
