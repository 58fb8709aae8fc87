/** 32-bit copies of models: on them llama.cpp rounds nothing that our kernels don't round. */
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { dequantize, isDequantizable } from "../../engine/gguf/dequantize.ts";
import { GgufError } from "../../engine/gguf/error.ts";
import type { GgufFile, MetadataValue, TensorInfo } from "../../engine/gguf/reader.ts";
import { GGML_TYPES } from "../../engine/gguf/types.ts";
import {
  ggufSize,
  type NewGguf,
  type NewTensor,
  writeGguf,
  type WriteGgufOptions,
} from "../../engine/gguf/writer.ts";
import { openFound } from "../../inspect/run/loading.ts";
import { acquireLock, isFile, laminaHome, statOf } from "../../models/cache.ts";
import { ModelError } from "../../models/error.ts";
import { type Identity, identityOf } from "../../models/identity.ts";
import type { Environment, FoundModel, ProgressListener } from "../../models/mod.ts";
import { guarded } from "../../models/part_file.ts";

/** 32-bit floats. */
export const F32 = GGML_TYPES.find(({ name }) => name === "F32")!;

/** Numbers that are dequantized at a time: 16 MiB of them. */
const PIECE_NUMBERS = 2 ** 22;

/** How a copy is made. */
export interface F32CopyOptions {
  /** Told how many bytes the copy will take, and where, before the first is written. */
  readonly onSpace?: (bytes: number, path: string) => void;
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
  readonly env?: Environment;
}

/**
 * A copy of a model with every tensor as F32, in Lamina's cache; made once for each content of a file. It takes 4 bytes for each
 * weight. A file that is all F32 already is its own copy.
 *
 * @returns its path
 * @throws {GgufError} when the file, or the type of one of its tensors, cannot be read
 * @throws {ModelError} when the disk has no room for it or cannot be written
 */
export async function f32Copy(model: FoundModel, options: F32CopyOptions = {}): Promise<string> {
  const { env = Deno.env.get, signal, onSpace } = options;
  const identity = await identityOf(model, env);
  const file = await openFound(model);
  try {
    const folder = f32Folder(env);
    if (!await mayBeCopied(file, env)) {
      // The whole file is not read in vain.
      const needed = ggufSize(f32Content(file));
      await guarded(model.name, folder, () => Deno.mkdir(folder, { recursive: true }));
      await checkRoom(model.name, folder, needed, () => onSpace?.(needed, folder));
    }
    const path = await f32Path(model, file, identity, options);
    await madeOnce(model, path, signal, async () => {
      await writeChecked(model.name, path, f32Content(file), options);
      if (await identity.holds()) return;
      await Deno.remove(path);
      throw hasChanged(model);
    });
    return path;
  } finally {
    file.close();
  }
}

/** Makes a file, unless it is there or another process makes it meanwhile. */
export async function madeOnce(
  { name }: FoundModel,
  path: string,
  signal: AbortSignal | undefined,
  make: () => Promise<void>,
): Promise<void> {
  if (await isFile(path)) return;
  using _lock = await guarded(name, path, () => acquireLock(`${path}.lock`, { signal }));
  if (!await isFile(path)) await make();
}

/** Where 32-bit copies lie. */
export function f32Folder(env: Environment): string {
  return join(laminaHome(env), "f32");
}

/** Whether there is a 32-bit copy as large as this file's would be, or the file is one: what costs little to know. */
export async function mayBeCopied(file: GgufFile, env: Environment): Promise<boolean> {
  if (isF32(file)) return true;
  const folder = f32Folder(env);
  const size = ggufSize(f32Content(file));
  if (await statOf(folder) === undefined) return false;
  for await (const { name } of Deno.readDir(folder)) {
    if ((await statOf(join(folder, name)))?.size === size) return true;
  }
  return false;
}

/**
 * Where the 32-bit copy of this content lies, once it is made: the file itself, if it is all F32.
 *
 * @throws {ModelError} when the file has changed meanwhile
 */
export async function f32Path(
  model: FoundModel,
  file: GgufFile,
  identity: Identity,
  { env = Deno.env.get, signal }: Pick<F32CopyOptions, "env" | "signal"> = {},
): Promise<string> {
  if (model.path !== undefined && isF32(file)) return file.name;
  return join(f32Folder(env), `${await contentName(model, identity, signal)}.gguf`);
}

/**
 * A name for what is made of this content of a model: the beginning of its SHA-256 is in it.
 *
 * @throws {ModelError} when the file has changed meanwhile
 */
export async function contentName(
  model: FoundModel,
  identity: Identity,
  signal?: AbortSignal,
): Promise<string> {
  const content = await identity.sha256({ signal });
  if (content === undefined) throw hasChanged(model);
  const name = model.name.replaceAll(/[^\w.-]+/g, "_").slice(-60);
  return `${name}-${content.slice(0, 16)}`;
}

/** The error for a file of which what was read before is not what is there now. */
export function hasChanged({ name }: Pick<FoundModel, "name">): ModelError {
  return new ModelError(name, "its file has changed since it was opened; open it again");
}

/** Metadata of a file that is whole, whatever parts it came in. */
export function withoutSplit(
  metadata: ReadonlyMap<string, MetadataValue>,
): Map<string, MetadataValue> {
  return new Map([...metadata].filter(([key]) => !key.startsWith("split.")));
}

/** A tensor's bytes, in pieces of so many. */
export async function* piecesOf(
  file: GgufFile,
  tensor: TensorInfo,
  size: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < tensor.bytes; at += size) {
    yield await file.readTensor(tensor, at, Math.min(size, tensor.bytes - at));
  }
}

/** What the copy of a file holds. */
export function f32Content(file: GgufFile): NewGguf {
  const metadata = withoutSplit(file.metadata);
  if (metadata.has("general.file_type")) metadata.set("general.file_type", 0); // LLAMA_FTYPE_ALL_F32
  return {
    metadata,
    metadataTypes: file.metadataTypes,
    tensors: [...file.tensors.values()].map((tensor) => f32Tensor(file, tensor)),
  };
}

/**
 * A tensor of a file as F32.
 *
 * @param name in the new file
 * @throws {GgufError} for a type that cannot be dequantized
 */
export function f32Tensor(file: GgufFile, tensor: TensorInfo, name = tensor.name): NewTensor {
  checkType(file, tensor);
  const { type, shape } = tensor;
  const pieceBytes = Math.floor(PIECE_NUMBERS / type.blockSize) * type.blockBytes;
  return {
    name,
    type: F32,
    shape,
    async *bytes() {
      for await (const bytes of piecesOf(file, tensor, pieceBytes)) {
        yield new Uint8Array(dequantize(type, bytes).buffer);
      }
    },
  };
}

/**
 * Some rows of a matrix of a file as F32, in this order.
 *
 * @throws {GgufError} for a type that cannot be dequantized
 */
export function f32Rows(
  file: GgufFile,
  tensor: TensorInfo,
  rows: readonly number[],
): NewTensor {
  checkType(file, tensor);
  const { type, shape: [columns, count], name } = tensor;
  const rowBytes = tensor.bytes / count;
  return {
    name,
    type: F32,
    shape: [columns, rows.length],
    async *bytes() {
      for (const row of rows) {
        const bytes = await file.readTensor(tensor, row * rowBytes, rowBytes);
        yield new Uint8Array(dequantize(type, bytes).buffer);
      }
    },
  };
}

function checkType(file: GgufFile, { name, type }: TensorInfo): void {
  if (isDequantizable(type)) return;
  throw new GgufError(
    `the tensor ${name} has type ${type.name}, of which no 32-bit copy can be made yet;` +
      " take the model in another quantization",
    { file: file.name, tensor: name },
  );
}

/**
 * Writes a GGUF file, if its disk has room for it.
 *
 * @param model name, for errors
 * @throws {ModelError} when it hasn't, or when it cannot be written; nothing is left then
 */
export async function writeChecked(
  model: string,
  path: string,
  content: NewGguf,
  options: F32CopyOptions & Pick<WriteGgufOptions, "durable">,
): Promise<void> {
  const { onSpace, onProgress, signal, durable } = options;
  const needed = ggufSize(content);
  await guarded(model, path, () => Deno.mkdir(dirname(path), { recursive: true }));
  onSpace?.(needed, path);
  await checkRoom(model, dirname(path), needed);
  await guarded(model, path, () => writeGguf(path, content, { onProgress, signal, durable }));
}

/** Throws where a folder's disk lacks room for so many bytes, after `onLack`. */
async function checkRoom(
  model: string,
  folder: string,
  needed: number,
  onLack?: () => void,
): Promise<void> {
  const free = await freeBytes(folder);
  if (free === undefined || free >= needed) return;
  onLack?.();
  throw new ModelError(
    model,
    `its weights as 32-bit floats take ${inGigabytes(needed)} and the disk with ${folder} has ${
      inGigabytes(free)
    } left; free some space, or set LAMINA_HOME to a folder on another disk`,
  );
}

/** Bytes that a folder's disk has left; undefined where the system may not be asked (`--allow-sys=statfs`). */
export async function freeBytes(folder: string): Promise<number | undefined> {
  const { state } = await Deno.permissions.query({ name: "sys", kind: "statfs" });
  if (state !== "granted") return undefined;
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

function inGigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** Whether llama.cpp runs this very file on 32-bit weights. */
function isF32(file: GgufFile): boolean {
  const tensors = [...file.tensors.values()];
  return file.littleEndian && file.version > 1 &&
    tensors.every(({ type, source }) => type === F32 && source === 0);
}
