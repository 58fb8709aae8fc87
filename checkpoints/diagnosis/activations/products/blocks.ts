/** Suspected misreadings of the blocks of a quantized weight. */
import { dot } from "../../../../inspect/analyses/numbers.ts";
import { type Misreading, misreadingsOf } from "../../block_layouts.ts";
import { type Operation, type Variant, withWeight } from "../operation.ts";
import { squaredDistance } from "../root_mean.ts";

/** Outputs that every misreading is tried on: a full product for each would take long. */
const SAMPLE = 16;
/** What a misreading must leave of the sample's difference, to be tried on all. */
const LEFT = 0.5;

/** x [T, columns] → [T, rows]: the product with what another reading of the weight's blocks gives. */
export async function misreadProducts(operation: Operation): Promise<Variant[]> {
  const { inputs: [x], weights: [{ name, rows, columns }], reader: { file }, target } = operation;
  const tensor = file.tensors.get(name);
  if (!tensor || !target) return [];
  const misreadings = misreadingsOf(tensor.type.name);
  if (misreadings.length === 0) return [];
  const bytes = await file.readTensor(tensor);
  const rowBytes = bytes.length / rows;
  const count = Math.min(SAMPLE, rows);
  const first = (rows - count) >> 1;
  // With the rows around them, whose blocks are neighbours.
  const before = Math.min(1, first);
  const after = Math.min(1, rows - first - count);
  const sample = bytes.subarray((first - before) * rowBytes, (first + count + after) * rowBytes);
  const left = (numbers: Float32Array) => {
    let squares = 0;
    for (let t = 0; t < x.length / columns; t++) {
      for (let row = 0; row < count; row++) {
        const weights = numbers.subarray(row * columns, (row + 1) * columns);
        squares += (dot(x, weights, t * columns) - target[t * rows + first + row]) ** 2;
      }
    }
    return squares;
  };
  const { data } = operation.weights[0];
  const usual = left(data.subarray(first * columns, (first + count) * columns));
  return misreadings
    .filter(({ read }) => left(read(sample).subarray(before * columns)) < LEFT ** 2 * usual)
    .map((misreading) =>
      variant(name, misreading, () => withWeight(operation, misreading.read(bytes)))
    );
}

/** ids [T] → [T, D]: the rows as another reading of their blocks gives them. */
export async function misreadRows(operation: Operation): Promise<Variant[]> {
  const { inputs: [ids], weights: [{ name, rows, columns }], reader: { file } } = operation;
  const { output, target } = operation;
  const tensor = file.tensors.get(name);
  if (!tensor || !target) return [];
  const rowBytes = tensor.bytes / rows;
  const stored = new Map<number, { readonly first: number; readonly bytes: Uint8Array }>();
  for (const id of new Set(ids)) {
    // With the rows around it, whose blocks are neighbours.
    const first = Math.max(0, id - 1);
    const count = Math.min(rows, id + 2) - first;
    const bytes = await file.readTensor(tensor, first * rowBytes, count * rowBytes);
    stored.set(id, { first, bytes });
  }
  const usual = squaredDistance(output, target);
  return misreadingsOf(tensor.type.name).flatMap((misreading) => {
    const read = new Map(
      [...stored].map(([id, { first, bytes }]) => {
        const at = (id - first) * columns;
        return [id, misreading.read(bytes).subarray(at, at + columns)];
      }),
    );
    const misread = output.slice();
    ids.forEach((id, t) => misread.set(read.get(id)!, t * columns));
    if (!(squaredDistance(misread, target) < LEFT ** 2 * usual)) return [];
    return [variant(name, misreading, () => misread)];
  });
}

function variant(where: string, { what }: Misreading, make: () => Float32Array): Variant {
  return { cause: "block-layout", what: `blocks are read there so: ${what}`, where, make };
}
