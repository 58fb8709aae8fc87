/** One file for {@linkcode writeZip}. */
export interface ZipFile {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Default: deflated. */
  readonly stored?: boolean;
}

/** Makes a zip in memory (with CRCs of zero, which the reader does not check). */
export async function writeZip(
  files: readonly ZipFile[],
  comment = "",
): Promise<Uint8Array<ArrayBuffer>> {
  const text = new TextEncoder();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let offset = 0;
  for (const { name, bytes, stored } of files) {
    const nameBytes = text.encode(name);
    const packed = stored ? bytes : await deflate(bytes);
    const shared = fields(
      [20, 2],
      [0, 2],
      [stored ? 0 : 8, 2],
      [0, 4],
      [0, 4],
      [
        packed.length,
        4,
      ],
      [bytes.length, 4],
      [nameBytes.length, 2],
    );
    // An extra field in the local header only, as archivers write them.
    const extra = fields([0x5455, 2], [1, 2], [0, 1]);
    const local = join([
      fields([0x04034b50, 4]),
      shared,
      fields([extra.length, 2]),
      nameBytes,
      extra,
    ]);
    directory.push(join([
      fields([0x02014b50, 4], [20, 2]),
      shared,
      fields([0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]),
      nameBytes,
    ]));
    parts.push(local, packed);
    offset += local.length + packed.length;
  }
  const central = join(directory);
  const commentBytes = text.encode(comment);
  const end = fields(
    [0x06054b50, 4],
    [0, 4],
    [files.length, 2],
    [files.length, 2],
    [central.length, 4],
    [offset, 4],
    [commentBytes.length, 2],
  );
  return join([...parts, central, end, commentBytes]);
}

async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Little-endian numbers: [value, width in bytes]. */
function fields(...values: [number, number][]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    values.flatMap(([value, width]) =>
      Array.from({ length: width }, (_, i) => value / 2 ** (8 * i) & 0xff)
    ),
  );
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
