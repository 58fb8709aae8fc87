/** Rows of a weight out of a file, as numbers and as the bytes that they were made of. */
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { sizeOf } from "../../../base/shape.ts";
import type { GgufFile, TensorInfo } from "../../../engine/gguf/reader.ts";
import type { OperationEvidence, WeightRows } from "./evidence.ts";

/**
 * Reads rows of a weight; all of them where none are named.
 *
 * @param kept ascending; those that the weight does not have are left out
 * @returns undefined where the file has no such weight
 */
export async function readRows(
  file: GgufFile,
  name: string,
  kept?: readonly number[],
): Promise<WeightRows | undefined> {
  const tensor = file.tensors.get(name);
  if (!tensor) return undefined;
  const { type } = tensor;
  const { rows, columns } = matrixOf(tensor);
  const width = tensor.bytes / rows;
  const there = kept?.filter((row) => row < rows);
  const blocks = there
    ? await joined(there.map((row) => file.readTensor(tensor, row * width, width)), width)
    : await file.readTensor(tensor);
  const data = dequantize(type, blocks);
  const more = type.name === "F32" ? {} : { blocks };
  return { name, type: type.name, rows, columns, kept: there, data, ...more };
}

/** Bytes that a weight takes in memory and in a bundle, of some rows or of all. */
export function rowBytes(file: GgufFile, name: string): { rows: number; perRow: number } {
  const tensor = file.tensors.get(name);
  if (!tensor) return { rows: 0, perRow: 0 };
  const { type } = tensor;
  const { rows, columns } = matrixOf(tensor);
  return { rows, perRow: 4 * columns + (type.name === "F32" ? 0 : tensor.bytes / rows) };
}

/**
 * Evidence with all rows of our weights, out of the model's file.
 *
 * @throws {RangeError} for a file whose weights are others than those that were kept
 */
export async function withWeightsOf(
  evidence: OperationEvidence,
  file: GgufFile,
): Promise<OperationEvidence> {
  const operations = [];
  for (const operation of evidence.operations) {
    const weights = [];
    for (const weight of operation.weights) {
      const { name, type, rows, columns, kept, data } = weight;
      const same = await readRows(file, name, kept);
      const isSame = same?.type === type && same.rows === rows && same.columns === columns &&
        data.every((value, i) => Object.is(value, same.data[i]));
      if (!isSame) throw new RangeError(`${file.name}: its ${name} is not the bundle's`);
      weights.push(kept ? (await readRows(file, name))! : weight);
    }
    operations.push({ ...operation, weights });
  }
  return { ...evidence, operations };
}

/** Vectors that files may have as rows, one for each head or expert: norms, biases, sinks. */
const VECTOR = /(norm\.weight|sinks\.weight|\.bias)$/;

/** A weight as a matrix: experts lie one below the other, and a vector is one row however it is written. */
export function matrixOf(
  { name, shape }: Pick<TensorInfo, "name" | "shape">,
): { rows: number; columns: number } {
  const [columns, ...others] = VECTOR.test(name) ? [sizeOf(shape)] : shape;
  return { rows: sizeOf(others), columns };
}

async function joined(pieces: readonly Promise<Uint8Array>[], width: number): Promise<Uint8Array> {
  const all = new Uint8Array(pieces.length * width);
  for (const [i, piece] of pieces.entries()) all.set(await piece, i * width);
  return all;
}
