/**
 * Tables: what was captured, weights and results as Apache Arrow. Loading this file loads the package `apache-arrow` (about
 * 0.2 s), so plain generation leaves it to `await import("./mod.ts")`.
 */
import { batchOf, type RecordBatch, type Schema, schemaOf, Table, tableOf } from "./arrow.ts";
import type { Piece } from "../run/capture.ts";
import type { Point } from "../points/points.ts";
import { type Columns, int32, rowsOf, vectors } from "./column.ts";
import { pointMetadata, runMetadata, type TableMeta } from "./meta.ts";
import { pieceColumns, PieceError } from "./point_rows.ts";
import type { TokenOf } from "../run/capture.ts";
import { checkStack } from "./stack.ts";

export { Table, tableColumns, tableVectors } from "./arrow.ts";
export type { TableValue } from "./column.ts";
export type { ColumnValues } from "./column.ts";
export * from "./column.ts";
export { type LongOptions, LongTableError, type RowFilter } from "./long.ts";
export type { TableMeta } from "./meta.ts";
export { PieceError } from "./point_rows.ts";
export type { TokenOf } from "../run/capture.ts";
export { stackedAs } from "./stack.ts";

/**
 * The table of a captured point, or of points of one kind in several layers: a row per vector ({@linkcode pieceColumns} says
 * which columns), a record batch per piece, the values over the pieces' own buffers without a copy.
 *
 * @param points one point, or points of one shape in different layers; their order does not matter
 * @param pieces what was captured of them, in the order that the rows shall have
 * @throws {PieceError} for a piece of none of the points or of another shape, and for points that do not stack
 */
export function pointTable(
  points: readonly Point[],
  pieces: readonly Piece[],
  meta: TableMeta,
  token: TokenOf,
): Table {
  checkStack(points);
  const [first] = points;
  const byName = new Map(points.map((point) => [point.name, point]));
  const schema = pointSchema(first, pointMetadata(points, meta));
  const batches = pieces.map((piece) => {
    const point = byName.get(piece.point);
    if (!point) throw new PieceError(first.name, `it is one of ${piece.point}`);
    return pieceBatch(schema, point, piece, token);
  });
  return new Table(schema, batches);
}

/** The schema of a point's tables. */
export function pointSchema(point: Point, metadata: Map<string, string>): Schema {
  // A piece without rows has all the columns.
  const shape = point.shape.map((dim) => typeof dim === "number" ? dim : 0);
  const piece = { point: point.name, sequence: 0, step: 0, start: 0, shape };
  const data = new Float32Array(0);
  return schemaOf(pieceColumns(point, { ...piece, data }, () => undefined), metadata);
}

/**
 * The rows of one piece under the schema of its point.
 *
 * @throws {PieceError} when it is no piece of the point
 */
export function pieceBatch(
  schema: Schema,
  point: Point,
  piece: Piece,
  token: TokenOf,
): RecordBatch {
  return batchOf(schema, pieceColumns(point, piece, token));
}

/**
 * A table of plain columns: tokens, results, a directory of tensors. Typed arrays are taken without a copy.
 *
 * ```ts
 * import { float64, rowsTable, utf8 } from "./mod.ts";
 * rowsTable("top", { token: utf8([" mat", " floor"]), probability: float64([0.3, 0.2]) });
 * ```
 *
 * @param name stands in the metadata under `table`, and `meaning`, one line, under its own name
 * @throws {ColumnError} for columns of different lengths, and values that do not fit their type
 */
export function rowsTable(
  name: string,
  columns: Columns,
  meta: Partial<TableMeta> & { readonly meaning?: string } = {},
): Table {
  const metadata = new Map([["table", name]]);
  if (meta.meaning !== undefined) metadata.set("meaning", meta.meaning);
  return tableOf(columns, new Map([...metadata, ...runMetadata(meta)]));
}

/** A tensor of the model's file. */
export interface TensorRows {
  /** `blk.0.attn_q.weight` */
  readonly name: string;
  /** Its type in the file: `Q4_1`. */
  readonly type: string;
  /** Of the whole tensor, rows first: [rows, columns], or [columns]. */
  readonly shape: readonly number[];
  /** The row with which the data begin; 0 without it. */
  readonly firstRow?: number;
}

/**
 * Rows of a weight: `row` and `value` [columns], without a copy. The metadata has the tensor's name as `tensor`, its `type` and
 * `shape`.
 *
 * @param data dequantized rows [n, columns]
 * @throws {ColumnError} when the data are no whole number of rows
 */
export function tensorRowsTable(
  tensor: TensorRows,
  data: Float32Array,
  meta: Partial<TableMeta> = {},
): Table {
  const { name, type, shape, firstRow = 0 } = tensor;
  const value = vectors(data, shape.at(-1)!, "column");
  const rows = Int32Array.from({ length: Math.ceil(rowsOf(value)) }, (_, i) => firstRow + i);
  const own: [string, string][] = [["tensor", name], ["type", type], ["axes", '["row","column"]']];
  own.push(["shape", JSON.stringify(shape)]);
  return tableOf({ row: int32(rows), value }, new Map([...own, ...runMetadata(meta)]));
}
