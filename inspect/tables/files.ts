/** Tables in files: Arrow's IPC files and streams, Parquet, CSV. */
import {
  BatchEncoder,
  decodeTable,
  rebatch,
  type RecordBatch,
  type Schema,
  Table,
  tableColumns,
  withMetadata,
} from "./arrow.ts";
import { csvHeader, csvRows } from "./csv.ts";
import { concatenated, WholeFile } from "./output.ts";
import { parquetBytes } from "./parquet.ts";
import { ArrowFileError, rowCount, type StreamLayout, streamLayout } from "./stream_layout.ts";

/** How a table is written. `arrow` is the IPC file format (Feather 2), uncompressed. */
export type TableFormat = "arrow" | "parquet" | "csv";

/** A file that was written. */
export interface WrittenFile {
  /** As it was given to the writer. */
  readonly path: string;
  /** Rows of the table in it. */
  readonly rows: number;
  /** Its size on the disk. */
  readonly bytes: number;
}

/** Record batches on their way into a file. */
interface Batches {
  readonly schema: Schema;
  readonly rows: number;
  /** About how many numbers a row has. */
  readonly numbersPerRow: number;
  batches(): AsyncIterable<RecordBatch>;
}

/**
 * Writes a table: as Arrow, Parquet or CSV, by the path's ending or as `format` says. The file appears when it is whole, in place
 * of an older one.
 *
 * @throws {OutputError} when it cannot be written
 * @throws {RangeError} for an ending that is none of .arrow, .parquet, .csv
 */
export async function writeTable(
  path: string,
  table: Table,
  options: { readonly format?: TableFormat } = {},
): Promise<WrittenFile> {
  const { schema, numRows: rows } = table;
  const bytes = table.batches.reduce((sum, { data }) => sum + data.byteLength, 0);
  return await writeBatches(path, options.format ?? formatOf(path), {
    schema,
    rows,
    numbersPerRow: bytes / 4 / Math.max(1, rows),
    async *batches() {
      for (const batch of table.batches) yield rebatch(schema, batch);
    },
  });
}

function formatOf(path: string): TableFormat {
  const ending = path.match(/\.(arrow|parquet|csv)$/i)?.[1].toLowerCase();
  if (ending) return ending as TableFormat;
  throw new RangeError(`${path}: say which format (.arrow, .parquet or .csv)`);
}

/**
 * Turns a stream's file into a table's file, a batch at a time. The stream stays.
 *
 * @param options.metadata of the new schema; the stream's without it
 * @param options.rows how many there must be; with a stream that was cut off: those of its whole batches
 * @throws {ArrowFileError} when the stream cannot be read, or holds another number of rows
 * @throws {OutputError} when the file cannot be written
 */
export async function convertStream(
  from: string,
  to: string,
  options: {
    readonly format?: TableFormat;
    readonly metadata?: Map<string, string>;
    readonly rows?: number;
  } = {},
): Promise<WrittenFile> {
  using file = await Deno.open(from);
  const { size } = await file.stat();
  const readAt = reader(file);
  const layout = await streamLayout(from, size, readAt);
  const rows = rowCount(layout);
  const { format = formatOf(to), metadata, rows: expected = rows } = options;
  if (rows !== expected) throw new ArrowFileError(from, `${rows} rows where ${expected} belong`);
  const head = await readAt(0, layout.schemaLength);
  const streamSchema = decodeTable(head).schema;
  const schema = metadata ? withMetadata(streamSchema, metadata) : streamSchema;
  return await writeBatches(to, format, {
    schema,
    rows,
    numbersPerRow: layout.whole / 4 / Math.max(1, rows),
    async *batches() {
      for (const { offset, length } of layout.batches) {
        const { batches } = decodeTable(concatenated([head, await readAt(offset, length)]));
        for (const batch of batches) yield rebatch(schema, batch);
      }
    },
  });
}

/** A file that is not of the promised rows never gets its name. */
async function writeBatches(
  path: string,
  format: TableFormat,
  source: Batches,
): Promise<WrittenFile> {
  const file = await WholeFile.create(path);
  let rows = 0;
  const counted = {
    ...source,
    async *batches() {
      for await (const batch of source.batches()) {
        yield batch;
        rows += batch.numRows;
      }
    },
  };
  try {
    for await (const chunks of ENCODERS[format](counted)) await file.write(chunks);
    if (rows !== source.rows) throw new Error(`Wrote ${rows} of ${source.rows} rows to ${path}`);
    await file.finish();
  } catch (error) {
    await file.discard();
    throw error;
  }
  return { path, rows, bytes: file.bytes };
}

type Encoder = (source: Batches) => AsyncIterable<readonly Uint8Array[]>;

const ENCODERS: Record<TableFormat, Encoder> = {
  async *arrow({ schema, batches }) {
    const encoder = new BatchEncoder(schema, "file");
    yield encoder.begin();
    for await (const batch of batches()) yield encoder.encode(batch);
    yield encoder.end();
  },
  async *parquet({ schema, batches, numbersPerRow }) {
    async function* streams() {
      // Parquet's schema comes with the first stream, so that there must be one.
      let any = false;
      for await (const batch of batches()) {
        any = true;
        yield stream(schema, [batch]);
      }
      if (!any) yield stream(schema, []);
    }
    for await (const chunk of parquetBytes(streams(), numbersPerRow)) yield [chunk];
  },
  async *csv({ schema, batches }) {
    const encoder = new TextEncoder();
    const names = schema.fields.map(({ name }) => name);
    yield [encoder.encode(csvHeader(names))];
    for await (const batch of batches()) {
      const columns = tableColumns(new Table(schema, [batch]));
      yield [encoder.encode(csvRows(names.map((name) => columns[name]), batch.numRows))];
    }
  },
};

/** A whole IPC stream. */
function stream(schema: Schema, batches: readonly RecordBatch[]): Uint8Array {
  const encoder = new BatchEncoder(schema, "stream");
  const chunks = [encoder.begin(), ...batches.map((batch) => encoder.encode(batch)), encoder.end()];
  return concatenated(chunks.flat());
}

/** What an Arrow file begins with. */
const MAGIC = "ARROW1";

/**
 * Reads an Arrow file or stream (as Lamina writes them, and others without dictionaries); the table's values lie over the bytes
 * that were read.
 *
 * @param options.partial takes the whole batches of a stream that was cut off
 * @throws {ArrowFileError} when it is neither, damaged, or cut off
 */
export async function readArrow(
  path: string,
  options: { readonly partial?: boolean } = {},
): Promise<Table> {
  const bytes = await Deno.readFile(path);
  const isFile = new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) === MAGIC;
  const end = isFile ? bytes.length : await wholePart(path, bytes, options.partial ?? false);
  try {
    return decodeTable(bytes.subarray(0, end));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ArrowFileError(path, `a damaged or unfinished Arrow file (${why})`);
  }
}

async function wholePart(path: string, bytes: Uint8Array, partial: boolean): Promise<number> {
  const readAt = (at: number, length: number) => Promise.resolve(bytes.subarray(at, at + length));
  const layout: StreamLayout = await streamLayout(path, bytes.length, readAt);
  if (layout.schemaLength === 0) {
    throw new ArrowFileError(path, "no Arrow file and no Arrow stream");
  }
  if (!layout.ended && !partial) {
    const rows = rowCount(layout);
    throw new ArrowFileError(
      path,
      `the stream was cut off after ${rows} rows; read them with partial: true`,
    );
  }
  return layout.whole;
}

function reader(file: Deno.FsFile): (offset: number, length: number) => Promise<Uint8Array> {
  return async (offset, length) => {
    const bytes = new Uint8Array(length);
    await file.seek(offset, Deno.SeekMode.Start);
    let at = 0;
    while (at < length) {
      const read = await file.read(bytes.subarray(at));
      if (read === null) break;
      at += read;
    }
    return bytes.subarray(0, at);
  };
}
