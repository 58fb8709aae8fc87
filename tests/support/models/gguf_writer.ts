import { GGML_TYPES } from "../../../engine/gguf/types.ts";

/** `enum gguf_metadata_value_type`, under short names. */
const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export type ScalarName = Exclude<keyof typeof VALUE_TYPES, "array">;
export type Scalar = number | bigint | boolean | string;

/** A value with its type; arrays name the type of their elements and may hold arrays again. */
export type TypedValue =
  | { readonly type: ScalarName; readonly value: Scalar }
  | { readonly type: "array"; readonly of: ScalarName; readonly value: readonly Scalar[] }
  | { readonly type: "array"; readonly of: "array"; readonly value: readonly TypedValue[] };

/** Plain values take the usual type: integers u32, other numbers f32, typed arrays their own. */
export type WriterValue =
  | TypedValue
  | Scalar
  | readonly string[]
  | readonly boolean[]
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

export interface WriterTensor {
  readonly name: string;
  /** A ggml type's name, or a number where the file shall have an unknown one. */
  readonly type: string | number;
  /** In ggml's order: [columns, rows, ...]. */
  readonly shape: readonly (number | bigint)[];
  /** Little-endian blocks; swapped when the file is big-endian. */
  readonly data: Uint8Array;
  /** In the data section; written into the directory in place of the true one. */
  readonly offset?: number | bigint;
}

export interface WriterOptions {
  readonly version?: 1 | 2 | 3 | number;
  readonly littleEndian?: boolean;
  /** Also written as `general.alignment` unless it is 32. */
  readonly alignment?: number;
  readonly metadata?: Readonly<Record<string, WriterValue>>;
  readonly tensors?: readonly WriterTensor[];
  /** Counts to claim instead of the true ones. */
  readonly tensorCount?: number | bigint;
  readonly metadataCount?: number | bigint;
  /** Entries after those of `metadata`, for keys that are there twice. */
  readonly moreMetadata?: readonly (readonly [string, WriterValue])[];
}

/**
 * A GGUF file in memory, for tests: correct unless told otherwise. Written from docs/gguf.md of the
 * ggml repository, apart from the reader, so that one does not confirm the other's mistakes.
 */
export function writeGguf(options: WriterOptions = {}): Uint8Array<ArrayBuffer> {
  const { version = 3, littleEndian = true, alignment = 32, tensors = [] } = options;
  const metadata: (readonly [string, WriterValue])[] = [
    ...Object.entries(options.metadata ?? {}),
    ...(options.moreMetadata ?? []),
  ];
  if (alignment !== 32) metadata.unshift(["general.alignment", alignment]);
  const out = new Output(littleEndian, version === 1);

  out.bytes(new TextEncoder().encode("GGUF"));
  out.number("u32", version);
  out.count(options.tensorCount ?? tensors.length);
  out.count(options.metadataCount ?? metadata.length);
  for (const [key, value] of metadata) {
    out.string(key);
    out.typed(withType(value));
  }
  let offset = 0;
  for (const { name, type, shape, data, offset: claimed } of tensors) {
    out.string(name);
    out.number("u32", shape.length);
    for (const size of shape) out.count(size);
    out.number("u32", typeof type === "number" ? type : typeNamed(type).id);
    out.number("u64", claimed ?? offset);
    offset = roundUp(offset + data.length, alignment);
  }
  for (const { type, data } of tensors) {
    out.pad(alignment);
    out.bytes(littleEndian ? data : bigEndian(type, data));
  }
  return out.finish();
}

/** Splits files as llama.cpp does: part 0 has the metadata, each part its share of the tensors. */
export function writeSplitGguf(
  options: WriterOptions,
  shares: readonly (readonly WriterTensor[])[],
): Uint8Array<ArrayBuffer>[] {
  const total = shares.reduce((sum, share) => sum + share.length, 0);
  return shares.map((tensors, part) =>
    writeGguf({
      ...options,
      metadata: {
        ...(part === 0 ? options.metadata : {}),
        "split.no": { type: "u16", value: part },
        "split.count": { type: "u16", value: shares.length },
        "split.tensors.count": { type: "i32", value: total },
      },
      tensors,
    })
  );
}

const ARRAY_TYPES: readonly [{ new (): object }, ScalarName][] = [
  [Uint8Array, "u8"],
  [Int8Array, "i8"],
  [Uint16Array, "u16"],
  [Int16Array, "i16"],
  [Uint32Array, "u32"],
  [Int32Array, "i32"],
  [Float32Array, "f32"],
  [Float64Array, "f64"],
  [BigUint64Array, "u64"],
  [BigInt64Array, "i64"],
];

function withType(value: WriterValue): TypedValue {
  if (typeof value === "string") return { type: "string", value };
  if (typeof value === "boolean") return { type: "bool", value };
  if (typeof value === "bigint") return { type: value < 0n ? "i64" : "u64", value };
  if (typeof value === "number") {
    const integer = Number.isInteger(value) && value >= 0 && value < 2 ** 32;
    return { type: integer ? "u32" : "f32", value };
  }
  if (ArrayBuffer.isView(value)) {
    const [, of] = ARRAY_TYPES.find(([kind]) => value instanceof kind)!;
    return { type: "array", of, value: [...value] };
  }
  if ("type" in value) return value;
  return { type: "array", of: typeof value[0] === "boolean" ? "bool" : "string", value };
}

class Output {
  readonly #littleEndian: boolean;
  readonly #narrow: boolean;
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  constructor(littleEndian: boolean, narrow: boolean) {
    this.#littleEndian = littleEndian;
    this.#narrow = narrow;
  }

  bytes(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  number(type: Exclude<ScalarName, "string" | "bool">, value: number | bigint): void {
    this.#grow(8);
    const view = new DataView(this.#bytes.buffer);
    const [at, little] = [this.#length, this.#littleEndian];
    const [number, integer] = [Number(value), () => BigInt(value)];
    if (type === "u8" || type === "i8") view.setUint8(at, number);
    if (type === "u16" || type === "i16") view.setUint16(at, number, little);
    if (type === "u32" || type === "i32") view.setUint32(at, number, little);
    if (type === "u64" || type === "i64") view.setBigInt64(at, integer(), little);
    if (type === "f32") view.setFloat32(at, number, little);
    if (type === "f64") view.setFloat64(at, number, little);
    this.#length += type.endsWith("8") ? 1 : Number(type.slice(1)) / 8;
  }

  /** A count or length: 32 bits in version 1, 64 after it. */
  count(value: number | bigint): void {
    this.number(this.#narrow ? "u32" : "u64", value);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.count(bytes.length);
    this.bytes(bytes);
  }

  typed(value: TypedValue): void {
    this.number("u32", VALUE_TYPES[value.type]);
    this.#content(value);
  }

  pad(alignment: number): void {
    this.bytes(new Uint8Array(roundUp(this.#length, alignment) - this.#length));
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #content(value: TypedValue): void {
    if (value.type !== "array") return this.#scalar(value.type, value.value);
    this.number("u32", VALUE_TYPES[value.of]);
    this.count(value.value.length);
    if (value.of === "array") { for (const each of value.value) this.#content(each); }
    else for (const each of value.value) this.#scalar(value.of, each);
  }

  #scalar(type: ScalarName, value: Scalar): void {
    if (type === "string") this.string(value as string);
    else if (type === "bool") this.number("u8", value ? 1 : 0);
    else this.number(type, value as number | bigint);
  }

  #grow(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + length));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

/** The f16 fields (and Q5's 32 high bits) of a block: [offset, width], from ggml-common.h. */
const WIDE_FIELDS: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  F32: [[0, 4]],
  F16: [[0, 2]],
  BF16: [[0, 2]],
  Q8_0: [[0, 2]],
  Q4_0: [[0, 2]],
  Q4_1: [[0, 2], [2, 2]],
  Q5_0: [[0, 2], [2, 4]],
  Q5_1: [[0, 2], [2, 2], [4, 4]],
  Q2_K: [[80, 2], [82, 2]],
  Q3_K: [[108, 2]],
  Q4_K: [[0, 2], [2, 2]],
  Q5_K: [[0, 2], [2, 2]],
  Q6_K: [[208, 2]],
};

function bigEndian(type: string | number, data: Uint8Array): Uint8Array {
  if (typeof type === "number" || !(type in WIDE_FIELDS)) {
    throw new TypeError(`Cannot write ${type} in big-endian order`);
  }
  const swapped = data.slice();
  for (let block = 0; block < data.length; block += typeNamed(type).blockBytes) {
    for (const [offset, width] of WIDE_FIELDS[type]) {
      swapped.subarray(block + offset, block + offset + width).reverse();
    }
  }
  return swapped;
}

function typeNamed(name: string): { id: number; blockBytes: number } {
  const type = GGML_TYPES.find((each) => each.name === name);
  if (type === undefined) throw new TypeError(`ggml has no type ${name}`);
  return type;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
