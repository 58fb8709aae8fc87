/** What is shown of a table: its name, facts, statistics and first rows. */
import type { ColumnValues } from "./column.ts";
import { metadataList } from "./meta.ts";
import { printable } from "../escape.ts";
import { formatTable } from "../format.ts";

/** Over all numbers of a table's `value`; minimum to norm leave NaN out. */
export interface Statistics {
  /** How many numbers, NaN among them. */
  readonly count: number;
  /** The smallest. */
  readonly min: number;
  /** The largest. */
  readonly max: number;
  /** Arithmetic. */
  readonly mean: number;
  /** Euclidean, of all numbers together. */
  readonly norm: number;
  /** How many are NaN. */
  readonly nan: number;
}

/** A cell: text, or a vector of which the first numbers are shown. */
export type Cell = string | Float32Array;

/** What is shown of a table. */
export interface Preview {
  /** The point or the table's name. */
  readonly title: string;
  /** What the title means. */
  readonly meaning?: string;
  /** Short remarks: rows, axes, model, prompt. */
  readonly facts: readonly string[];
  /** Of tables with vectors. */
  readonly statistics?: Statistics;
  /** The heads of the columns, in their order. */
  readonly columns: readonly PreviewColumn[];
  /** The first rows. */
  readonly cells: readonly (readonly Cell[])[];
  /** How many rows are not shown. */
  readonly more: number;
  /** Lines below the rows. */
  readonly notes?: readonly string[];
}

/** The head of a column. */
export interface PreviewColumn {
  /** The column's name. */
  readonly name: string;
  /** As people read it: `float32[64]`. */
  readonly type: string;
  /** Numbers stand at the right. */
  readonly numeric: boolean;
}

/** What a preview is made from. */
export interface Previewed {
  readonly metadata: ReadonlyMap<string, string>;
  readonly rows: number;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Columns of the first rows. */
  readonly head: (rows: number) => Readonly<Record<string, ColumnValues>>;
  /** All vectors of `value`. */
  readonly vectors?: Iterable<Float32Array>;
}

const VECTOR_ROWS = 8;
const PLAIN_ROWS = 20;
const PROMPT_CHARACTERS = 60;

/** Looks at all numbers for the statistics, and at the first rows. */
export function previewOf(table: Previewed): Preview {
  const { metadata, rows, columns, vectors } = table;
  const shown = Math.min(rows, vectors ? VECTOR_ROWS : PLAIN_ROWS);
  const head = table.head(shown);
  const titles = ["point", "tensor", "table"].map((key) => metadata.get(key));
  return {
    title: titles.find((title) => title !== undefined) ?? "table",
    meaning: metadata.get("meaning"),
    facts: [`${grouped(rows)} ${rows === 1 ? "row" : "rows"}`, ...facts(metadata)],
    statistics: vectors && statistics(vectors),
    columns: columns.map((column) => ({
      ...column,
      numeric: /^(int|float)\d+$/.test(column.type),
    })),
    cells: Array.from(
      { length: shown },
      (_, row) => columns.map(({ name }) => cell(head[name][row])),
    ),
    more: rows - shown,
  };
}

function facts(metadata: ReadonlyMap<string, string>): string[] {
  const facts: string[] = [];
  const axes = metadataList(metadata, "axes");
  const shape = metadataList(metadata, "shape");
  if (axes && shape) {
    const sized = axes.map((axis, i) =>
      typeof shape[i] === "number" ? `${axis} ${shape[i]}` : axis
    );
    facts.push(sized.join(" × "));
  }
  const layers = metadataList(metadata, "layers");
  if (layers && layers.length > 1) facts.push(`${layers.length} layers`);
  for (const key of ["type", "model"]) {
    const text = metadata.get(key);
    if (text) facts.push(text);
  }
  const alias = metadata.get("alias");
  if (alias) facts.push(`as ${alias}`);
  const rowOrder = metadata.get("row_order");
  if (rowOrder) facts.push(`RoPE pairs ${rowOrder}`);
  const prompts = metadataList(metadata, "prompt");
  if (prompts?.length === 1) facts.push(`prompt ${shortened(JSON.stringify(prompts[0]))}`);
  else if (prompts) facts.push(`${prompts.length} prompts`);
  return facts;
}

/** Statistics of all numbers, in 64-bit floats. */
export function statistics(vectors: Iterable<Float32Array>): Statistics {
  let [count, nan, sum, squares, min, max] = [0, 0, 0, 0, Infinity, -Infinity];
  for (const vector of vectors) {
    count += vector.length;
    for (const value of vector) {
      if (Number.isNaN(value)) {
        nan++;
        continue;
      }
      sum += value;
      squares += value * value;
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  const [some, norm] = [count > nan, Math.sqrt(squares)];
  const mean = sum / (count - nan);
  return { count, min: some ? min : NaN, max: some ? max : NaN, mean, norm, nan };
}

/** The statistics as words: the same in a terminal and in a notebook. */
export function statisticsWords(statistics: Statistics): [name: string, value: string][] {
  const { count, min, max, mean, norm, nan } = statistics;
  return [
    ["min", short(min)],
    ["max", short(max)],
    ["mean", short(mean)],
    ["norm", short(norm)],
    ["NaN", grouped(nan)],
    ["numbers", grouped(count)],
  ];
}

/** The first numbers of a vector, and how many it has. */
export function vectorText(vector: Float32Array, shown = 4): string {
  const numbers = Array.from(vector.subarray(0, shown), short);
  return `[${numbers.join(", ")}${vector.length > shown ? ", …" : ""}]`;
}

/** The preview for a terminal. */
export function previewText(preview: Preview): string {
  const { title, meaning, facts, statistics, columns, cells, more, notes = [] } = preview;
  const rows = [
    columns.map(({ name }) => name),
    ...cells.map((row) => row.map((each) => typeof each === "string" ? each : vectorText(each))),
  ];
  const alignment = columns.map(({ numeric }) => numeric ? "r" : "l").join("");
  return [
    printable(meaning ? `${title}: ${meaning}` : title),
    printable(facts.join(" · ")),
    ...statistics ? [statisticsWords(statistics).map((words) => words.join(" ")).join(" · ")] : [],
    formatTable(rows, alignment),
    ...more > 0 ? [`… ${grouped(more)} more`] : [],
    ...notes.map(printable),
  ].join("\n");
}

function cell(value: ColumnValues[number] | undefined): Cell {
  if (value instanceof Float32Array) return value;
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return visible(value);
  if (typeof value === "number") return short(value);
  return typeof value === "object" ? shortened(value.map(String).join(", ")) : `${value}`;
}

/** Control characters would break lines and reach the terminal; spaces stay. */
function visible(text: string): string {
  return shortened(printable(text));
}

function shortened(text: string): string {
  const characters = [...text];
  return characters.length > PROMPT_CHARACTERS
    ? `${characters.slice(0, PROMPT_CHARACTERS - 1).join("")}…`
    : text;
}

/** Integers whole, other numbers with four digits; very small ones with an exponent. */
function short(value: number): string {
  if (Number.isInteger(value)) return `${value}`;
  return Math.abs(value) < 1e-3 ? value.toExponential(2) : `${Number(value.toPrecision(4))}`;
}

/** 1234567 as 1,234,567. */
function grouped(count: number): string {
  return count.toLocaleString("en-US");
}
