/** A model's file with some of its metadata and tensors replaced: what a suspected fault undone would look like. Nothing is written. */
import { tensorBytes } from "../../engine/gguf/types.ts";
import type {
  GgufFile,
  MetadataType,
  MetadataValue,
  TensorInfo,
} from "../../engine/gguf/reader.ts";
import type { GgmlType } from "../../engine/gguf/types.ts";

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
    const bytes = tensorBytes(data);
    newTensors.set(name, { name, type, shape, bytes, offset: 0, source: NO_SOURCE });
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

/** How a value is stored where the file has none of that name. */
function typeOf(value: MetadataValue): MetadataType {
  return typeof value === "boolean" ? "bool" : typeof value === "string" ? "string" : "f32";
}
