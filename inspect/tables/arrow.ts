/**
 * Apache Arrow: the only file that knows the package `apache-arrow`. From plain columns to tables and back, and the bytes of the
 * IPC formats. tables.ts is what to import; loading it takes about 0.2 s.
 */
import type { ColumnValues } from "./column.ts";
import { restoreTextDecoder } from "./package_mends.ts"; // before the package
import {
  AsyncByteQueue,
  Bool,
  type Data,
  type DataType,
  Field,
  FixedSizeList,
  Float32,
  Float64,
  Int32,
  Int64,
  List,
  makeData,
  Message,
  RecordBatch,
  type RecordBatchFileReader,
  RecordBatchFileWriter,
  RecordBatchReader,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Table as ArrowTable,
  type TypeMap,
  Utf8,
  util,
} from "npm:apache-arrow@21.2.0";
import { previewBundle } from "./html.ts";
import {
  type Column,
  ColumnError,
  type Columns,
  type ColumnType,
  isList,
  isVector,
  type Optional,
  rowsOf,
  type ScalarType,
} from "./column.ts";
import { longColumns, type LongOptions, type RowFilter } from "./long.ts";
import { type Preview, previewOf, previewText } from "./preview.ts";

export type { RecordBatch, Schema } from "npm:apache-arrow@21.2.0";

restoreTextDecoder();

/**
 * An Arrow table which shows itself: in Jupyter as an HTML preview, in a terminal as text. Everything that takes a table of
 * `apache-arrow` takes it; what `slice` and `select` give shows itself too.
 */
export class Table extends ArrowTable<TypeMap> {
  /** Puts a table over record batches of one schema, without a copy. */
  constructor(schema: Schema, batches: RecordBatch[] = []) {
    super(schema, batches);
  }

  /** What the table says about itself: `point`, `meaning`, `axes`, `shape`, `model`, `prompt`, …; tables/meta.ts lists the keys. */
  get metadata(): ReadonlyMap<string, string> {
    return this.schema.metadata;
  }

  /** Some of the rows, without a copy. */
  override slice(begin?: number, end?: number): Table {
    if (this.batches.length === 0) return this; // the package's own fails
    const { schema, batches } = super.slice(begin, end);
    return new Table(schema, batches);
  }

  /** Some of the columns, without a copy. */
  override select<Name extends PropertyKey>(names: Name[]): ArrowTable<TypeMap> {
    const { schema, batches } = super.select(names);
    return new Table(schema, batches);
  }

  /**
   * The long form: one row per number, with the index columns of its vector, its place along the vector's axis (`feature`; in
   * attention `key`, a position) and `value`. For slices: `long({ head: 2, position: -1 })`; attention takes `position` for
   * `query`.
   *
   * @param where what columns must be, the place included: a number (a negative one counts back: positions, keys among them, from
   * the prompt's end, anything else from its largest), a text, or a list of them
   * @throws {ColumnError} for a column that is not there
   * @throws {LongTableError} for more than `maxRows` rows (default five million)
   */
  long(where: RowFilter = {}, options: LongOptions = {}): Table {
    const columns = longColumns(this.metadata, tableColumns(this), where, options);
    const metadata = new Map(this.metadata);
    metadata.delete("shape");
    return tableOf(columns, metadata);
  }

  /** What is shown of the table. */
  preview(): Preview {
    const { fields } = this.schema;
    return previewOf({
      metadata: this.metadata,
      rows: this.numRows,
      columns: fields.map(({ name, type }) => ({ name, type: typeName(type) })),
      head: (rows) => tableColumns(this.slice(0, rows)),
      vectors: fields.some(({ name, type }) => name === "value" && isFloats(type))
        ? vectorRows(this, "value")
        : undefined,
    });
  }

  /** What a notebook cell shows: the preview as HTML, and as text. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return previewBundle(this.preview());
  }

  /** What `console.log` shows: the preview as text. */
  [Symbol.for("Deno.customInspect")](): string {
    return previewText(this.preview());
  }
}

/** A table of one batch. */
export function tableOf(columns: Columns, metadata: Map<string, string>): Table {
  const schema = schemaOf(columns, metadata);
  return new Table(schema, [batchOf(schema, columns)]);
}

/** A schema for such columns. All batches of a table or file must share the object. */
export function schemaOf(columns: Columns, metadata: Map<string, string>): Schema {
  const fields = Object.entries(columns).map(([name, column]) => {
    const { type } = column;
    const nullable = !isVector(column) && !isList(column) &&
      (column.nullable ?? validity(column.values)[1] > 0);
    return new Field(name, arrowType(type), nullable, isVector(column) ? tensorTag(column) : null);
  });
  return new Schema(fields, metadata);
}

/** The same schema with other metadata. */
export function withMetadata(schema: Schema, metadata: Map<string, string>): Schema {
  return new Schema(schema.fields, metadata);
}

/** https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor */
function tensorTag({ type: { vector, axis } }: { type: { vector: number; axis: string } }) {
  return new Map([
    ["ARROW:extension:name", "arrow.fixed_shape_tensor"],
    ["ARROW:extension:metadata", JSON.stringify({ shape: [vector], dim_names: [axis] })],
  ]);
}

/**
 * Rows for a schema; vectors, lists and typed arrays without a copy.
 *
 * @throws {ColumnError} for other columns than the schema's, different lengths, or values of another type
 */
export function batchOf(schema: Schema, columns: Columns): RecordBatch {
  const names = Object.keys(columns);
  if (names.join() !== schema.names.join()) {
    throw new ColumnError(names.join(), `the schema has ${schema.names.join()}`);
  }
  const length = names.length === 0 ? 0 : rowsOf(columns[names[0]]);
  const children = schema.fields.map((field) => {
    const column = columns[field.name];
    if (rowsOf(column) !== length || !Number.isInteger(length)) {
      throw new ColumnError(field.name, `${rowsOf(column)} rows where ${names[0]} has ${length}`);
    }
    return columnData(field, column);
  });
  const data = makeData({ type: new Struct(schema.fields), length, nullCount: 0, children });
  return new RecordBatch(schema, data);
}

/** The same rows under another schema of the same fields. */
export function rebatch(schema: Schema, batch: RecordBatch): RecordBatch {
  return new RecordBatch(schema, batch.data);
}

function columnData({ name, type, nullable }: Field, column: Column): Data {
  if (isVector(column)) {
    if (!(type instanceof FixedSizeList) || type.listSize !== column.type.vector) {
      throw new ColumnError(name, `vectors of ${column.type.vector} where the schema has ${type}`);
    }
    const child = makeData({ type: new Float32(), data: column.values });
    return makeData({ type, length: rowsOf(column), nullCount: 0, child });
  }
  if (isList(column)) {
    if (!(type instanceof List)) throw new ColumnError(name, `lists where the schema has ${type}`);
    const { offsets, values } = column;
    if (offsets.at(-1)! > values.length) {
      throw new ColumnError(name, `its lists end at ${offsets.at(-1)} of ${values.length} values`);
    }
    const child = scalarData(name, type.children[0].type, values, false);
    return makeData({ type, length: rowsOf(column), nullCount: 0, valueOffsets: offsets, child });
  }
  if (`${arrowType(column.type)}` !== `${type}`) {
    throw new ColumnError(name, `${column.type} where the schema has ${type}`);
  }
  return scalarData(name, type, column.values, nullable);
}

function scalarData(
  name: string,
  type: DataType,
  values: Optional<boolean | number | bigint | string>,
  nullable: boolean,
): Data {
  const { length } = values;
  const [nullBitmap, nullCount] = validity(values);
  if (nullCount > 0 && !nullable) {
    const row = Array.from(values).findIndex((value) => value == null);
    throw new ColumnError(name, `row ${row} has no value`);
  }
  const nulls = { length, nullBitmap, nullCount };
  if (type instanceof Utf8) {
    const [valueOffsets, data] = utf8Bytes(values as Optional<string>);
    return makeData({ type, ...nulls, valueOffsets, data });
  }
  if (type instanceof Bool) return makeData({ type, ...nulls, data: bits(values, length) });
  const array = typedArray(type);
  if (!array) throw new ColumnError(name, `its type is ${type}`);
  const data = values instanceof array.type ? values : array.from(values as Optional<number>);
  if (array.type !== Float32Array && array.type !== Float64Array && data !== values) {
    for (let row = 0; row < length; row++) {
      if (values[row] != null && Number(data[row]) !== Number(values[row])) {
        throw new ColumnError(name, `row ${row} is ${values[row]}, which does not fit ${type}`);
      }
    }
  }
  return makeData({ type: type as Int32, ...nulls, data: data as Int32Array });
}

/** Arrow's scalar types of numbers, and the arrays under them. A type out of a file has the name, but another class. */
const TYPED_ARRAYS = [
  { type: Int32Array, name: "Int32", from: (all: Numbers) => Int32Array.from(all, orZero) },
  {
    type: BigInt64Array,
    name: "Int64",
    from: (all: Numbers) => BigInt64Array.from(Array.from(all), toBigInt),
  },
  { type: Float32Array, name: "Float32", from: (all: Numbers) => Float32Array.from(all, orZero) },
  { type: Float64Array, name: "Float64", from: (all: Numbers) => Float64Array.from(all, orZero) },
] as const;

type Numbers = Optional<number>;

function orZero(value: number | null | undefined): number {
  return value ?? 0;
}

function typedArray(type: DataType) {
  return TYPED_ARRAYS.find(({ name }) => name === `${type}`);
}

/** A fraction becomes a neighbour, which is then seen to differ. */
function toBigInt(value: number | bigint | null | undefined): bigint {
  return typeof value === "bigint" ? value : BigInt(Math.trunc(value ?? 0));
}

/** Items are nullable, although none is missing: that is pyarrow's own tensor type, which Parquet files otherwise lose. */
function arrowType(type: ColumnType): DataType {
  if (typeof type !== "object") return SCALARS[type]();
  if ("list" in type) return new List(new Field("item", SCALARS[type.list](), true));
  return new FixedSizeList(type.vector, new Field("item", new Float32(), true));
}

const SCALARS: Record<ScalarType, () => DataType> = {
  bool: () => new Bool(),
  int32: () => new Int32(),
  int64: () => new Int64(),
  float32: () => new Float32(),
  float64: () => new Float64(),
  utf8: () => new Utf8(),
};

/** A type as people read it: `float32[64]`, `list of float32`. */
function typeName(type: DataType): string {
  if (type instanceof FixedSizeList) return `${typeName(type.children[0].type)}[${type.listSize}]`;
  if (type instanceof List) return `list of ${typeName(type.children[0].type)}`;
  return `${type}`.toLowerCase();
}

/** A bit for each value that is there, the lowest bit first; nothing where all are. */
function validity(values: Optional<unknown>): [bitmap: Uint8Array | undefined, nulls: number] {
  if (ArrayBuffer.isView(values)) return [undefined, 0];
  let nulls = 0;
  for (let i = 0; i < values.length; i++) if (values[i] == null) nulls++;
  if (nulls === 0) return [undefined, 0];
  return [bits(Array.from(values, (value) => value != null), values.length), nulls];
}

function bits(values: ArrayLike<unknown>, length: number): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(length / 8));
  for (let i = 0; i < length; i++) if (values[i]) bitmap[i >> 3] |= 1 << (i & 7);
  return bitmap;
}

/** Texts one behind another; the same text in many rows is encoded once. */
function utf8Bytes(texts: Optional<string>): [offsets: Int32Array, bytes: Uint8Array] {
  const encoder = new TextEncoder();
  const encoded = new Map<string, Uint8Array>();
  const offsets = new Int32Array(texts.length + 1);
  for (let i = 0; i < texts.length; i++) {
    const text = texts[i] ?? "";
    if (!encoded.has(text)) encoded.set(text, encoder.encode(text));
    offsets[i + 1] = offsets[i] + encoded.get(text)!.length;
  }
  const bytes = new Uint8Array(offsets[texts.length]);
  for (let i = 0; i < texts.length; i++) bytes.set(encoded.get(texts[i] ?? "")!, offsets[i]);
  return [offsets, bytes];
}

/**
 * The vectors of a table, row by row: views of its own buffers, not copies.
 *
 * @throws {ColumnError} when the table has no such column, or it holds no vectors or lists of 32-bit floats
 */
export function tableVectors(table: ArrowTable<TypeMap>, column = "value"): Float32Array[] {
  return [...vectorRows(table, column)];
}

function* vectorRows(table: ArrowTable<TypeMap>, column: string): Generator<Float32Array> {
  const at = table.schema.fields.findIndex(({ name }) => name === column);
  if (at < 0) throw new ColumnError(column, `the table has ${table.schema.names.join(", ")}`);
  const { type } = table.schema.fields[at];
  if (!isFloats(type)) throw new ColumnError(column, `it holds ${type}, no vectors of float32`);
  for (const batch of table.batches) yield* floatRows(batch.data.children[at]);
}

function isFloats(type: DataType): boolean {
  return (type instanceof FixedSizeList || type instanceof List) &&
    `${type.children[0].type}` === "Float32";
}

/** Rows of a FixedSizeList or List of 32-bit floats. A slice's vectors begin where it begins, its lists do not. */
function* floatRows({ type, length, children, valueOffsets }: Data): Generator<Float32Array> {
  const values = children[0].values as Float32Array;
  for (let row = 0; row < length; row++) {
    yield type instanceof FixedSizeList
      ? values.subarray(row * type.listSize, (row + 1) * type.listSize)
      : values.subarray(valueOffsets[row], valueOffsets[row + 1]);
  }
}

/** All columns of a table in plain values; numbers are copied only where the table has several batches. */
export function tableColumns(table: ArrowTable<TypeMap>): Record<string, ColumnValues> {
  return Object.fromEntries(table.schema.fields.map(({ name, type }, i) => {
    const parts = table.batches.map((batch) => batch.data.children[i]);
    return [name, columnValues(type, parts)] as const;
  }));
}

function columnValues(type: DataType, parts: readonly Data[]): ColumnValues {
  if (isFloats(type)) return parts.flatMap((part) => [...floatRows(part)]);
  const array = typedArray(type);
  if (array && parts.every(({ nullCount }) => nullCount === 0)) {
    // Buffers out of files are padded.
    const chunks = parts.map(({ values, length }) => values.subarray(0, length));
    return chunks.length === 1 ? chunks[0] : joined(new array.type(totalLength(chunks)), chunks);
  }
  return parts.flatMap((part) => Array.from(new ArrowTable({ part }).getChild("part")!, plain));
}

function totalLength(chunks: readonly { length: number }[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}

function joined<A extends ColumnValues & { set(part: A, at: number): void }>(
  whole: A,
  chunks: readonly A[],
): A {
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Lists come as Arrow's vectors. */
function plain(value: unknown): never {
  return (typeof value === "object" && value !== null
    ? Array.from(value as never, plain)
    : value) as never;
}

/** Takes what a writer writes. */
class Chunks extends AsyncByteQueue {
  readonly taken: Uint8Array[] = [];
  override write(chunk: Uint8Array): void {
    this.taken.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  }
}

/** Record batches as bytes, a piece at a time: an IPC stream, or a file, which is unreadable before its end. */
export class BatchEncoder {
  /** Rows encoded so far. */
  rows = 0;
  readonly #schema: Schema;
  readonly #writer: RecordBatchStreamWriter | RecordBatchFileWriter;
  readonly #chunks = new Chunks();

  constructor(schema: Schema, format: "stream" | "file") {
    this.#schema = schema;
    this.#writer = format === "file" ? new RecordBatchFileWriter() : new RecordBatchStreamWriter();
    this.#writer.reset(this.#chunks, schema);
  }

  /** What stands in front of the first batch. */
  begin(): Uint8Array[] {
    return this.#chunks.taken.splice(0);
  }

  /**
   * The bytes of a batch, views of its buffers among them: they are to be written before anything changes.
   *
   * @throws {TypeError} for a batch with another schema, at which the package's writers would end without a word
   */
  encode(batch: RecordBatch): Uint8Array[] {
    if (!util.compareSchemas(batch.schema, this.#schema)) {
      throw new TypeError("Cannot write a record batch with another schema than the file's");
    }
    this.#writer.write(batch);
    const chunks = this.#chunks.taken.splice(0);
    if (chunks.length === 0) throw new Error("Cannot write a record batch: the writer has ended");
    this.rows += batch.numRows;
    return chunks;
  }

  /** What stands behind the last batch. */
  end(): Uint8Array[] {
    this.#writer.close();
    return this.#chunks.taken.splice(0);
  }
}

/** The header of one message of an IPC stream. */
export interface MessageInfo {
  readonly kind: "schema" | "batch" | "dictionary";
  /** Bytes that follow the header. */
  readonly bodyLength: number;
  /** Of a batch; 0 else. */
  readonly rows: number;
}

/** Reads a message's header: the flatbuffer behind its length. */
export function decodeMessage(header: Uint8Array): MessageInfo {
  const message = Message.decode(header);
  const { bodyLength } = message;
  if (message.isRecordBatch()) return { kind: "batch", bodyLength, rows: message.header().length };
  return { kind: message.isSchema() ? "schema" : "dictionary", bodyLength, rows: 0 };
}

/** The batches of a file, one by one: going through them the package never ends at a message of another kind. */
function* fileBatches(reader: RecordBatchFileReader): Generator<RecordBatch> {
  for (let i = 0; i < reader.numRecordBatches; i++) {
    const batch = reader.readRecordBatch(i);
    if (!batch) throw new RangeError(`its batch ${i} is not in it`);
    yield batch;
  }
}

/**
 * The table in the bytes of a whole IPC stream or file; its values are views of these bytes.
 *
 * @throws {RangeError} when it claims more than the bytes can hold
 */
export function decodeTable(bytes: Uint8Array): Table {
  const reader = RecordBatchReader.from(bytes).open();
  const { schema } = reader; // which the reader forgets at its end
  const batches = [...reader.isFile() ? fileBatches(reader) : reader]
    .filter(({ numRows }) => numRows > 0);
  for (const { numRows, data } of batches) {
    const claim = Math.max(numRows, ...data.children.map(({ length }) => length));
    if (claim > bytes.length) throw new RangeError(`${bytes.length} bytes claim ${claim} rows`);
  }
  return new Table(schema, batches.map((batch) => rebatch(schema, batch)));
}
