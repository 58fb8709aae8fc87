/** A zip that cannot be read. */
export class ZipError extends Error {
  override readonly name = "ZipError";
  readonly path: string;

  constructor(path: string, problem: string, options?: ErrorOptions) {
    super(`${path}: ${problem}`, options);
    this.path = path;
  }
}

/**
 * Unpacks one file of a zip on disk, piece by piece. Its CRC is not checked.
 *
 * @param name of the file, as the zip has it
 * @throws {ZipError} when the zip is damaged or has no such file
 */
export async function* unzipped(path: string, name: string): AsyncGenerator<Uint8Array> {
  // The first package takes 20 ms of a process, and few processes unpack something.
  const { Unzip, UnzipInflate } = await import("npm:fflate@0.8.3");
  const pieces: Uint8Array[] = [];
  let found = false;
  let whole = false;
  const unzip = new Unzip((entry) => {
    if (entry.name !== name || found) return;
    found = true;
    entry.ondata = (error, piece, last) => {
      if (error) throw error;
      pieces.push(piece);
      whole = last;
    };
    entry.start();
  });
  unzip.register(UnzipInflate);
  using file = await Deno.open(path, { read: true });
  const packed = new Uint8Array(256 * 1024);
  while (!whole) {
    const count = await file.read(packed);
    if (count === null) {
      throw new ZipError(
        path,
        found ? "damaged zip: it ends too early" : `there is no ${name} in it`,
      );
    }
    try {
      unzip.push(packed.slice(0, count));
    } catch (error) {
      throw new ZipError(path, `damaged zip: ${(error as Error).message}`, { cause: error });
    }
    yield* pieces.splice(0);
  }
}
