/** From captured pieces to rows: index columns first, then the vector. */
import type { TokenOf } from "../run/capture.ts";
import { sizeOf } from "../../base/shape.ts";
import { type Piece, rowPositions } from "../run/capture.ts";
import type { Axis, Point } from "../points/points.ts";
import { visibleKeys } from "../points/visible_keys.ts";
import { type Column, type Columns, int32, utf8, vectors } from "./column.ts";

/** A captured piece that cannot be what it says. */
export class PieceError extends RangeError {
  /** The class's name. */
  override readonly name = "PieceError";
  /**
   * Thrown where pieces become tables.
   *
   * @param point canonical name of the point
   * @param problem what is wrong with the piece
   */
  constructor(readonly point: string, problem: string) {
    super(`Cannot make rows of a piece of ${point}: ${problem}`);
  }
}

/**
 * Checks that a piece is one of the point: its shape, its length, its positions.
 *
 * @throws {PieceError}
 */
export function checkPiece(point: Point, piece: Piece): void {
  const { shape, data, positions, sequence, step, start } = piece;
  const fail = (problem: string) => {
    throw new PieceError(point.name, problem);
  };
  if (piece.point !== point.name) fail(`it is one of ${piece.point}`);
  const fits = shape.length === point.shape.length && shape.every((size, i) => {
    const dim = point.shape[i];
    return typeof dim === "number" ? size === dim : Number.isInteger(size) && size >= 0;
  });
  if (!fits) fail(`its shape is [${shape}], that of the point [${point.shape}]`);
  const size = sizeOf(shape);
  if (data.length !== size) fail(`it has ${data.length} numbers, its shape [${shape}] ${size}`);
  for (const [name, value] of Object.entries({ sequence, step, start })) {
    if (!Number.isInteger(value) || value < 0) fail(`${name} is ${value}`);
  }
  const rows = shape[point.axes.findIndex(isPlace)];
  if (positions && positions.length !== rows) {
    fail(`it has ${positions.length} positions for ${rows} rows`);
  }
  if (positions?.some((position) => !Number.isInteger(position) || position < 0)) {
    fail(`its positions are ${positions}`);
  }
  const keys = shape[point.axes.indexOf("key")];
  const unseen = rowPositions(piece, rows).find((position) => position >= keys);
  if (unseen !== undefined) fail(`position ${unseen} would see key ${unseen} of ${keys}`);
}

/**
 * The columns of one piece, with a row per vector, in the order of the data: `sequence`, `step`, `layer` (of a layer's points),
 * `head` or `kv_head`, then `position` (attention: `query`, the query's position; the cache: `slot` and `position`), `token_id`
 * and `token` of that position, and `value`: the vector [n] of the last axis, over the piece's own buffer without a copy.
 *
 * Attention [H, T, S] has a row per head and query, whose `value` lists the keys that the query sees and no others, the first
 * of which is `key_start`. The lists lie over the piece's buffer where each query sees all of the keys (one new token); else the
 * visible parts are copied, since Arrow's lists cannot have gaps.
 *
 * @throws {PieceError} when the piece is not one of the point
 */
export function pieceColumns(point: Point, piece: Piece, token: TokenOf): Columns {
  checkPiece(point, piece);
  const leading = point.axes.slice(0, -1);
  const sizes = piece.shape.slice(0, leading.length);
  const rows = sizeOf(sizes);
  const placeAxis = leading.findIndex(isPlace);
  const at = rowPositions(piece, sizes[placeAxis]);
  const position = repeat(sizes, placeAxis, at);
  const tokens = at.map((position) => token(piece.sequence, position));
  const which = repeat(sizes, placeAxis);
  const columns: Record<string, Column> = {
    sequence: int32(new Int32Array(rows).fill(piece.sequence)),
    step: int32(new Int32Array(rows).fill(piece.step)),
  };
  if (point.layer !== undefined) columns.layer = int32(new Int32Array(rows).fill(point.layer));
  leading.forEach((axis, i) => {
    if (i !== placeAxis) columns[axis] = int32(repeat(sizes, i));
  });
  columns[leading[placeAxis]] = int32(position);
  if (leading[placeAxis] === "slot") columns.position = int32(position);
  const [ids, texts] = [tokens.map((token) => token?.id), tokens.map((token) => token?.text)];
  columns.token_id = { ...int32(Array.from(which, (i) => ids[i])), nullable: true };
  columns.token = { ...utf8(Array.from(which, (i) => texts[i])), nullable: true };

  const axis = point.axes[leading.length];
  if (axis === "key") return { ...columns, ...visibleParts(piece, position) };
  return { ...columns, value: vectors(piece.data, piece.shape[leading.length], axis) };
}

/** Axes along which positions lie. */
function isPlace(axis: Axis): boolean {
  return axis === "position" || axis === "query" || axis === "slot";
}

/** Which place along an axis (or the value that stands there) each row has, over row-major leading axes. */
function repeat(sizes: readonly number[], axis: number, values?: readonly number[]): Int32Array {
  const inner = sizeOf(sizes.slice(axis + 1));
  const rows = sizeOf(sizes);
  return Int32Array.from({ length: rows }, (_, row) => {
    const place = Math.floor(row / inner) % sizes[axis];
    return values ? values[place] : place;
  });
}

/** The visible part of each row of attention [H, T, S]. */
function visibleParts({ shape, data }: Piece, queries: Int32Array): Columns {
  const keys = shape[2];
  const starts = new Int32Array(queries.length);
  const offsets = new Int32Array(queries.length + 1);
  for (const [row, query] of queries.entries()) {
    const [first, end] = visibleKeys(query);
    starts[row] = first;
    offsets[row + 1] = offsets[row] + end - first;
  }
  const total = offsets[queries.length];
  let values = data;
  if (total !== data.length) {
    values = new Float32Array(total);
    for (let row = 0; row < queries.length; row++) {
      const from = row * keys + starts[row];
      values.set(data.subarray(from, from + offsets[row + 1] - offsets[row]), offsets[row]);
    }
  }
  return {
    key_start: int32(starts),
    value: { type: { list: "float32" }, values, offsets },
  };
}
