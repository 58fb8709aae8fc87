/** The figures of `task bench` as text and as a table. */
import { formatBytes, formatTable } from "../commands/format.ts";
import { float64, int32, rowsTable, type Table, utf8 } from "../tables.ts";
import type { BenchRow } from "./model_bench.ts";

/** What was measured, where and how. */
export interface BenchReport {
  readonly model: string;
  readonly device: string;
  readonly version: string;
  readonly deno: string;
  readonly rounds: number;
  readonly rows: readonly BenchRow[];
}

/** The figures for people. */
export function benchText({ model, device, version, deno, rounds, rows }: BenchReport): string {
  const lines = rows.map(({ what, unit, median, low, high, bar, bytes }) => [
    what,
    unit === "×" ? `${figure(median)} ×` : `${figure(median)} ${unit}`,
    low === high ? "" : `${figure(low)} – ${figure(high)}`,
    bar === undefined ? "" : `${median <= bar ? "within" : "above"} ${bar} ×`,
    bytes === undefined ? "" : formatBytes(bytes),
  ]);
  return [
    `${model} on ${device}; Lamina ${version}, Deno ${deno}`,
    `medians of alternating rounds (${rounds}); × is time over that of the same without capture`,
    "",
    formatTable([["", "median", "spread", "bar", "captured"], ...lines], "lrrlr"),
  ].join("\n");
}

/** The figures as an Arrow table, a row each. */
export function benchTable({ model, device, version, rows }: BenchReport): Table {
  return rowsTable("bench", {
    what: utf8(rows.map(({ what }) => what)),
    unit: utf8(rows.map(({ unit }) => unit)),
    median: float64(rows.map(({ median }) => median)),
    low: float64(rows.map(({ low }) => low)),
    high: float64(rows.map(({ high }) => high)),
    rounds: int32(rows.map(({ rounds }) => rounds)),
    bar: float64(rows.map(({ bar }) => bar)),
    captured_bytes: float64(rows.map(({ bytes }) => bytes)),
  }, { model, device, version, meaning: "medians and spread of alternating rounds" });
}

/** Three digits. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
