/** The figures of `task bench` as text, as Markdown, as JSON and as a table. */
import { formatBytes, formatTable } from "../format.ts";
import { float64, int32, rowsTable, type Table, utf8 } from "../tables/mod.ts";
import type { NotMeasured } from "./probe.ts";
import { type BenchRow, isKept, type Section, SECTIONS } from "./bench_row.ts";
import { escapeMarkdown, printable } from "../escape.ts";

/** An engine that was measured. */
export interface MeasuredPeer {
  readonly name: string;
  readonly description: string;
}

/** What was measured, where and how. */
export interface BenchReport {
  readonly model: string;
  readonly device: string;
  readonly version: string;
  readonly deno: string;
  /** When, in ISO 8601. */
  readonly time: string;
  readonly rounds: number;
  readonly rows: readonly BenchRow[];
  readonly peers: readonly MeasuredPeer[];
  readonly missing: readonly NotMeasured[];
}

const HEADS: Readonly<Record<Section, string>> = {
  "against others": "Lamina's speed over another engine's",
  "against the device": "of what the device can do",
  "against itself": "time over that of the plain run",
  speed: "speed",
  memory: "memory",
  device: "the device",
};

/** The figures for people. */
export function benchText(report: BenchReport): string {
  const parts = sectionsOf(report).map(({ section, rows }) => {
    const lines = rows.map((row) => [`  ${nameOf(row)}`, ...cells(row)]);
    return { head: HEADS[section], lines };
  });
  // One table, so that columns stand below each other.
  const all = formatTable(parts.flatMap(({ lines }) => lines), "lrrlrl").split("\n");
  const text = parts.flatMap(({ head, lines }) => ["", head, ...all.splice(0, lines.length)]);
  return [
    printable(titleOf(report)),
    ...text,
    ...notes(report).flatMap((note) => ["", printable(note)]),
  ].join("\n");
}

/** The figures as tables in Markdown. */
export function benchMarkdown(report: BenchReport): string {
  const parts = sectionsOf(report).map(({ section, rows }) =>
    [
      `**${HEADS[section]}**`,
      "",
      "| what | median | spread | bar | captured, best | note |",
      "| --- | ---: | ---: | --- | ---: | --- |",
      ...rows.map((row) => `| ${[nameOf(row), ...cells(row)].map(escapeMarkdown).join(" | ")} |`),
    ].join("\n")
  );
  const [title, ...rest] = [titleOf(report), ...notes(report)].map(escapeMarkdown);
  return [title, ...parts, ...rest].join("\n\n");
}

function titleOf({ model, device, version, deno, rounds }: BenchReport): string {
  return `${model} on ${device}; Lamina ${version}, Deno ${deno}; medians of ${rounds} alternating rounds`;
}

function notes({ peers, missing }: BenchReport): string[] {
  return [
    ...peers.map(({ name, description }) => `${name}: ${description}`),
    ...missing.map(({ name, problem }) => `${name}: not measured: ${problem}`),
  ];
}

function sectionsOf({ rows }: BenchReport): { section: Section; rows: BenchRow[] }[] {
  return SECTIONS.map((section) => ({
    section,
    rows: rows.filter((row) => row.section === section),
  })).filter(({ rows }) => rows.length > 0);
}

function nameOf({ section, what, engine }: BenchRow): string {
  if (engine === undefined) return what;
  return section === "against others" ? `${what}, to ${engine}` : `${engine}: ${what}`;
}

/** Median, spread, bar, bytes or the best, note. */
function cells(row: BenchRow): string[] {
  const { unit, median, low, high, atLeast, atMost, bytes, againstBest, note = "" } = row;
  const kept = isKept(row);
  const bar = atLeast === undefined ? `at most ${short(atMost)}` : `at least ${short(atLeast)}`;
  return [
    `${figure(median)} ${unit}`,
    low === high ? "" : `${figure(low)} – ${figure(high)}`,
    kept === undefined ? "" : `${bar}: ${kept ? "kept" : "missed"}`,
    bytes !== undefined
      ? formatBytes(bytes)
      : againstBest !== undefined
      ? `its best: ${figure(againstBest)}`
      : "",
    note,
  ];
}

/** The figures as an Arrow table, a row each. */
export function benchTable({ model, device, version, rows }: BenchReport): Table {
  return rowsTable("bench", {
    section: utf8(rows.map(({ section }) => section)),
    what: utf8(rows.map(({ what }) => what)),
    engine: utf8(rows.map(({ engine }) => engine)),
    unit: utf8(rows.map(({ unit }) => unit)),
    median: float64(rows.map(({ median }) => median)),
    low: float64(rows.map(({ low }) => low)),
    high: float64(rows.map(({ high }) => high)),
    rounds: int32(rows.map(({ rounds }) => rounds)),
    at_least: float64(rows.map(({ atLeast }) => atLeast)),
    at_most: float64(rows.map(({ atMost }) => atMost)),
    against_best: float64(rows.map(({ againstBest }) => againstBest)),
    captured_bytes: float64(rows.map(({ bytes }) => bytes)),
    note: utf8(rows.map(({ note }) => note)),
  }, { model, device, version, meaning: "medians and spread of alternating rounds" });
}

/** A bar as it was set, if it is a short number. */
function short(value = 0): string {
  return String(Math.abs(value) >= 100 ? Math.round(value) : value);
}

/** Three digits. */
function figure(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
