import { GgufError, quoted } from "./error.ts";
import {
  type GgufHeader,
  type MetadataType,
  type MetadataValue,
  readHeader,
  type TensorInfo,
} from "./header.ts";
import { type ByteSource, fileSource } from "./source.ts";
import { swapBlocks } from "./types.ts";

export { GgufError } from "./error.ts";
export type { MetadataType, MetadataValue, TensorInfo } from "./header.ts";

/** An open GGUF file: metadata, tensor directory and access to the tensors' bytes. */
export interface GgufFile {
  /** Name of the file (of the first part). */
  readonly name: string;
  readonly version: number;
  readonly littleEndian: boolean;
  /** In bytes. */
  readonly alignment: number;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** How the file stores each value of `metadata`, which a copy has to keep. */
  readonly metadataTypes: ReadonlyMap<string, MetadataType>;
  /** By name, in the files' order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Bytes in all parts. */
  readonly size: number;
  /**
   * Reads the bytes `offset` to `offset + length` of a tensor (the whole tensor without them), in
   * little-endian order whatever the file's. The result may be a view of the file's own memory:
   * do not write into it. Ask for pieces of large tensors: nothing here splits them.
   *
   * @param into as for {@linkcode ByteSource.read}
   * @throws {RangeError} when the range leaves the tensor
   * @throws {GgufError} when the file cannot be read
   */
  readTensor(
    tensor: TensorInfo,
    offset?: number,
    length?: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /** Closes the sources. */
  close(): void;
}

/**
 * Opens a GGUF file from its source, or a split one from all its parts in order. Only the header
 * is read. The file closes the sources; where opening fails they stay the caller's.
 *
 * @throws {GgufError} for anything that is not a whole, consistent GGUF file
 */
export async function openGguf(source: ByteSource | readonly ByteSource[]): Promise<GgufFile> {
  const sources: readonly ByteSource[] = "read" in source ? [source] : source;
  if (sources.length === 0) throw new TypeError("Cannot open a GGUF file: no source was given");
  const headers: GgufHeader[] = [];
  for (const [part, each] of sources.entries()) headers.push(await readHeader(each, part));
  return assemble(sources, headers);
}

/**
 * Opens a GGUF file on disk. Any part of a split file (`-00001-of-00003.gguf`) opens them all.
 *
 * @throws {GgufError} for anything that is not a whole, consistent GGUF file
 */
export async function openGgufFile(path: string): Promise<GgufFile> {
  const sources = [await fileSource(path)];
  try {
    const header = await readHeader(sources[0], 0);
    if (partCount(header) <= 1) return assemble(sources, [header]);
    const paths = partPaths(path, header);
    sources.pop()!.close();
    for (const each of paths) sources.push(await partSource(each));
    return await openGguf(sources);
  } catch (error) {
    for (const source of sources) source.close();
    throw error;
  }
}

async function partSource(path: string): Promise<ByteSource> {
  try {
    return await fileSource(path);
  } catch (error) {
    if (!(error instanceof GgufError)) throw error;
    throw new GgufError("this part of the split file is missing; put all parts in one folder", {
      file: path,
    });
  }
}

function assemble(sources: readonly ByteSource[], headers: readonly GgufHeader[]): GgufFile {
  checkParts(sources, headers);
  const tensors = new Map<string, TensorInfo>();
  for (const tensor of headers.flatMap((header) => header.tensors)) {
    if (tensors.has(tensor.name)) {
      const file = sources[tensor.source].name;
      throw new GgufError(`the tensor ${quoted(tensor.name)} is also in another part`, {
        file,
        tensor: tensor.name,
      });
    }
    tensors.set(tensor.name, tensor);
  }
  const { version, littleEndian, alignment, metadata, metadataTypes } = headers[0];
  return {
    name: sources[0].name,
    version,
    littleEndian,
    alignment,
    metadata,
    metadataTypes,
    tensors,
    size: sources.reduce((sum, source) => sum + source.size, 0),
    readTensor(tensor, offset = 0, length = tensor.bytes - offset, into) {
      const swapped = !headers[tensor.source].littleEndian;
      return readTensor(sources[tensor.source], tensor, { offset, length, into }, swapped);
    },
    close() {
      for (const source of sources) source.close();
    },
  };
}

async function readTensor(
  source: ByteSource,
  tensor: TensorInfo,
  { offset, length, into }: {
    readonly offset: number;
    readonly length: number;
    readonly into?: Uint8Array<ArrayBuffer>;
  },
  swapped: boolean,
): Promise<Uint8Array<ArrayBuffer>> {
  if (!(offset >= 0 && length >= 0 && offset + length <= tensor.bytes)) {
    throw new RangeError(
      `Cannot read ${length} bytes at ${offset} of tensor ${tensor.name}: it has ${tensor.bytes}`,
    );
  }
  if (!swapped) return await source.read(tensor.offset + offset, length, into);
  // Which bytes change places depends on where they are in their block, so whole blocks are read.
  const { blockBytes } = tensor.type;
  const start = Math.floor(offset / blockBytes) * blockBytes;
  const end = Math.ceil((offset + length) / blockBytes) * blockBytes;
  const blocks = (await source.read(tensor.offset + start, end - start)).slice();
  swapBlocks(tensor.type, blocks);
  return blocks.subarray(offset - start, offset - start + length);
}

/** Checks that the sources are all parts of one split file, in order. */
function checkParts(sources: readonly ByteSource[], headers: readonly GgufHeader[]): void {
  const count = Math.max(1, partCount(headers[0]));
  if (count !== sources.length) {
    throw new GgufError(
      `the file is split into ${count} parts but ${sources.length} was given; open all parts`,
      { file: sources[0].name },
    );
  }
  if (count === 1) return;
  for (const [part, header] of headers.entries()) {
    const number = header.metadata.get("split.no");
    if (partCount(header) !== count || number !== part) {
      throw new GgufError(
        `this says that it is part ${Number(number) + 1} of ${partCount(header)},` +
          ` not part ${part + 1} of ${count}; get the parts again`,
        { file: sources[part].name },
      );
    }
  }
  const promised = headers[0].metadata.get("split.tensors.count");
  const found = headers.reduce((sum, header) => sum + header.tensors.length, 0);
  if (promised !== undefined && promised !== found) {
    throw new GgufError(
      `the parts hold ${found} tensors instead of ${promised}; get the parts again`,
      { file: sources[0].name },
    );
  }
}

function partCount(header: GgufHeader): number {
  const count = header.metadata.get("split.count");
  return typeof count === "number" ? count : 1;
}

/** llama.cpp's names for the parts of a split file: `NAME-00001-of-00003.gguf`. */
function partPaths(path: string, header: GgufHeader): string[] {
  const count = partCount(header);
  const match = /^(.*)-\d{5}-of-(\d{5})\.gguf$/s.exec(path);
  if (match === null || Number(match[2]) !== count) {
    throw new GgufError(
      `the file is one of ${count} parts; its name must end in -0000N-of-` +
        `${String(count).padStart(5, "0")}.gguf, as that of the others`,
      { file: path },
    );
  }
  return Array.from(
    { length: count },
    (_, part) => `${match[1]}-${String(part + 1).padStart(5, "0")}-of-${match[2]}.gguf`,
  );
}
