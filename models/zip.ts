/** One file inside a zip. */
export interface ZipEntry {
  readonly name: string;
  /** Size in bytes when unpacked, as the zip says. */
  readonly bytes: number;
  /** Unpacks it, piece by piece. Neither its length nor its CRC is checked. */
  stream(): ReadableStream<Uint8Array>;
}

/** A zip that cannot be read. */
export class ZipError extends Error {
  override readonly name = "ZipError";
  readonly path: string;

  constructor(path: string, problem: string) {
    super(`${path}: ${problem}`);
    this.path = path;
  }
}

const END_SIGNATURE = 0x06054b50;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
/** A comment of at most this many bytes follows the end record. */
const LONGEST_COMMENT = 0xffff;
/** What a 32-bit field says when its value is in a Zip64 record. */
const ZIP64 = 0xffffffff;
const STORED = 0;
const DEFLATED = 8;
const READ_BYTES = 256 * 1024;

/**
 * Finds one file in a zip on disk. Only the directory is read; format: PKWARE's APPNOTE.TXT,
 * sections 4.3 and 4.4. Zip64, encryption and methods but deflate are refused.
 *
 * @throws {ZipError} when the zip is damaged or has no such file
 */
export async function findZipEntry(path: string, name: string): Promise<ZipEntry> {
  using file = await Deno.open(path, { read: true });
  const { size } = await file.stat();
  const { start, length, count } = await readEnd(file, path, size);
  const directory = await readAt(file, path, start, length);
  const view = new DataView(directory.buffer);
  const text = new TextDecoder();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL_BYTES > length || view.getUint32(at, true) !== CENTRAL_SIGNATURE) {
      throw new ZipError(path, `damaged zip: entry ${i} of its directory is broken`);
    }
    const nameLength = view.getUint16(at + 28, true);
    const next = at + CENTRAL_BYTES + nameLength + view.getUint16(at + 30, true) +
      view.getUint16(at + 32, true);
    const nameStart = at + CENTRAL_BYTES;
    if (text.decode(directory.subarray(nameStart, nameStart + nameLength)) === name) {
      return await openEntry(file, path, size, name, {
        encrypted: (view.getUint16(at + 8, true) & 1) === 1,
        method: view.getUint16(at + 10, true),
        packedBytes: view.getUint32(at + 20, true),
        bytes: view.getUint32(at + 24, true),
        header: view.getUint32(at + 42, true),
      });
    }
    at = next;
  }
  throw new ZipError(path, `there is no ${name} in this zip`);
}

async function readEnd(
  file: Deno.FsFile,
  path: string,
  size: number,
): Promise<{ start: number; length: number; count: number }> {
  const tailBytes = Math.min(size, END_BYTES + LONGEST_COMMENT);
  const tail = await readAt(file, path, size - tailBytes, tailBytes);
  const view = new DataView(tail.buffer);
  for (let at = tailBytes - END_BYTES; at >= 0; at--) {
    if (view.getUint32(at, true) !== END_SIGNATURE) continue;
    const count = view.getUint16(at + 10, true);
    const length = view.getUint32(at + 12, true);
    const start = view.getUint32(at + 16, true);
    if (start === ZIP64 || length === ZIP64) throw new ZipError(path, "Zip64 is not supported");
    if (start + length > size - tailBytes + at) {
      throw new ZipError(path, "damaged zip: its directory lies outside the file");
    }
    return { start, length, count };
  }
  throw new ZipError(path, "not a zip, or cut off");
}

interface EntryFacts {
  readonly encrypted: boolean;
  readonly method: number;
  readonly packedBytes: number;
  readonly bytes: number;
  /** Offset of the local header. */
  readonly header: number;
}

async function openEntry(
  file: Deno.FsFile,
  path: string,
  size: number,
  name: string,
  facts: EntryFacts,
): Promise<ZipEntry> {
  const { encrypted, method, packedBytes, bytes, header } = facts;
  if ([packedBytes, bytes, header].includes(ZIP64)) {
    throw new ZipError(path, "Zip64 is not supported");
  }
  if (encrypted || (method !== STORED && method !== DEFLATED)) {
    throw new ZipError(path, `${name} is encrypted or packed with unknown method ${method}`);
  }
  const local = new DataView((await readAt(file, path, header, LOCAL_BYTES)).buffer);
  // The lengths in the local header may differ from the directory's.
  const start = header + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
  if (local.getUint32(0, true) !== LOCAL_SIGNATURE || start + packedBytes > size) {
    throw new ZipError(path, `damaged zip: ${name} lies outside the file`);
  }
  return {
    name,
    bytes,
    stream() {
      const packed = readRange(path, start, packedBytes);
      if (method === STORED) return packed;
      return packed.pipeThrough(new DecompressionStream("deflate-raw"));
    },
  };
}

function readRange(
  path: string,
  start: number,
  length: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let file: Deno.FsFile;
  let left = length;
  return new ReadableStream({
    async start() {
      file = await Deno.open(path, { read: true });
      await file.seek(start, Deno.SeekMode.Start);
    },
    async pull(controller) {
      const chunk = new Uint8Array(Math.min(left, READ_BYTES));
      const count = left === 0 ? null : await file.read(chunk);
      if (count === null) {
        file.close();
        if (left > 0) throw new ZipError(path, "the file became shorter while it was read");
        controller.close();
      } else {
        left -= count;
        controller.enqueue(chunk.subarray(0, count));
      }
    },
    cancel() {
      file.close();
    },
  });
}

async function readAt(
  file: Deno.FsFile,
  path: string,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const { size } = await file.stat();
  if (offset + length > size) throw new ZipError(path, "damaged zip: it ends too early");
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let filled = 0; filled < length;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) throw new ZipError(path, "the file became shorter while it was read");
    filled += count;
  }
  return bytes;
}
