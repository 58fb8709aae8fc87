/** Files that tables are written to. */

/** A write that failed: the disk is full, the folder is gone. */
export class OutputError extends Error {
  /** The class's name. */
  override readonly name = "OutputError";
  /**
   * Thrown by {@linkcode writeTable} and {@linkcode ArrowSink}.
   *
   * @param path the file that was to be written
   * @param reason the error behind it, or what is wrong in words
   * @param rest what the message ends with
   */
  constructor(readonly path: string, readonly reason: unknown, rest: string) {
    const why = reason instanceof Error ? reason.message : String(reason);
    super(`Cannot write ${path}: ${why}${rest}`);
  }
}

/** Buffers shorter than this are put together, so that a batch of few rows is one write. */
const SMALL = 64 * 1024;

/**
 * Writes all of the chunks where the file stands.
 *
 * @returns how many bytes
 */
export async function writeChunks(
  file: Deno.FsFile,
  chunks: readonly Uint8Array[],
): Promise<number> {
  let total = 0;
  let small: Uint8Array[] = [];
  const flush = async () => {
    await writeWhole(file, concatenated(small));
    small = [];
  };
  for (const chunk of chunks) {
    total += chunk.length;
    if (chunk.length < SMALL) {
      small.push(chunk);
      continue;
    }
    await flush();
    await writeWhole(file, chunk);
  }
  await flush();
  return total;
}

async function writeWhole(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** Chunks one behind another. */
export function concatenated(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/**
 * A file that appears under its name only when it is whole: until then it is `<name>.partial`, and on an error it is gone.
 */
export class WholeFile {
  #bytes = 0;

  private constructor(readonly path: string, private readonly file: Deno.FsFile) {}

  /** @throws {OutputError} */
  static async create(path: string): Promise<WholeFile> {
    try {
      return new WholeFile(path, await Deno.create(partial(path)));
    } catch (error) {
      throw new OutputError(path, error, "");
    }
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @throws {OutputError} */
  async write(chunks: readonly Uint8Array[]): Promise<void> {
    try {
      this.#bytes += await writeChunks(this.file, chunks);
    } catch (error) {
      await this.discard();
      throw new OutputError(this.path, error, "");
    }
  }

  /** Gives the file its name. */
  async finish(): Promise<void> {
    this.file.close();
    await Deno.rename(partial(this.path), this.path);
  }

  /** Takes it away. */
  async discard(): Promise<void> {
    try {
      this.file.close();
    } catch { /* closed already */ }
    await Deno.remove(partial(this.path)).catch(() => {});
  }
}

function partial(path: string): string {
  return `${path}.partial`;
}
