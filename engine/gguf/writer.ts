import { tensorBytes } from "./types.ts";
import { encodeFileText } from "../../base/file_text.ts";
import {
  DEFAULT_ALIGNMENT,
  METADATA_TYPES,
  type MetadataType,
  type MetadataValue,
} from "./header.ts";
import type { GgmlType } from "./types.ts";

/** A tensor to write. */
export interface NewTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** In ggml's order: [columns, rows, ...]. */
  readonly shape: readonly number[];
  /** Its blocks, little-endian, in pieces of any length. Asked for when its turn has come; a piece is written before the next. */
  readonly bytes: () => AsyncIterable<Uint8Array>;
}

/** What a GGUF file shall hold. */
export interface NewGguf {
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** Of every key of `metadata`. */
  readonly metadataTypes: ReadonlyMap<string, MetadataType>;
  readonly tensors: readonly NewTensor[];
}

/** How a file is written. */
export interface WriteGgufOptions {
  /** Called after each piece with the bytes written so far and the size of the whole. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Whether the file shall outlive a loss of power, for which the disk has to be waited for; true. */
  readonly durable?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Writes a GGUF file, version 3, little-endian, front to back: whatever its size, one piece of a tensor is in memory at a time.
 * Until it is whole it is called `path.partial`; when writing fails nothing is left.
 *
 * @throws {TypeError} for metadata that does not fit its type
 * @throws {RangeError} when a tensor's bytes are more or fewer than its type and shape ask for
 */
export async function writeGguf(
  path: string,
  content: NewGguf,
  options: WriteGgufOptions = {},
): Promise<void> {
  const partial = `${path}.partial`;
  const total = ggufSize(content);
  const file = await Deno.open(partial, { create: true, write: true, truncate: true });
  let done = 0;
  async function write(bytes: Uint8Array): Promise<void> {
    options.signal?.throwIfAborted();
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    done += bytes.length;
  }
  try {
    try {
      for (const entry of headerEntries(content)) await write(entry);
      const alignment = alignmentOf(content);
      for (const tensor of content.tensors) {
        await write(padding(done, alignment));
        const start = done;
        for await (const piece of tensor.bytes()) {
          await write(piece);
          options.onProgress?.(done, total);
        }
        checkLength(tensor, done - start);
      }
      await write(padding(done, alignment));
      if (options.durable ?? true) await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(partial, path);
  } catch (error) {
    await Deno.remove(partial).catch(() => {});
    throw error;
  }
}

/** Size in bytes of the file that {@linkcode writeGguf} writes. */
export function ggufSize(content: NewGguf): number {
  const alignment = alignmentOf(content);
  let size = 0;
  for (const entry of headerEntries(content)) size += entry.length;
  for (const tensor of content.tensors) size = roundUp(size, alignment) + tensorBytes(tensor);
  return roundUp(size, alignment);
}

/** The header in pieces: an entry of metadata or of the directory each. */
function* headerEntries(content: NewGguf): Generator<Uint8Array> {
  const { metadata, metadataTypes, tensors } = content;
  const start = new Bytes();
  start.text("GGUF");
  start.number("u32", 3);
  start.number("u64", tensors.length);
  start.number("u64", metadata.size);
  yield start.take();

  for (const [key, value] of metadata) {
    const type = metadataTypes.get(key);
    if (type === undefined) throw new TypeError(`Cannot write ${key}: it has no type`);
    const entry = new Bytes();
    entry.string(key);
    writeValue(entry, type, value);
    yield entry.take();
  }

  const alignment = alignmentOf(content);
  let offset = 0;
  for (const tensor of tensors) {
    const entry = new Bytes();
    entry.string(tensor.name);
    entry.number("u32", tensor.shape.length);
    for (const size of tensor.shape) entry.number("u64", size);
    entry.number("u32", tensor.type.id);
    entry.number("u64", offset);
    yield entry.take();
    offset = roundUp(offset + tensorBytes(tensor), alignment);
  }
}

function writeValue(out: Bytes, type: MetadataType, value: MetadataValue): void {
  if (isArrayType(type)) {
    out.number("u32", METADATA_TYPES.indexOf("array"));
    writeArray(out, elementType(type), value);
  } else {
    out.number("u32", METADATA_TYPES.indexOf(type));
    out.scalar(type, value);
  }
}

function writeArray(out: Bytes, type: ElementType, value: MetadataValue): void {
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) {
    throw new TypeError(`Cannot write ${value} as an array`);
  }
  const elements: readonly MetadataValue[] = Array.from<MetadataValue>(value);
  out.number("u32", METADATA_TYPES.indexOf(type));
  out.number("u64", elements.length);
  for (const element of elements) {
    if (type === "array") writeArray(out, typeOfElements(element), element);
    else out.scalar(type, element);
  }
}

type ScalarType = Exclude<ElementType, "array">;
type ElementType = typeof METADATA_TYPES[number];

function isArrayType(type: MetadataType): type is `${ElementType}[]` {
  return type.endsWith("[]");
}

function elementType(type: `${ElementType}[]`): ElementType {
  return type.slice(0, -2) as ElementType;
}

/** What an array inside another one is of: the reader gives each type its own kind of array. */
function typeOfElements(array: MetadataValue): ElementType {
  const typed = TYPED_ARRAYS.find(([kind]) => array instanceof kind);
  if (typed !== undefined) return typed[1];
  const [first] = array as MetadataValue[];
  if (typeof first === "object") return "array";
  return typeof first === "boolean" ? "bool" : "string";
}

const TYPED_ARRAYS: readonly (readonly [{ new (): object }, ElementType])[] = [
  [Uint8Array, "u8"],
  [Int8Array, "i8"],
  [Uint16Array, "u16"],
  [Int16Array, "i16"],
  [Uint32Array, "u32"],
  [Int32Array, "i32"],
  [Float32Array, "f32"],
  [BigUint64Array, "u64"],
  [BigInt64Array, "i64"],
  [Float64Array, "f64"],
];

/** Width in bytes, and how a number is put into a view. */
type NumberFormat = readonly [number, (view: DataView, at: number, value: number | bigint) => void];

const NUMBERS: Readonly<Record<Exclude<ScalarType, "string" | "bool">, NumberFormat>> = {
  u8: [1, (view, at, value) => view.setUint8(at, Number(value))],
  i8: [1, (view, at, value) => view.setInt8(at, Number(value))],
  u16: [2, (view, at, value) => view.setUint16(at, Number(value), true)],
  i16: [2, (view, at, value) => view.setInt16(at, Number(value), true)],
  u32: [4, (view, at, value) => view.setUint32(at, Number(value), true)],
  i32: [4, (view, at, value) => view.setInt32(at, Number(value), true)],
  f32: [4, (view, at, value) => view.setFloat32(at, Number(value), true)],
  u64: [8, (view, at, value) => view.setBigUint64(at, BigInt(value), true)],
  i64: [8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)],
  f64: [8, (view, at, value) => view.setFloat64(at, Number(value), true)],
};

/** Bytes that grow. */
class Bytes {
  #bytes = new Uint8Array(256);
  #length = 0;

  text(text: string): void {
    this.#append(new TextEncoder().encode(text));
  }

  /** With its length before it. */
  string(text: string): void {
    const bytes = encodeFileText(text);
    this.number("u64", bytes.length);
    this.#append(bytes);
  }

  number(type: keyof typeof NUMBERS, value: number | bigint): void {
    const [width, set] = NUMBERS[type];
    this.#grow(width);
    set(new DataView(this.#bytes.buffer), this.#length, value);
    this.#length += width;
  }

  scalar(type: ScalarType, value: MetadataValue): void {
    if (type === "string" && typeof value === "string") this.string(value);
    else if (type === "bool" && typeof value === "boolean") this.number("u8", value ? 1 : 0);
    else if (
      type !== "string" && type !== "bool" &&
      (typeof value === "number" || typeof value === "bigint")
    ) this.number(type, value);
    else throw new TypeError(`Cannot write ${value} as ${type}`);
  }

  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #append(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #grow(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + length));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

function alignmentOf({ metadata }: NewGguf): number {
  return Number(metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT);
}

function checkLength(tensor: NewTensor, length: number): void {
  const expected = tensorBytes(tensor);
  if (length === expected) return;
  throw new RangeError(
    `Cannot write tensor ${tensor.name}: ${length} bytes came where ${expected} are expected`,
  );
}

function padding(length: number, alignment: number): Uint8Array {
  return new Uint8Array(roundUp(length, alignment) - length);
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
