/** A model's file with some of its metadata and tensors replaced: what a suspected fault undone would look like. Nothing is written. */
import { tensorBytes } from "../../engine/gguf/types.ts";
import type {
  GgufFile,
  MetadataType,
  MetadataValue,
  TensorInfo,
} from "../../engine/gguf/reader.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgmlType } from "../../engine/gguf/types.ts";
import { F32 } from "./f32_copy.ts";

/** A tensor in place of another. */
export interface NewTensorData {
  readonly type: GgmlType;
  /** In ggml's order: [columns, rows]. */
  readonly shape: readonly number[];
  readonly bytes: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** What is replaced; `undefined` takes something away. */
export interface Alteration {
  readonly metadata?: ReadonlyMap<string, MetadataValue | undefined>;
  readonly tensors?: ReadonlyMap<string, NewTensorData | undefined>;
}

/** One alteration after another: what the later one replaces is its own. */
export function joined(first: Alteration, second: Alteration): Alteration {
  return {
    metadata: new Map([...first.metadata ?? [], ...second.metadata ?? []]),
    tensors: new Map([...first.tensors ?? [], ...second.tensors ?? []]),
  };
}

/** The source of tensors that no file holds. */
const NO_SOURCE = -1;

/** The file as it would be. The original stays open and is closed by its owner. */
export function alteredFile(file: GgufFile, { metadata, tensors }: Alteration): GgufFile {
  const newMetadata = new Map(file.metadata);
  const metadataTypes = new Map(file.metadataTypes);
  for (const [key, value] of metadata ?? []) {
    if (value === undefined) newMetadata.delete(key);
    else newMetadata.set(key, value);
    if (value !== undefined && !metadataTypes.has(key)) metadataTypes.set(key, typeOf(value));
  }
  const newTensors = new Map(file.tensors);
  // The numbers of the tensor that is being read; it is read in pieces, one tensor after the other.
  let current: { info: TensorInfo; bytes: Promise<Uint8Array<ArrayBuffer>> } | undefined;
  for (const [name, data] of tensors ?? []) {
    if (data === undefined) {
      newTensors.delete(name);
      continue;
    }
    const { type, shape } = data;
    const place = { bytes: tensorBytes(data), offset: 0, source: NO_SOURCE };
    newTensors.set(name, { name, type, shape, ...place });
  }
  return {
    ...file,
    metadata: newMetadata,
    metadataTypes,
    tensors: newTensors,
    async readTensor(tensor, offset = 0, length = tensor.bytes - offset) {
      const own = tensors?.get(tensor.name);
      if (tensor.source !== NO_SOURCE || !own) return await file.readTensor(tensor, offset, length);
      if (current?.info !== tensor) current = { info: tensor, bytes: own.bytes() };
      return (await current.bytes).subarray(offset, offset + length);
    },
    close() {},
  };
}

/** A tensor of a file, as it is or with its bytes changed. */
export function wholeTensor(
  file: GgufFile,
  tensor: TensorInfo,
  change?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>,
): NewTensorData {
  const { type, shape } = tensor;
  const bytes = async () => {
    const stored = await file.readTensor(tensor);
    return change ? change(stored) : stored;
  };
  return { type, shape, bytes };
}

/** A tensor of a file as the numbers that are made of its bytes, as F32. */
export function readAs(
  file: GgufFile,
  tensor: TensorInfo,
  read: (bytes: Uint8Array) => Float32Array,
): NewTensorData {
  const bytes = (stored: Uint8Array) => new Uint8Array(new Float32Array(read(stored)).buffer);
  return { ...wholeTensor(file, tensor, bytes), type: F32 };
}

/** A tensor of a file with its numbers changed, as F32. */
export function asF32(
  file: GgufFile,
  tensor: TensorInfo,
  change: (data: Float32Array) => Float32Array,
): NewTensorData {
  return readAs(file, tensor, (bytes) => change(dequantize(tensor.type, bytes)));
}

/** How a value is stored where the file has none of that name. */
function typeOf(value: MetadataValue): MetadataType {
  return typeof value === "boolean" ? "bool" : typeof value === "string" ? "string" : "f32";
}
