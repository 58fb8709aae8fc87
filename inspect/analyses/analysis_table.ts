/** How analyses make their tables: rows as plain objects, columns by a schema. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { type Table, tableOf } from "../tables/arrow.ts";
import { rowPositions } from "../run/capture.ts";
import type { Model } from "../run/model.ts";
import type { Extent } from "../run/positions.ts";
import { type Prompt, shown } from "../run/prompt.ts";
import { NotCapturedError, Run, stepOf } from "../run/run.ts";
import type { RunOptions } from "../run/runner.ts";
import type { ScalarColumn } from "../tables/column.ts";

/**
 * What an analysis is made of: a run that captured what it needs, or what is run for it: a prompt, or several as
 * {@linkcode Model.run} takes them.
 */
export type Subject =
  | Run
  | Prompt
  | readonly string[]
  | readonly (readonly number[])[];

/** The type of each column, in their order. */
export type Schema = Readonly<Record<string, "int32" | "float64" | "utf8" | "bool">>;

/** One row of a table with that schema; null where a value is missing. */
export type Row<S extends Schema> = {
  readonly [Column in keyof S]:
    | (S[Column] extends "utf8" ? string : S[Column] extends "bool" ? boolean : number)
    | null;
};

/** Index columns that say which pass of which sequence a row is about. */
export const SEQUENCE = { sequence: "int32", step: "int32" } as const;

/** Index columns that say which token of it. */
export const TOKEN = { position: "int32", token_id: "int32", token: "utf8" } as const;

/**
 * The run that is analysed; a prompt is run.
 *
 * @throws {PromptError} for what is neither
 */
export async function asRun(model: Model, subject: Subject, options: RunOptions): Promise<Run> {
  if (subject instanceof Run) return subject;
  return await model.run(isIds(subject) ? [subject] : subject, options);
}

function isIds(prompt: Exclude<Subject, Run>): prompt is readonly number[] {
  return typeof prompt?.[0] === "number";
}

/**
 * For analyses that run nothing.
 *
 * @throws {TypeError} for a prompt, or anything else that is no run
 */
export function checkIsRun(run: Run): void {
  if (run instanceof Run) return;
  throw new TypeError(
    `Cannot analyse ${shown(run)}: give a run, of model.run(prompt, { capture: … })`,
  );
}

/** What a table says about itself in its metadata: `meaning` in one line, and anything else under its own name. */
export interface Notes {
  readonly meaning: string;
  readonly [note: string]: string | number;
}

/** Makes the Arrow table of an analysis. */
export function analysisTable<S extends Schema>(
  name: string,
  schema: S,
  rows: readonly Row<S>[],
  notes: Notes,
): Table {
  const columns = Object.entries(schema).map(([column, type]) =>
    [column, { type, values: rows.map((row) => row[column]) } as ScalarColumn] as const
  );
  const metadata = Object.entries({ table: name, ...notes })
    .map(([key, value]) => [key, `${value}`] as const);
  return tableOf(Object.fromEntries(columns), new Map(metadata));
}

/** Gives the index columns of a position of a sequence. */
export function placesOf(
  run: Run,
  sequence: number,
): (position: number) => Row<typeof SEQUENCE & typeof TOKEN> {
  const whole = run.sequences[sequence];
  const tokens = run.tokens(sequence);
  return (position) => ({
    sequence,
    step: stepOf(whole, position),
    position,
    token_id: whole.ids[position],
    token: tokens[position],
  });
}

/** How far a run's sequences reach. */
export function extentsOf(run: Run): Extent[] {
  return run.sequences.map(({ ids, promptLength }) => ({ promptLength, length: ids.length }));
}

/** A captured point and its place. */
export interface CapturedPoint {
  readonly name: string;
  /** −1 outside the blocks. */
  readonly layer: number;
  /** The name without `blk.<layer>.`. */
  readonly kind: string;
}

/**
 * What a run captured of some kinds of points (`out`, `token_embd`), in the order of the layers.
 *
 * @throws {NotCapturedError} when that is nothing
 * @throws {TypeError} for what is no run
 */
export function capturedPoints(run: Run, kinds: readonly string[]): CapturedPoint[] {
  checkIsRun(run);
  const found = run.captured
    .map((name) => ({ name, layer: layerOf(name) ?? -1, kind: kindOf(name) }))
    .filter(({ kind }) => kinds.includes(kind));
  if (found.length === 0) {
    const inBlocks = kinds.find((kind) => kind !== "token_embd") ?? kinds[0];
    throw new NotCapturedError(`blk.*.${inBlocks}`, run.captured);
  }
  return found.sort((a, b) => a.layer - b.layer || kinds.indexOf(a.kind) - kinds.indexOf(b.kind));
}

/** The captured rows of a point of a sequence; the numbers of each are a view. */
export function* capturedRows(
  run: Run,
  point: string,
  sequence: number,
): Generator<{ readonly position: number; readonly vector: Float32Array }> {
  for (const piece of run.pieces(point, sequence)) {
    const { shape: [count], data } = piece;
    const width = data.length / count;
    for (const [row, position] of rowPositions(piece, count).entries()) {
      yield { position, vector: data.subarray(row * width, (row + 1) * width) };
    }
  }
}
