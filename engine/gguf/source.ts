import { GgufError } from "./error.ts";

/** Random access to the bytes of one file, wherever they are. */
export interface ByteSource {
  /** What messages call it: a path or a label. */
  readonly name: string;
  /** Size in bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes from `offset` on. The result may be a view of the source's own
   * memory: do not write into it.
   *
   * @param into memory that may be used for the result, where it is large enough: new memory costs as much as reading
   * @throws {GgufError} when the range leaves the source or the source has shrunk.
   */
  read(
    offset: number,
    length: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /** Gives the file handle back when what was asked for is read; reading afterwards fails. */
  close(): void;
}

/** A source over bytes in memory (an imported model). Reads are views, nothing is copied. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  // Shared memory cannot go to WebGPU or TextDecoder: it is the one kind that has to be copied.
  const own = bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : new Uint8Array(bytes);
  const size = own.byteLength;
  return {
    name,
    size,
    // deno-lint-ignore require-await -- so that a range outside rejects instead of throwing
    async read(offset, length) {
      checkRange(name, size, offset, length);
      return own.subarray(offset, offset + length);
    },
    close() {},
  };
}

/**
 * A source over a file on disk, read by position: the file may be far larger than memory.
 *
 * @throws {GgufError} when there is no such file, or it is a folder, a pipe or a device.
 */
export async function fileSource(path: string): Promise<ByteSource> {
  const file = await openForReading(path);
  const { size } = await file.stat();
  // A handle has one position, so concurrent reads wait for each other.
  let last: Promise<unknown> = Promise.resolve();
  let closed = false;
  return {
    name: path,
    size,
    read(offset, length, into) {
      const turn = last.then(() => {
        checkRange(path, size, offset, length);
        return readAt(file, path, offset, length, into);
      });
      last = turn.catch(() => {});
      return turn;
    },
    close() {
      // What was asked for before is still read.
      if (!closed) last = last.then(() => file.close());
      closed = true;
    },
  };
}

async function openForReading(path: string): Promise<Deno.FsFile> {
  const fail = (problem: string) => new GgufError(problem, { file: path });
  try {
    // Opening a pipe waits for whoever writes into it.
    const { isFile, isDirectory } = await Deno.stat(path);
    if (isDirectory) throw fail("this is a folder; name a .gguf file in it");
    if (!isFile) throw fail("this is a pipe or a device; give a file on the disk");
    return await Deno.open(path, { read: true });
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) {
      throw fail("no such file; check the path");
    }
    throw error;
  }
}

async function readAt(
  file: Deno.FsFile,
  name: string,
  offset: number,
  length: number,
  into?: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = into && into.length >= length ? into.subarray(0, length) : new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let filled = 0; filled < length;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) {
      throw new GgufError("the file became shorter while it was read", {
        file: name,
        offset: offset + filled,
      });
    }
    filled += count;
  }
  return bytes;
}

function checkRange(name: string, size: number, offset: number, length: number): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) &&
    offset >= 0 && length >= 0 && offset <= size - length;
  if (!valid) {
    throw new GgufError(`cannot read ${length} bytes at ${offset}: the file has ${size}`, {
      file: name,
      offset,
    });
  }
}
