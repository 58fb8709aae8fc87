/** Where the messages of an Arrow IPC stream lie in its file, and how far it is whole. */
import { decodeMessage, type MessageInfo } from "./arrow.ts";

/** A record batch in a stream. */
export interface BatchPlace {
  /** Byte of the file at which its message begins. */
  readonly offset: number;
  /** Of the message: header and body. */
  readonly length: number;
  readonly rows: number;
}

/** What a stream holds, up to its last whole message. */
export interface StreamLayout {
  /** Bytes in front of the first batch: the schema. 0 when not even that is whole. */
  readonly schemaLength: number;
  readonly batches: readonly BatchPlace[];
  /** Bytes up to the end of the last whole batch. */
  readonly whole: number;
  /** Whether the stream's end mark follows there; without it the writer was cut off. */
  readonly ended: boolean;
}

/** Gives bytes of a file; fewer than asked for at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/** An Arrow file or stream that cannot be read. */
export class ArrowFileError extends Error {
  /** The class's name. */
  override readonly name = "ArrowFileError";
  /**
   * Thrown by {@linkcode readArrow}, and where an {@linkcode ArrowSink} finishes.
   *
   * @param path the file
   * @param problem what is wrong with it
   */
  constructor(readonly path: string, problem: string) {
    super(`${path}: ${problem}`);
  }
}

/** What stands in front of each message (and, with length 0, at the end), then the header's length in 32 bits. */
const CONTINUATION = 0xffffffff;
const PREFIX = 8;
/** Headers take a few hundred bytes, schemas with their metadata more. */
const LARGEST_HEADER = 2 ** 28;

/**
 * Walks through a stream's headers; bodies are not read.
 * Format: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
 *
 * @param path for errors
 * @throws {ArrowFileError} when it is no Arrow stream, or one with dictionaries
 */
export async function streamLayout(
  path: string,
  size: number,
  readAt: ReadAt,
): Promise<StreamLayout> {
  const batches: BatchPlace[] = [];
  let schemaLength = 0;
  let at = 0;
  while (at + PREFIX <= size) {
    const prefix = new DataView((await readAt(at, PREFIX)).slice().buffer);
    const length = prefix.getUint32(4, true);
    const fail = (problem: string) => new ArrowFileError(path, `${problem} at byte ${at}`);
    if (prefix.getUint32(0, true) !== CONTINUATION) throw fail("no message of an Arrow stream");
    if (length === 0) return { schemaLength, batches, whole: at, ended: true };
    if (length > LARGEST_HEADER) throw fail(`a message's header of ${length} bytes`);
    if (at + PREFIX + length > size) break;
    let message: MessageInfo;
    try {
      message = decodeMessage(await readAt(at + PREFIX, length));
    } catch (error) {
      throw fail(`a damaged message (${(error as Error).message})`);
    }
    const { kind, bodyLength, rows } = message;
    if (kind !== (at === 0 ? "schema" : "batch")) throw fail(`an unexpected ${kind} message`);
    const total = PREFIX + length + bodyLength;
    if (!(bodyLength >= 0) || at + total > size) break;
    if (kind === "schema") schemaLength = total;
    else batches.push({ offset: at, length: total, rows });
    at += total;
  }
  return { schemaLength, batches, whole: at, ended: false };
}

/** How many rows a stream holds. */
export function rowCount({ batches }: StreamLayout): number {
  return batches.reduce((sum, { rows }) => sum + rows, 0);
}
