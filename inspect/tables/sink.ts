/** Captured tensors into Arrow files while the run goes on. */
import { join } from "node:path";
import { BatchEncoder, type RecordBatch, type Schema } from "./arrow.ts";
import type { Piece, PieceSink, SinkSource } from "../run/capture.ts";
import type { Point } from "../points/points.ts";
import { pieceBatch, pointSchema } from "./mod.ts";
import { convertStream, type TableFormat, type WrittenFile } from "./files.ts";
import { pointMetadata } from "./meta.ts";
import { OutputError, writeChunks } from "./output.ts";

/** How a sink writes. */
export interface SinkOptions {
  /** What the files become at the end; default `arrow`. */
  readonly format?: TableFormat;
  /** Writes over streams that another run left in the folder; without it they are an error. */
  readonly overwrite?: boolean;
}

/** A finished file of a point. */
export interface PointFile extends WrittenFile {
  /** Canonical name of the point. */
  readonly point: string;
}

/** Streams that are open at once; more are closed and opened again. */
const OPEN_FILES = 128;

/**
 * Writes a file per point into a folder. While the run goes on it is an Arrow IPC stream, `<point>.arrow.stream`, flushed at each
 * piece: whatever happens, what was written is readable up to the last whole batch (`readArrow(path, { partial: true })`,
 * `pyarrow.ipc.open_stream`). When the run ends well the streams become `<point>.arrow` (or `.parquet`, `.csv`); when it fails they
 * stay. Memory holds one piece at a time. A sink serves one run.
 *
 * ```ts ignore
 * const sink = new ArrowSink("out");
 * await model.run(prompt, { capture: ["blk.*.out"], sink });
 * console.log(sink.files);
 * ```
 */
export class ArrowSink implements PieceSink {
  /** Where the files are written. */
  readonly folder: string;
  #source: SinkSource | undefined;
  #files: readonly PointFile[] = [];
  readonly #options: SinkOptions;
  readonly #streams = new Map<string, PointStream>();
  /** Streams with an open file, the one that was used longest ago first. */
  readonly #open = new Set<PointStream>();
  /** Pieces are written one after the other, whoever sends them. */
  #last: Promise<void> = Promise.resolve();
  #state: "writing" | "finished" | "failed" = "writing";

  /**
   * Touches nothing yet.
   *
   * @param folder is made with the first piece, where it is not there
   */
  constructor(folder: string, options: SinkOptions = {}) {
    this.folder = folder;
    this.#options = options;
  }

  /** What was written, once the run has ended well; in the order in which the points first came. */
  get files(): readonly PointFile[] {
    return this.#files;
  }

  /**
   * Called by the run.
   *
   * @throws {Error} for a second one
   */
  begin(source: SinkSource): void {
    if (this.#source) {
      throw new Error(`Cannot write another run to ${this.folder}: make a new sink`);
    }
    this.#source = source;
  }

  get #begun(): SinkSource {
    if (!this.#source) throw new Error(`Cannot write to ${this.folder}: no run has begun`);
    return this.#source;
  }

  /** Rows written so far, of all points. */
  get rows(): number {
    return [...this.#streams.values()].reduce((sum, { rows }) => sum + rows, 0);
  }

  /**
   * Appends the rows of a piece to its point's stream; they are in the file when the promise resolves.
   *
   * @throws {OutputError} when the disk is full or the file cannot be written: the rows before stay readable
   * @throws {PieceError} for a piece that is none of the point
   */
  write(point: Point, piece: Piece): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== "writing") {
        throw new Error(
          `Cannot write ${point.name} to ${this.folder}: the sink has ${this.#state}`,
        );
      }
      const stream = this.#streams.get(point.name) ?? await this.#begin(point);
      const batch = pieceBatch(stream.schema, point, piece, this.#begun.token);
      try {
        this.#makeRoom(stream);
        await stream.append(batch);
      } catch (error) {
        this.#state = "failed";
        throw error;
      }
    });
  }

  /**
   * Gives the files their names: each stream is turned into a file of its format, batch by batch, and taken away. When that fails
   * the streams that are left stay as they are.
   *
   * @returns the files, in the order in which their points first came
   * @throws {OutputError} when there is no room for a file beside its stream
   * @throws {ArrowFileError} when a stream does not hold the rows that were written to it
   */
  async finish(): Promise<PointFile[]> {
    await this.#inTurn(() => this.#endStreams());
    if (this.#state !== "writing") {
      throw new Error(`Cannot finish the files in ${this.folder}: the sink has ${this.#state}`);
    }
    this.#state = "finished";
    const { format = "arrow" } = this.#options;
    const files: PointFile[] = [];
    this.#files = files;
    for (const { point, path, rows } of this.#streams.values()) {
      const metadata = pointMetadata([point], this.#begun.meta());
      const to = join(this.folder, `${point.name}.${format}`);
      files.push({
        point: point.name,
        ...await convertStream(path, to, { format, metadata, rows }),
      });
      await Deno.remove(path);
    }
    return files;
  }

  /** Ends the streams; those that were not finished stay readable under their temporary names. */
  async close(): Promise<void> {
    await this.#inTurn(() => this.#endStreams());
    if (this.#state === "writing") this.#state = "finished";
  }

  /** `close`, at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #inTurn(task: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #begin(point: Point): Promise<PointStream> {
    const path = join(this.folder, `${point.name}.arrow.stream`);
    const schema = pointSchema(point, pointMetadata([point], this.#begun.meta()));
    try {
      await Deno.mkdir(this.folder, { recursive: true });
      const { overwrite = false } = this.#options;
      const how = overwrite ? { create: true, truncate: true } : { createNew: true };
      (await Deno.open(path, { write: true, ...how })).close();
    } catch (error) {
      const left = error instanceof Deno.errors.AlreadyExists;
      throw new OutputError(
        path,
        left ? "another run left it or is writing it" : error,
        left ? "; move it, remove it, or say overwrite" : "",
      );
    }
    const stream = new PointStream(point, path, schema);
    this.#streams.set(point.name, stream);
    return stream;
  }

  #makeRoom(stream: PointStream): void {
    this.#open.delete(stream);
    for (const oldest of this.#open) {
      if (this.#open.size < OPEN_FILES) break;
      oldest.release();
      this.#open.delete(oldest);
    }
    this.#open.add(stream);
  }

  async #endStreams(): Promise<void> {
    for (const stream of this.#streams.values()) await stream.end();
    this.#open.clear();
  }
}

/** The stream of one point. */
class PointStream {
  rows = 0;
  #file: Deno.FsFile | undefined;
  /** Bytes up to the end of the last whole batch. */
  #whole = 0;
  #ended = false;
  readonly #encoder: BatchEncoder;

  constructor(readonly point: Point, readonly path: string, readonly schema: Schema) {
    this.#encoder = new BatchEncoder(schema, "stream");
  }

  /** @throws {OutputError} after taking away what was written of the batch */
  async append(batch: RecordBatch): Promise<void> {
    await this.#write([...this.#encoder.begin(), ...this.#encoder.encode(batch)]);
    this.rows += batch.numRows;
  }

  /** Writes the end mark; a stream without one is readable too. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#write(this.#encoder.end()).catch(() => {});
    this.release();
  }

  /** Closes the file until it is needed again. */
  release(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  async #write(chunks: readonly Uint8Array[]): Promise<void> {
    try {
      this.#file ??= await Deno.open(this.path, { append: true });
      this.#whole += await writeChunks(this.#file, chunks);
    } catch (error) {
      this.#ended = true;
      await this.#file?.truncate(this.#whole).catch(() => {});
      this.release();
      const kept = `its ${this.rows} rows before that stay readable`;
      throw new OutputError(this.path, error, `; ${kept}: make room and run again`);
    }
  }
}
