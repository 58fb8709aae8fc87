/** Columns in plain values: what tables are made from, before they are Arrow. */

/** A type of one value per row. */
export type ScalarType = "bool" | "int32" | "int64" | "float32" | "float64" | "utf8";

/** Rows of the same number of 32-bit floats: Arrow's FixedSizeList, tagged as `arrow.fixed_shape_tensor`. */
export interface VectorType {
  readonly vector: number;
  /** What the numbers of a row count: `feature`. */
  readonly axis: string;
}

/** Rows of any number of values: Arrow's List. */
export interface ListType {
  readonly list: ScalarType;
}

export type ColumnType = ScalarType | VectorType | ListType;

/** Values, some of which may be missing. */
export type Optional<T> = ArrayLike<T | null | undefined>;

interface Nullable {
  /** Whether values may be missing; without it, whether some are. */
  readonly nullable?: boolean;
}

/** One value per row. */
export type ScalarColumn =
  & Nullable
  & (
    | { readonly type: "bool"; readonly values: Optional<boolean> }
    | { readonly type: "int32" | "float32" | "float64"; readonly values: Optional<number> }
    | { readonly type: "int64"; readonly values: Optional<number | bigint> }
    | { readonly type: "utf8"; readonly values: Optional<string> }
  );

/** Rows × n numbers, one row behind another; taken without a copy. */
export interface VectorColumn {
  readonly type: VectorType;
  readonly values: Float32Array;
}

/** Row r has the values from `offsets[r]` to `offsets[r + 1]` (exclusive). */
export interface ListColumn {
  readonly type: ListType;
  readonly values: ArrayLike<boolean | number | bigint | string>;
  readonly offsets: Int32Array;
}

export type Column = ScalarColumn | VectorColumn | ListColumn;

/** Columns by name, all of the same number of rows. */
export type Columns = Readonly<Record<string, Column>>;

/** Columns that do not fit together, or values that do not fit their column. */
export class ColumnError extends RangeError {
  /** The class's name. */
  override readonly name = "ColumnError";
  /**
   * Thrown where columns are read or made.
   *
   * @param column its name
   * @param problem what is wrong with it
   */
  constructor(readonly column: string, problem: string) {
    super(`Cannot make column ${JSON.stringify(column)}: ${problem}`);
  }
}

/** How many rows a column has; a vector column of a length that is no whole number of rows has a fractional one. */
export function rowsOf(column: Column): number {
  if (isVector(column)) return column.values.length / column.type.vector;
  return isList(column) ? column.offsets.length - 1 : column.values.length;
}

export function isVector(column: Column): column is VectorColumn {
  return typeof column.type === "object" && "vector" in column.type;
}

export function isList(column: Column): column is ListColumn {
  return typeof column.type === "object" && "list" in column.type;
}

/** Truth values. */
export function bool(values: Optional<boolean>): ScalarColumn {
  return { type: "bool", values };
}

/** Integers from −2³¹ to 2³¹ − 1; an Int32Array is taken without a copy. */
export function int32(values: Optional<number>): ScalarColumn {
  return { type: "int32", values };
}

/** Integers of 64 bits, as numbers (safe integers) or bigints; a BigInt64Array is taken without a copy. */
export function int64(values: Optional<number | bigint>): ScalarColumn {
  return { type: "int64", values };
}

/** 32-bit floats; a Float32Array is taken without a copy. */
export function float32(values: Optional<number>): ScalarColumn {
  return { type: "float32", values };
}

/** 64-bit floats; a Float64Array is taken without a copy. */
export function float64(values: Optional<number>): ScalarColumn {
  return { type: "float64", values };
}

/** Texts. */
export function utf8(values: Optional<string>): ScalarColumn {
  return { type: "utf8", values };
}

/** Vectors of `width` numbers, [rows, width] row-major; taken without a copy. */
export function vectors(values: Float32Array, width: number, axis = "feature"): VectorColumn {
  return { type: { vector: width, axis }, values };
}

/** Lists of different lengths. */
export function lists(
  type: ScalarType,
  rows: readonly ArrayLike<boolean | number | bigint | string>[],
): ListColumn {
  const offsets = new Int32Array(rows.length + 1);
  rows.forEach((row, i) => offsets[i + 1] = offsets[i] + row.length);
  return { type: { list: type }, values: rows.flatMap((row) => Array.from(row)), offsets };
}

/** The values of a column: a typed array where none is missing; lists of floats as views of the table's own buffers. */
export type ColumnValues =
  | Int32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | readonly TableValue[]
  | readonly Float32Array[]
  | readonly (readonly TableValue[])[];

/** A single value of a table; null where it is missing. */
export type TableValue = boolean | number | bigint | string | null;
