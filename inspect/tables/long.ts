/** The long form of a table of vectors: one row per number. */
import type { ColumnValues } from "./column.ts";
import { type Column, ColumnError, type Columns, float32, int32, utf8 } from "./column.ts";
import { metadataList } from "./meta.ts";

type Wanted = number | string;

/** What rows must have in some columns, by the columns' names; {@linkcode Table.long} says how. */
export type RowFilter = Readonly<
  Record<string, number | string | readonly (number | string)[]>
>;

/** How far a long form may grow. */
export interface LongOptions {
  /** Most rows; default five million. */
  readonly maxRows?: number;
}

/** A long form that nobody can want to have at once. */
export class LongTableError extends RangeError {
  /** The class's name. */
  override readonly name = "LongTableError";
  /**
   * Thrown by {@linkcode Table.long} before anything is built.
   *
   * @param rows how many there would be
   * @param maxRows how many there may be
   */
  constructor(readonly rows: number, readonly maxRows: number) {
    super(
      `The long form would have ${rows} rows, more than ${maxRows}: choose a slice, ` +
        "for instance long({ head: 0, position: -1 }), or raise maxRows",
    );
  }
}

const MOST_ROWS = 5_000_000;

/**
 * Index columns, place and `value` of each number of the chosen rows; {@linkcode Table.long} explains `where`.
 *
 * @throws {ColumnError} for a column that is not there
 * @throws {LongTableError} before anything is built
 */
export function longColumns(
  metadata: ReadonlyMap<string, string>,
  columns: Readonly<Record<string, ColumnValues>>,
  where: RowFilter,
  options: LongOptions = {},
): Columns {
  const { maxRows = MOST_ROWS } = options;
  const { value, key_start: firstKeys, ...index } = columns;
  if (!isVectors(value)) throw new ColumnError("value", "the table holds no vectors");
  const axis = firstKeys ? "key" : `${metadataList(metadata, "axes")?.at(-1) ?? "feature"}`;
  // Attention's rows are queries, and a query's place is its position.
  const columnOf = (name: string) =>
    name === "position" && index.position === undefined && index.query ? "query" : name;
  const conditions = Object.entries(where).map(([name, wanted]) =>
    [columnOf(name), wanted] as const
  );
  const unknown = conditions.map(([name]) => name)
    .find((name) => name !== axis && !Object.hasOwn(index, name));
  if (unknown !== undefined) {
    const names = [...Object.keys(index), axis].join(", ");
    throw new ColumnError(unknown, `the table has no such column, but ${names}`);
  }

  const promptEnd = promptEnds(index, metadata);
  const tests = conditions.filter(([name]) => name !== axis)
    .map(([name, wanted]) => rowTest(name, wanted, index, promptEnd));
  const rows = [...value.keys()].filter((row) => tests.every((fits) => fits(row)));
  const first = (row: number) => Number(firstKeys?.[row] ?? 0);
  const end = rows.reduce((most, row) => Math.max(most, first(row) + value[row].length), 0);
  const places = where[axis] === undefined ? undefined : [where[axis]].flat().map(Number);
  /** What negative places count back from: keys are positions. */
  const endOf = (row: number) => (axis === "key" ? promptEnd(row) : undefined) ?? end;
  /** Which of a row's numbers are chosen. */
  const chosen = (row: number) =>
    places?.map((place) => (place < 0 ? place + endOf(row) : place) - first(row))
      .filter((i) => i >= 0 && i < value[row].length) ?? [...value[row].keys()];

  const total = rows.reduce((sum, row) => sum + (places ? chosen(row) : value[row]).length, 0);
  if (total > maxRows) throw new LongTableError(total, maxRows);
  const [sources, place, numbers] = [
    new Int32Array(total),
    new Int32Array(total),
    new Float32Array(total),
  ];
  let at = 0;
  for (const row of rows) {
    for (const i of chosen(row)) {
      sources[at] = row;
      place[at] = first(row) + i;
      numbers[at++] = value[row][i];
    }
  }
  const repeated = Object.entries(index).map(([name, column]) =>
    [name, takeRows(name, column, sources)] as const
  );
  return { ...Object.fromEntries(repeated), [axis]: int32(place), value: float32(numbers) };
}

function isVectors(column: ColumnValues | undefined): column is readonly Float32Array[] {
  return Array.isArray(column) && column.every((row) => row instanceof Float32Array);
}

/** Gives the length of the prompt of each row's sequence; undefined where the table does not know. */
function promptEnds(
  index: Readonly<Record<string, ColumnValues>>,
  metadata: ReadonlyMap<string, string>,
): (row: number) => number | undefined {
  const lengths = metadataList(metadata, "prompt_lengths");
  return (row) => {
    const length = lengths?.[Number(index.sequence?.[row] ?? 0)];
    return typeof length === "number" ? length : undefined;
  };
}

/** Tells which rows have one of the wanted values. */
function rowTest(
  name: string,
  wanted: RowFilter[string],
  index: Readonly<Record<string, ColumnValues>>,
  promptEnd: (row: number) => number | undefined,
): (row: number) => boolean {
  const column = index[name];
  const values = new Set([wanted].flat());
  const negative = [...values].filter((value) => typeof value === "number" && value < 0);
  if (negative.length === 0) return (row) => values.has(column[row] as Wanted);
  const largest = Array.from(column as ArrayLike<number>).reduce((a, b) => Math.max(a, b), -1);
  return (row) => {
    const value = column[row] as number;
    const end = (PLACES.has(name) ? promptEnd(row) : undefined) ?? largest + 1;
    return values.has(value) || values.has(value - end);
  };
}

/** Columns whose negative values count from the prompt's end. */
const PLACES = new Set(["position", "query", "slot"]);

/** Rows of a column, under its own type. */
function takeRows(name: string, column: ColumnValues, rows: Int32Array): Column {
  if (column instanceof Int32Array) return int32(rows.map((row) => column[row]));
  const values = Array.from(rows, (row) => column[row]);
  if (values.every((value) => value === null || typeof value === "string")) {
    return { ...utf8(values), nullable: true };
  }
  if (values.every((value) => value === null || Number.isInteger(value))) {
    return { ...int32(values as (number | null)[]), nullable: true };
  }
  throw new ColumnError(name, "a long form has only integers and texts beside its value");
}
