/**
 * Weights in safetensors: one file, or several with an index (`model.safetensors.index.json`).
 * Format: the section "Format" of the safetensors README (github.com/huggingface/safetensors).
 */
import { sizeOf } from "../../base/shape.ts";
import { basename, dirname, join } from "node:path";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import { type ByteSource, fileSource } from "../../engine/gguf/source.ts";
import { GGML_TYPES, type GgmlType } from "../../engine/gguf/types.ts";
import { isObject, parseForeignJson, readForeignJson } from "../../models/foreign_json.ts";

/** A tensor in a file. */
export interface SafetensorsTensor {
  readonly name: string;
  /** As the file says: `F32`, `F16`, `BF16`, `I64`, … */
  readonly dtype: string;
  /** Row-major, slowest axis first. */
  readonly shape: readonly number[];
  /** Reads numbers of the flat tensor; undefined for types other than F32, F16 and BF16. */
  readonly read?: (first: number, count: number) => Promise<Float32Array>;
}

/** An open file, or all files of an index. */
export interface SafetensorsFile {
  readonly name: string;
  /** In the files' order. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  close(): void;
}

/** A file that cannot be read: one line that names it. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
  constructor(readonly file: string, problem: string) {
    super(`${file}: ${problem}`);
  }
}

/** Bytes of the header's length, in front of it. */
const LENGTH_BYTES = 8;
/** The format's own limit is 100 MB; a header of 64 MiB has half a million tensors. */
const LARGEST_HEADER = 64 * 2 ** 20;
/** More than any tensor has. */
const MOST_DIMENSIONS = 16;

/** Types whose numbers are read; they are ggml's. */
const TYPES: ReadonlyMap<string, GgmlType> = new Map(
  GGML_TYPES.filter(({ name }) => ["F32", "F16", "BF16"].includes(name)).map((type) => [
    type.name,
    type,
  ]),
);

/**
 * Opens a safetensors file, or all files that an index names; only headers are read.
 *
 * @param path of a `.safetensors` file or of an index
 * @throws {SafetensorsError | GgufError | ModelError} for a file that is missing, truncated or says what cannot be
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  if (!path.endsWith(".json")) return await openOne(path);
  const files = new Map<string, SafetensorsFile>();
  const close = () => files.values().forEach((file) => file.close());
  try {
    const tensors = new Map<string, SafetensorsTensor>();
    for (const [name, file] of await readIndex(path)) {
      if (!files.has(file)) files.set(file, await openOne(join(dirname(path), file)));
      const tensor = files.get(file)!.tensors.get(name);
      if (!tensor) {
        throw new SafetensorsError(path, `${file} has no tensor ${JSON.stringify(name)}`);
      }
      tensors.set(name, tensor);
    }
    return { name: path, tensors, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function readIndex(path: string): Promise<[tensor: string, file: string][]> {
  const index = await readForeignJson(path);
  if (!index) throw new SafetensorsError(path, "no such file; check the path");
  if (!isObject(index.weight_map)) throw new SafetensorsError(path, "an index without weight_map");
  return Object.entries(index.weight_map).map(([name, file]): [string, string] => {
    if (typeof file === "string" && file === basename(file)) return [name, file];
    throw new SafetensorsError(path, `${JSON.stringify(name)} is in ${JSON.stringify(file)}`);
  });
}

async function openOne(path: string): Promise<SafetensorsFile> {
  const source = await fileSource(path);
  try {
    const tensors = await readHeader(source);
    return { name: path, tensors, close: () => source.close() };
  } catch (error) {
    source.close();
    throw error;
  }
}

async function readHeader(source: ByteSource): Promise<Map<string, SafetensorsTensor>> {
  const fail = (problem: string) => new SafetensorsError(source.name, problem);
  if (source.size < LENGTH_BYTES) throw fail("too short for a safetensors file");
  const prefix = await source.read(0, LENGTH_BYTES);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true));
  const start = LENGTH_BYTES + length;
  if (length > LARGEST_HEADER || start > source.size) {
    throw fail(`no safetensors file, or a truncated one: a header of ${length} bytes`);
  }
  const header = await source.read(LENGTH_BYTES, length);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, entry] of Object.entries(parse(source.name, header))) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
    const quoted = JSON.stringify(name);
    if (typeof dtype !== "string" || !isCounts(shape) || !isCounts(offsets)) {
      throw fail(`tensor ${quoted} has no dtype, shape or data_offsets`);
    }
    const [from, to] = offsets;
    if (offsets.length !== 2 || shape.length > MOST_DIMENSIONS || from > to) {
      throw fail(`tensor ${quoted} has shape [${shape}] and data_offsets [${offsets}]`);
    }
    if (start + to > source.size) {
      throw fail(
        `tensor ${quoted} ends at byte ${start + to} but the file has ${source.size}; ` +
          "it is truncated, get it again",
      );
    }
    const type = TYPES.get(dtype);
    if (type && sizeOf(shape) * type.blockBytes !== to - from) {
      throw fail(`tensor ${quoted}, ${dtype} [${shape}], takes ${to - from} bytes`);
    }
    const read = type && (async (first: number, count: number) => {
      const [at, bytes] = [start + from + first * type.blockBytes, count * type.blockBytes];
      return dequantize(type, await source.read(at, bytes));
    });
    tensors.set(name, { name, dtype, shape, read });
  }
  return tensors;
}

function parse(file: string, header: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseForeignJson(header);
  } catch {
    throw new SafetensorsError(
      file,
      "its header is not JSON; it is damaged or no safetensors file",
    );
  }
  if (isObject(value)) return value;
  throw new SafetensorsError(file, "its header is no JSON object");
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) &&
    value.every((each) => typeof each === "number" && Number.isSafeInteger(each) && each >= 0);
}
