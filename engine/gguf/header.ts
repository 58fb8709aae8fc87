import { HeaderCursor } from "./cursor.ts";
import { GgufError, quoted } from "./error.ts";
import type { ByteSource } from "./source.ts";
import { type GgmlType, ggmlType, tensorBytes } from "./types.ts";

/** A value of the metadata. 64-bit integers are numbers where that is exact. */
export type MetadataValue =
  | number
  | bigint
  | boolean
  | string
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array
  | boolean[]
  | string[]
  | MetadataValue[];

/** `enum gguf_metadata_value_type` of docs/gguf.md in the ggml repository: names by number. */
export const METADATA_TYPES = [
  ...["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array"] as const,
  ...["u64", "i64", "f64"] as const,
] as const;

/**
 * The type that a file gives to a value of its metadata: `u32`, `string[]`. Arrays in arrays (`array[]`) show their own types
 * in their values.
 */
export type MetadataType = Exclude<MetadataTypeName, "array"> | `${MetadataTypeName}[]`;

type MetadataTypeName = typeof METADATA_TYPES[number];

/** One entry of the tensor directory. */
export interface TensorInfo {
  readonly name: string;
  readonly type: GgmlType;
  /** In ggml's order: [columns, rows, ...]. */
  readonly shape: readonly number[];
  /** Size in bytes. */
  readonly bytes: number;
  /** Of its first byte, from the start of its source. */
  readonly offset: number;
  /** Index of the source (the part of a split file) that holds it. */
  readonly source: number;
}

/** What the header of one file (one part of a split) says. */
export interface GgufHeader {
  readonly version: number;
  readonly littleEndian: boolean;
  readonly alignment: number;
  readonly metadata: Map<string, MetadataValue>;
  readonly metadataTypes: Map<string, MetadataType>;
  readonly tensors: TensorInfo[];
}

const MAGIC = 0x46554747; // "GGUF", little-endian
/** In bytes, where `general.alignment` does not say otherwise. */
export const DEFAULT_ALIGNMENT = 32;
/** GGML_MAX_DIMS. */
const MAX_DIMENSIONS = 4;
/** Deeper nesting than any writer makes; keeps a hostile file from exhausting the stack. */
const MAX_NESTING = 32;

const STRING = 8;
const ARRAY = 9;

/** A scalar metadata type: its width in bytes, how one is read, and an array of them. */
interface ScalarType {
  readonly width: number;
  readonly read: (cursor: HeaderCursor) => number | bigint | boolean;
  readonly array: (buffer: ArrayBuffer) => MetadataValue;
}

/** By number of {@linkcode METADATA_TYPES}. */
const SCALARS = new Map<number, ScalarType>([
  [0, { width: 1, read: (cursor) => cursor.uint8(), array: (b) => new Uint8Array(b) }],
  [1, { width: 1, read: (cursor) => cursor.int8(), array: (b) => new Int8Array(b) }],
  [2, { width: 2, read: (cursor) => cursor.uint16(), array: (b) => new Uint16Array(b) }],
  [3, { width: 2, read: (cursor) => cursor.int16(), array: (b) => new Int16Array(b) }],
  [4, { width: 4, read: (cursor) => cursor.uint32(), array: (b) => new Uint32Array(b) }],
  [5, { width: 4, read: (cursor) => cursor.int32(), array: (b) => new Int32Array(b) }],
  [6, { width: 4, read: (cursor) => cursor.float32(), array: (b) => new Float32Array(b) }],
  [7, { width: 1, read: (cursor) => cursor.uint8() !== 0, array: booleans }],
  [10, { width: 8, read: (cursor) => cursor.uint64(), array: (b) => new BigUint64Array(b) }],
  [11, { width: 8, read: (cursor) => cursor.int64(), array: (b) => new BigInt64Array(b) }],
  [12, { width: 8, read: (cursor) => cursor.float64(), array: (b) => new Float64Array(b) }],
]);

/**
 * Reads the header of one GGUF file: metadata and tensor directory. Format: docs/gguf.md in the
 * ggml repository. Every count is bounded by what is left of the file before anything is made.
 *
 * @param part index to give the tensors as their `source`
 * @throws {GgufError} for anything that is not a whole, consistent GGUF file
 */
export async function readHeader(source: ByteSource, part: number): Promise<GgufHeader> {
  const cursor = new HeaderCursor(source);
  const version = await readVersion(cursor);
  const wide = version > 1; // version 1 has counts and lengths of 32 bits

  const tensorCount = await readCount(cursor, wide);
  const metadataCount = await readCount(cursor, wide);
  // The smallest entries: a name's length, an empty name, and what follows it.
  checkCount(cursor, tensorCount, wide ? 24 : 20, "tensors");
  checkCount(cursor, metadataCount, wide ? 13 : 9, "metadata entries");

  const metadata = new Map<string, MetadataValue>();
  const metadataTypes = new Map<string, MetadataType>();
  for (let i = 0; i < metadataCount; i++) {
    const key = await readString(cursor, wide);
    if (key === "") throw cursor.error("a metadata key is empty; the file is damaged");
    if (metadata.has(key)) {
      throw cursor.error(`the metadata key ${quoted(key)} is there twice; the file is damaged`);
    }
    await cursor.need(4);
    const { type, value } = await readValue(cursor, wide, cursor.uint32(), key);
    metadata.set(key, value);
    metadataTypes.set(key, type);
  }

  const alignment = readAlignment(cursor, metadata);
  const tensors: TensorInfo[] = [];
  for (let i = 0; i < tensorCount; i++) tensors.push(await readTensorInfo(cursor, wide, part));
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  return {
    version,
    littleEndian: cursor.littleEndian,
    alignment,
    metadata,
    metadataTypes,
    tensors: placeTensors(source, tensors, dataStart, alignment),
  };
}

async function readVersion(cursor: HeaderCursor): Promise<number> {
  const { size } = cursor.source;
  if (size === 0) throw cursor.error("the file is empty; get it again");
  if (size < 4) throw cursor.error("this is not a GGUF file: it is too short");
  await cursor.need(4);
  if (cursor.uint32() !== MAGIC) {
    throw new GgufError('this is not a GGUF file: it does not begin with "GGUF"', {
      file: cursor.source.name,
      offset: 0,
    });
  }
  await cursor.need(4);
  const version = cursor.uint32();
  if (version >= 1 && version <= 3) return version;
  const swapped = swap32(version);
  if (swapped >= 1 && swapped <= 3) {
    cursor.littleEndian = false;
    return swapped;
  }
  throw new GgufError(`GGUF version ${version} is unknown; supported: 1, 2, 3`, {
    file: cursor.source.name,
    offset: 4,
  });
}

function swap32(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value, true);
  return view.getUint32(0, false);
}

async function readCount(cursor: HeaderCursor, wide: boolean): Promise<number> {
  const length = wide ? 8 : 4;
  if (!cursor.has(length)) await cursor.need(length);
  return wide ? cursor.count64() : cursor.uint32();
}

function checkCount(cursor: HeaderCursor, count: number, smallest: number, what: string): void {
  if (count > Math.max(0, cursor.remaining) / smallest) {
    throw cursor.error(
      `the header claims ${count} ${what}, more than ${cursor.remaining} bytes can hold;` +
        " the file is truncated or damaged",
    );
  }
}

async function readString(cursor: HeaderCursor, wide: boolean): Promise<string> {
  return (await readStrings(cursor, wide, 1))[0];
}

async function readStrings(cursor: HeaderCursor, wide: boolean, count: number): Promise<string[]> {
  const lengthBytes = wide ? 8 : 4;
  const strings: string[] = [];
  for (let i = 0; i < count; i++) {
    // Awaiting only at the window's edge is what makes a vocabulary of 128,000 strings fast.
    if (!cursor.has(lengthBytes)) await cursor.need(lengthBytes);
    const length = wide ? cursor.count64() : cursor.uint32();
    if (length > cursor.remaining) {
      throw cursor.error(
        `a string claims ${length} bytes where ${cursor.remaining} are left;` +
          " the file is truncated or damaged",
      );
    }
    if (!cursor.has(length)) await cursor.need(length);
    strings.push(cursor.text(length));
  }
  return strings;
}

interface TypedValue {
  readonly type: MetadataType;
  readonly value: MetadataValue;
}

async function readValue(
  cursor: HeaderCursor,
  wide: boolean,
  type: number,
  key: string,
): Promise<TypedValue> {
  if (type === STRING) return { type: "string", value: await readString(cursor, wide) };
  if (type === ARRAY) return await readArray(cursor, wide, key, 0);
  const scalar = SCALARS.get(type);
  if (scalar === undefined) throw unknownValueType(cursor, type, key);
  await cursor.need(scalar.width);
  return { type: METADATA_TYPES[type] as MetadataType, value: scalar.read(cursor) };
}

async function readArray(
  cursor: HeaderCursor,
  wide: boolean,
  key: string,
  depth: number,
): Promise<TypedValue> {
  if (depth === MAX_NESTING) {
    throw cursor.error(
      `arrays in ${quoted(key)} are nested more than ${MAX_NESTING} deep; the file is damaged`,
    );
  }
  await cursor.need(4);
  const type = cursor.uint32();
  const count = await readCount(cursor, wide);

  const scalar = SCALARS.get(type);
  if (scalar !== undefined) {
    checkCount(cursor, count, scalar.width, `elements in ${quoted(key)}`);
    await cursor.need(count * scalar.width);
    const bytes = cursor.copy(count * scalar.width);
    if (!cursor.littleEndian) swapElements(bytes, scalar.width);
    return { type: `${METADATA_TYPES[type]}[]`, value: scalar.array(bytes.buffer) };
  }

  const lengthBytes = wide ? 8 : 4;
  if (type === STRING) {
    checkCount(cursor, count, lengthBytes, `strings in ${quoted(key)}`);
    return { type: "string[]", value: await readStrings(cursor, wide, count) };
  }
  if (type === ARRAY) {
    checkCount(cursor, count, 4 + lengthBytes, `arrays in ${quoted(key)}`);
    const arrays: MetadataValue[] = [];
    for (let i = 0; i < count; i++) {
      arrays.push((await readArray(cursor, wide, key, depth + 1)).value);
    }
    return { type: "array[]", value: arrays };
  }
  throw unknownValueType(cursor, type, key);
}

function unknownValueType(cursor: HeaderCursor, type: number, key: string): GgufError {
  return cursor.error(
    `${quoted(key)} has the unknown metadata type ${type}; the file is damaged or newer than this`,
  );
}

function booleans(buffer: ArrayBuffer): boolean[] {
  return Array.from(new Uint8Array(buffer), (byte) => byte !== 0);
}

function readAlignment(cursor: HeaderCursor, metadata: Map<string, MetadataValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  // The format asks for a multiple of 8, ggml for a power of two: either is taken.
  const valid = typeof alignment === "number" && Number.isInteger(alignment) && alignment > 0 &&
    alignment < 2 ** 32 && (alignment % 8 === 0 || Number.isInteger(Math.log2(alignment)));
  if (!valid) {
    throw cursor.error(
      `general.alignment is ${alignment}; it must be a power of two or a multiple of 8;` +
        " convert the model again",
    );
  }
  return alignment;
}

/** A directory entry whose `offset` still counts from the start of the data. */
async function readTensorInfo(
  cursor: HeaderCursor,
  wide: boolean,
  part: number,
): Promise<TensorInfo> {
  const name = await readString(cursor, wide);
  await cursor.need(4);
  const dimensions = cursor.uint32();
  if (dimensions > MAX_DIMENSIONS) {
    throw cursor.error(
      `tensor ${quoted(name)} has ${dimensions} dimensions where ${MAX_DIMENSIONS} are the most;` +
        " the file is damaged",
      name,
    );
  }
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) shape.push(await readCount(cursor, wide));
  await cursor.need(12);
  const typeId = cursor.uint32();
  const offset = cursor.count64();

  const type = ggmlType(typeId);
  if (type === undefined) {
    throw cursor.error(
      `tensor ${
        quoted(name)
      } has the unknown ggml type ${typeId}; the file is damaged or newer than this`,
      name,
    );
  }
  const columns = shape[0] ?? 1;
  if (columns % type.blockSize !== 0) {
    throw cursor.error(
      `tensor ${quoted(name)} has ${columns} columns, which ${type.name} cannot store:` +
        ` it needs a multiple of ${type.blockSize}; quantize the model again`,
      name,
    );
  }
  const bytes = tensorBytes({ type, shape });
  if (!shape.every(Number.isSafeInteger) || !Number.isSafeInteger(bytes)) {
    throw cursor.error(
      `tensor ${quoted(name)} of ${shape.join(" x ")} is impossibly large; the file is damaged`,
      name,
    );
  }
  return { name, type, shape, bytes, offset, source: part };
}

/** Turns relative offsets into absolute ones, after all checks that need the file's size. */
function placeTensors(
  source: ByteSource,
  tensors: TensorInfo[],
  dataStart: number,
  alignment: number,
): TensorInfo[] {
  const placed = tensors.map((tensor) => ({ ...tensor, offset: dataStart + tensor.offset }));
  function error(tensor: TensorInfo, problem: string): GgufError {
    return new GgufError(problem, {
      file: source.name,
      tensor: tensor.name,
      offset: tensor.offset,
    });
  }

  const names = new Set<string>();
  for (const tensor of placed) {
    const name = quoted(tensor.name);
    const relative = tensor.offset - dataStart;
    if (names.has(tensor.name)) {
      throw error(tensor, `the tensor ${name} is there twice; convert the model again`);
    }
    names.add(tensor.name);
    if (relative % alignment !== 0) {
      throw error(
        tensor,
        `tensor ${name} lies at ${relative} in the data, not on a multiple of ${alignment};` +
          " convert the model again",
      );
    }
    const end = tensor.offset + tensor.bytes;
    if (end > source.size) {
      throw error(
        tensor,
        `tensor ${name} ends at byte ${end} but the file has ${source.size};` +
          " it is truncated or damaged, get it again",
      );
    }
  }

  let previous: TensorInfo | undefined;
  const inFileOrder = placed.filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset);
  for (const tensor of inFileOrder) {
    if (previous !== undefined && previous.offset + previous.bytes > tensor.offset) {
      throw error(
        tensor,
        `tensors ${quoted(previous.name)} and ${quoted(tensor.name)} overlap; the file is damaged`,
      );
    }
    previous = tensor;
  }
  return placed;
}

function swapElements(bytes: Uint8Array, width: number): void {
  for (let start = 0; start < bytes.length; start += width) {
    bytes.subarray(start, start + width).reverse();
  }
}
