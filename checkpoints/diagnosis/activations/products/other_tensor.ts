/** Suspected weights of other places of the file: another layer's, another kind's, another norm's. */
import { kindOf, layerOf } from "../../../../base/layer_names.ts";
import { sizeOf } from "../../../../base/shape.ts";
import { dequantize } from "../../../../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../../../../engine/gguf/reader.ts";
import { dot } from "../../../../inspect/analyses/numbers.ts";
import { CAUSES } from "../../causes.ts";
import type { Weight } from "../../../parity/steps_behind.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

/** Rows of a product that a tensor is tried on, and positions; fewer tell too little. */
const [MOST_ROWS, MOST_POSITIONS, LEAST_NUMBERS] = [6, 8, 4];
/** How far off they may be: the largest of a row's errors, as a share of its root mean square. */
const NEAR = 0.05;
/** Bytes of rows that are read of the file, at most. */
const MOST_BYTES = 2 ** 26;

/**
 * Products with another tensor of the file. Where the target is known, those whose rows make what stands in the rows that are wrong;
 * else the few that are exchanged most easily.
 */
export async function otherTensorVariants(operation: Operation): Promise<Variant[]> {
  const { weights: [weight], reader, target } = operation;
  const candidates = sameShape(reader.file, weight.name);
  const found = target
    ? await fitting(operation, target, candidates)
    : candidates.slice(0, 4).map(({ name }) => name);
  const variants = await Promise.all(found.map(async (name) => {
    const other = await reader.read(name);
    return other ? wholeAndPart(operation, other, target) : [];
  }));
  return variants.flat();
}

/** The other tensor in place of the weight, or of those of its rows that are wrong. */
function wholeAndPart(
  operation: Operation,
  other: Weight,
  target: Float32Array | undefined,
): Variant[] {
  const { output, weights: [weight] } = operation;
  const variant = (what: string, make: Variant["make"]): Variant => ({
    cause: "other-tensor",
    what,
    where: weight.name,
    make,
  });
  const product = () => rerun(operation, { weights: [other] });
  const whole = variant(`it holds the numbers of ${other.name}`, product);
  if (!target) return [{ ...whole, late: true }];
  const { rows } = weight;
  const wrong = wrongRows(output, target, rows);
  const [first, last] = [wrong[0], wrong.at(-1)!];
  if (wrong.length === rows || rows === 1) return [whole];
  const part = variant(
    first === last
      ? `row ${first} holds the numbers of ${other.name}`
      : `rows ${first} to ${last} hold the numbers of ${other.name}`,
    () => {
      const made = product();
      return output.map((value, i) => i % rows >= first && i % rows <= last ? made[i] : value);
    },
  );
  return [part, whole];
}

/** Tensors of the same shape: of the same layer, then of the same kind in layers near, then others. */
function sameShape(file: GgufFile, name: string): TensorInfo[] {
  const own = file.tensors.get(name);
  if (!own) return [];
  const layer = layerOf(name) ?? 0;
  const rank = (other: string) => {
    const away = Math.abs((layerOf(other) ?? 0) - layer);
    return away === 0 ? 0 : (kindOf(other) === kindOf(name) ? 1 : 1000) + away;
  };
  return [...file.tensors.values()].filter((each) =>
    each.name !== name && each.name !== CAUSES["gate-up-swapped"].undo(name) &&
    `${each.shape}` === `${own.shape}`
  ).sort((a, b) => rank(a.name) - rank(b.name));
}

/** The tensor of the candidates that makes what stands in the rows that are wrong. */
async function fitting(
  { output, inputs: [x], weights: [{ rows, columns }], reader: { file } }: Operation,
  target: Float32Array,
  candidates: readonly TensorInfo[],
): Promise<string[]> {
  const T = Math.min(MOST_POSITIONS, output.length / rows);
  const wrong = wrongRows(output, target, rows);
  const count = Math.min(MOST_ROWS, wrong.length);
  const sample = Array.from(
    { length: count },
    (_, i) => wrong[Math.floor(i * wrong.length / count)],
  );
  if (count * T < LEAST_NUMBERS) return [];
  let bytes = 0;
  for (const tensor of candidates) {
    const rowBytes = tensor.bytes / rows;
    bytes += count * rowBytes;
    if (bytes > MOST_BYTES) break;
    let fits = true;
    for (const row of sample) {
      const data = dequantize(tensor.type, await file.readTensor(tensor, row * rowBytes, rowBytes));
      fits = makes(data, row);
      if (!fits) break;
    }
    if (fits) return [tensor.name];
  }
  return [];

  /** Whether a row of a weight makes what the other side has. */
  function makes(w: Float32Array, row: number): boolean {
    let [size, worst] = [0, 0];
    for (let t = 0; t < T; t++) {
      const there = target[t * rows + row];
      size += there * there;
      worst = Math.max(worst, Math.abs(dot(x, w, t * columns) - there));
    }
    return worst <= NEAR * Math.sqrt(size / T);
  }
}

/** Rows of a weight in whose outputs both sides differ by more than rounding. */
function wrongRows(ours: Float32Array, theirs: Float32Array, rows: number): number[] {
  const [errors, sizes] = [new Float64Array(rows), new Float64Array(rows)];
  ours.forEach((value, i) => {
    errors[i % rows] += (value - theirs[i]) ** 2;
    sizes[i % rows] += value ** 2;
  });
  return [...errors.keys()].filter((row) => errors[row] > 1e-4 * sizes[row]);
}

/**
 * The vector of the file that has these numbers: a norm's or a bias's of another place. Undefined where none does.
 *
 * @param near how far a number may be off, as a share of the largest
 */
export async function vectorWith(
  file: GgufFile,
  numbers: Float32Array,
  not: string,
  near: number,
): Promise<{ name: string; data: Float32Array } | undefined> {
  const allowed = near * numbers.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  for (const tensor of file.tensors.values()) {
    if (tensor.name === not || sizeOf(tensor.shape) !== numbers.length) continue;
    const data = dequantize(tensor.type, await file.readTensor(tensor));
    if (data.every((value, i) => Math.abs(value - numbers[i]) <= allowed)) {
      return { name: tensor.name, data };
    }
  }
}
