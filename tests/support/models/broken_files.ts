/** Copies of GGUF files with one thing wrong, as bad converters, quantizers and downloads make them. */
import {
  type Alteration,
  alteredFile,
  type NewTensorData,
} from "../../../checkpoints/files/altered_file.ts";
import {
  type GgufFile,
  type MetadataType,
  type MetadataValue,
  openGgufFile,
  type TensorInfo,
} from "../../../engine/gguf/reader.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import { writeGguf } from "../../../engine/gguf/writer.ts";

/** What is wrong with a copy. */
export type FileFault = (file: GgufFile) => Promise<Alteration> | Alteration;

/** Writes a copy of a GGUF file with a fault. */
export async function breakFile(from: string, to: string, fault: FileFault): Promise<void> {
  const file = await openGgufFile(from);
  try {
    const altered = alteredFile(file, await fault(file));
    await writeGguf(to, {
      metadata: altered.metadata,
      metadataTypes: new Map(
        [...altered.metadata].map(([key, value]) => [
          key,
          file.metadataTypes.get(key) ?? typeOf(value),
        ]),
      ),
      tensors: [...altered.tensors.values()].map((tensor) => ({
        ...tensor,
        bytes: async function* () {
          yield await altered.readTensor(tensor);
        },
      })),
    });
  } finally {
    file.close();
  }
}

function typeOf(value: MetadataValue): MetadataType {
  return typeof value === "boolean" ? "bool" : typeof value === "string" ? "string" : "f32";
}

/** Another value of a key; `undefined` takes it away. */
export function metadata(key: string, value: MetadataValue | undefined): FileFault {
  return () => ({ metadata: new Map([[key, value]]) });
}

/** A list of the metadata with other entries. */
export function listChanged<T extends string | number>(
  key: string,
  change: (list: readonly T[]) => T[],
): FileFault {
  return ({ metadata }) => {
    const list = metadata.get(key) as Iterable<T> & { readonly constructor: unknown };
    const entries = change([...list]);
    // As numbers are stored, so they are written.
    const value = Array.isArray(list)
      ? entries
      : new (list.constructor as { new (entries: readonly T[]): MetadataValue })(entries);
    return { metadata: new Map([[key, value as MetadataValue]]) };
  };
}

/** A tensor that is not there. */
export function without(...names: string[]): FileFault {
  return () => ({ tensors: new Map(names.map((name) => [name, undefined])) });
}

/** The tensors of some names exchanged: each one's numbers stand under the next one's name. */
export function exchanged(first: string, second: string): FileFault {
  return (file) => ({
    tensors: new Map([[first, whole(file, second)], [second, whole(file, first)]]),
  });
}

/** A tensor that holds another one's numbers. */
export function copied(from: string, to: string): FileFault {
  return (file) => ({ tensors: new Map([[to, whole(file, from)]]) });
}

/** Several faults at once. */
export function all(...faults: FileFault[]): FileFault {
  return async (file) => {
    const found = await Promise.all(faults.map((fault) => fault(file)));
    return {
      metadata: new Map(found.flatMap(({ metadata = [] }) => [...metadata])),
      tensors: new Map(found.flatMap(({ tensors = [] }) => [...tensors])),
    };
  };
}

/** Rows in another order: at place r stands row `order[r]`; blocks stay as they are. Vectors count as columns of rows. */
export function reordered(
  name: string,
  order: (row: number, rows: number) => number,
): FileFault {
  return (file) =>
    changed(file, name, (bytes, { shape }) => {
      const rows = shape.at(-1)!;
      const out = bytes.slice();
      const rowBytes = bytes.length / rows;
      for (let to = 0; to < rows; to++) {
        const from = order(to, rows) * rowBytes;
        out.set(bytes.subarray(from, from + rowBytes), to * rowBytes);
      }
      return out;
    });
}

/** Rows of heads in halves where the file has adjacent pairs: the converter's permutation left out. */
export function inHalves(
  name: string,
  headWidth: number,
  ropeWidth: number = headWidth,
): FileFault {
  return reordered(name, (row) => {
    const i = row % headWidth;
    const half = ropeWidth / 2;
    return i >= ropeWidth ? row : row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
  });
}

/** The numbers changed, and written as F32 where blocks cannot hold them. */
export function mapped(
  name: string,
  change: (numbers: Float32Array, shape: readonly number[]) => Float32Array,
): FileFault {
  return async (file) => {
    const tensor = file.tensors.get(name)!;
    const { shape, type } = tensor;
    const numbers = Float32Array.from(
      change(dequantize(type, await file.readTensor(tensor)), shape),
    );
    const isHalf = type.name === "F16";
    const bytes = new Uint8Array((isHalf ? Float16Array.from(numbers) : numbers).buffer);
    const kept = GGML_TYPES.find((each) => each.name === (isHalf ? "F16" : "F32"))!;
    return {
      tensors: new Map([[name, { type: kept, shape, bytes: () => Promise.resolve(bytes) }]]),
    };
  };
}

/** The same matrix, its numbers column by column. */
export function transposed(name: string): FileFault {
  return mapped(
    name,
    (numbers, [columns, rows]) =>
      numbers.map((_, i) => numbers[(i % rows) * columns + Math.floor(i / rows)]),
  );
}

/**
 * One block of a tensor overwritten.
 *
 * @param block which one, of those of its type
 * @param change gets the block's bytes and changes them
 */
export function blockChanged(
  name: string,
  block: number,
  change: (bytes: Uint8Array) => void,
): FileFault {
  return (file) =>
    changed(file, name, (bytes, { type }) => {
      const out = bytes.slice();
      // Types of single numbers are damaged in runs too.
      const length = type.blockBytes * (type.blockSize === 1 ? RUN : 1);
      change(out.subarray(block * length, (block + 1) * length));
      return out;
    });
}

/** The bytes of a tensor changed in place. */
export function bytesChanged(
  name: string,
  change: (bytes: Uint8Array<ArrayBuffer>) => void,
): FileFault {
  return (file) =>
    changed(file, name, (bytes) => {
      const out = bytes.slice();
      change(out);
      return out;
    });
}

/** The same bytes, said to be of another type of that size. */
export function retyped(name: string, type: string): FileFault {
  return (file) => ({
    tensors: new Map([[name, {
      ...whole(file, name),
      type: GGML_TYPES.find((each) => each.name === type)!,
    }]]),
  });
}

/** Numbers that are damaged together in types without blocks. */
const RUN = 32;

function whole(file: GgufFile, name: string): NewTensorData {
  const tensor = file.tensors.get(name)!;
  return { type: tensor.type, shape: tensor.shape, bytes: () => file.readTensor(tensor) };
}

function changed(
  file: GgufFile,
  name: string,
  change: (bytes: Uint8Array<ArrayBuffer>, tensor: TensorInfo) => Uint8Array<ArrayBuffer>,
): Alteration {
  const tensor = file.tensors.get(name)!;
  const { type, shape } = tensor;
  const bytes = async () => change(await file.readTensor(tensor), tensor);
  return { tensors: new Map([[name, { type, shape, bytes }]]) };
}
