import { basename } from "node:path";
import { checksumPath, hashFile, sha256 } from "./cache.ts";
import { PullError, reasonOf } from "./error.ts";

/**
 * A model on its way into the cache: `FILE.part`, hashed while it is written, which gets its own
 * name only when it is whole and its checksum is right.
 */
export class PartFile {
  readonly #model: string;
  readonly #path: string;
  readonly #target: string;
  readonly #file: Deno.FsFile;
  #hash = sha256();
  #bytes = 0;

  private constructor(model: string, target: string, file: Deno.FsFile) {
    this.#model = model;
    this.#target = target;
    this.#path = partPath(target);
    this.#file = file;
  }

  /**
   * Opens the part file of `target`, whose lock the caller holds.
   *
   * @param resume keeps what an earlier pull left; else the file begins empty
   */
  static async open(model: string, target: string, resume: boolean): Promise<PartFile> {
    const path = partPath(target);
    const file = await guarded(
      model,
      path,
      () => Deno.open(path, { create: true, write: true, read: true }),
    );
    const part = new PartFile(model, target, file);
    try {
      if (resume) {
        await hashFile(path, part.#hash);
        part.#bytes = await file.seek(0, Deno.SeekMode.End);
      } else {
        await part.restart();
      }
    } catch (error) {
      part.close();
      throw error;
    }
    return part;
  }

  /** How many bytes are there. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Throws away what is there. */
  async restart(): Promise<void> {
    await guarded(this.#model, this.#path, async () => {
      await this.#file.truncate(0);
      await this.#file.seek(0, Deno.SeekMode.Start);
    });
    this.#hash = sha256();
    this.#bytes = 0;
  }

  /**
   * Appends bytes.
   *
   * @throws {PullError} when the disk is full or cannot be written
   */
  async write(bytes: Uint8Array): Promise<void> {
    await guarded(this.#model, this.#path, async () => {
      for (let written = 0; written < bytes.length;) {
        written += await this.#file.write(bytes.subarray(written));
      }
    });
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
  }

  /**
   * Checks the whole and gives it its name, with its SHA-256 in a file beside it.
   *
   * @param expected SHA-256 in hexadecimal
   * @throws {PullError} when the checksum is another one; then the part file is gone
   */
  async finish(expected: string): Promise<void> {
    const actual = this.#hash.digest();
    if (actual !== expected) {
      await this.discard();
      throw new PullError(
        this.#model,
        "checksum",
        `checksum mismatch: the ${this.#bytes} bytes that arrived have SHA-256 ${actual} where ` +
          `${expected} is expected; nothing was kept, pull again`,
      );
    }
    await guarded(this.#model, this.#path, async () => {
      await this.#file.sync();
      this.close();
      await Deno.writeTextFile(
        checksumPath(this.#target),
        `${actual}  ${basename(this.#target)}\n`,
      );
      await Deno.rename(this.#path, this.#target);
    });
  }

  /** Closes and removes the part file. */
  async discard(): Promise<void> {
    this.close();
    await Deno.remove(this.#path).catch(() => {});
  }

  /** Closes the part file and leaves it. */
  close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }
  #open = true;
}

/** Name of a pull that is under way. */
export function partPath(target: string): string {
  return `${target}.part`;
}

/** Does `work` on files; what the file system says becomes a line that says what to do. */
export async function guarded<T>(
  model: string,
  path: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOSPC" || code === "EDQUOT") throw diskFull(model, path, error);
    if (typeof code !== "string") throw error; // not from the file system
    throw new PullError(
      model,
      "write",
      `cannot write ${path}: ${reasonOf(error)}; set LAMINA_HOME to a folder that can be written`,
      { cause: error },
    );
  }
}

/** The error for a disk without space. */
export function diskFull(model: string, path: string, cause?: unknown): PullError {
  return new PullError(
    model,
    "disk-full",
    `the disk is full at ${path}; nothing was kept: free some space, or set LAMINA_HOME to a ` +
      "folder on another disk",
    { cause },
  );
}
