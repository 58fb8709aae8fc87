/**
 * Weights on their way from the file to a device: which tensors lie together, how they are split, and the stream that
 * packs them.
 *
 * On a GPU matrices are packed into planes (kernels/weights/packings.ts), on the processor into tiles (kernels/weights/tiles.ts); vectors
 * become plain f32. The matrices of a mixture's experts, [columns, rows, experts] in the file, are one matrix of experts · rows rows. Matrices
 * that one step may compute together (q, k, v; gate, up) lie one behind another. A storage never exceeds a GPU's binding limit: larger
 * matrices are split by rows.
 */
import { sizeOf } from "../../base/shape.ts";
import { type Packing, PACKINGS, type Planes } from "../../kernels/weights/packings.ts";
import { dequantize } from "../gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../gguf/reader.ts";
import type { Plan, Value } from "../plan/plan.ts";
import type { WeightSize } from "../plan/step_cost.ts";
import { planWeights } from "../plan/tensors.ts";

/** Where weights go: to a GPU's buffers, or into the memory that the processor's threads share. */
export interface Memory<Storage> {
  create(words: number, label: string): Storage;
  /** Gives matrices of one type and width, which are used together, their places; see {@linkcode layOutPlanes}. */
  layOut(group: readonly MatrixShape[], create: Create<Storage>): Part<Storage>[][];
  writer(): Writer<Storage>;
  destroy(storage: Storage): void;
}

/** Makes a storage of so many words. */
export type Create<Storage> = (words: number, label: string) => Storage;

/** A matrix that has no place yet. */
export interface MatrixShape {
  readonly name: string;
  readonly packing: Packing;
  readonly rows: number;
  readonly columns: number;
}

/** Writes into storages. It has little memory of its own: it waits where more is written than has arrived. */
export interface Writer<Storage> {
  /** Writes words as they are. */
  write(storage: Storage, word: number, data: Uint32Array): Promise<void>;
  /** Packs the file's bytes of some rows, of which the first is row `first` of the part. */
  writeRows(
    matrix: Matrix<Storage>,
    part: Part<Storage>,
    first: number,
    rows: number,
    bytes: Uint8Array,
  ): Promise<void>;
  /** Waits until all that was written has arrived. */
  flush(): Promise<void>;
  /** Gives up what has not been flushed. */
  close(): Promise<void>;
}

/** A run of a matrix's rows in one storage. */
export interface Part<Storage> {
  readonly storage: Storage;
  /** Row of the planes at which it begins. */
  readonly planeRow: number;
  /** Row of the matrix at which it begins. */
  readonly row: number;
  readonly rows: number;
  /** Word offsets of the later planes. */
  readonly scales: number;
  readonly highs: number;
}

/** A matrix [rows, columns] as it is packed. */
export interface Matrix<Storage> {
  readonly packing: Packing;
  readonly rows: number;
  readonly columns: number;
  readonly parts: readonly Part<Storage>[];
}

/** All weights of a model on one device, under their GGUF names. */
export interface Weights<Storage> {
  readonly matrices: ReadonlyMap<string, Matrix<Storage>>;
  readonly vectors: ReadonlyMap<string, Storage>;
  /** Bytes on the device. */
  readonly bytes: number;
  /** Whether the matrices lie one behind another in one storage. */
  adjacent(names: readonly string[]): boolean;
  destroy(): void;
}

/** Rows are read, packed and written in pieces of about this many file bytes: they stay in the processor's caches on their way. */
const PIECE = 2 * 2 ** 20;

/** What is reported while weights stream in. */
export interface LoadOptions<Storage = never> {
  /** Told of the weights when each has its place, before any is read. */
  onLayout?(weights: Weights<Storage>): void;
  onProgress?(doneBytes: number, totalBytes: number): void;
  signal?: AbortSignal;
}

/** A file whose weights are on the device. */
export interface Base<Storage> {
  readonly file: GgufFile;
  readonly weights: Weights<Storage>;
}

/**
 * Loads all the weights that a plan reads.
 *
 * @param file as the plan names its tensors ({@linkcode unfused})
 * @param base whose weights are shared where both files have the very same tensor; to be freed after these
 * @throws {GgufError} when the file cannot be read, and the signal's reason when it is aborted; what was loaded is freed
 */
export async function loadWeights<Storage>(
  file: GgufFile,
  plan: Plan,
  memory: Memory<Storage>,
  options: LoadOptions<Storage> = {},
  base?: Base<Storage>,
): Promise<Weights<Storage>> {
  const matrices = new Map<string, Matrix<Storage>>();
  const vectors = new Map<string, Storage>();
  const storages: Storage[] = [];
  const vectorNames = namesOfVectors(plan);
  const groups = groupTensors(file, plan, vectorNames).filter((group) => {
    // A group lies together in one storage: it is shared, or loaded, as a whole.
    if (!base || group.some((tensor) => base.file.tensors.get(tensor.name) !== tensor)) return true;
    for (const { name } of group) {
      const matrix = base.weights.matrices.get(name);
      const vector = base.weights.vectors.get(name);
      if (matrix) matrices.set(name, matrix);
      if (vector) vectors.set(name, vector);
    }
    return !group.every(({ name }) => matrices.has(name) || vectors.has(name));
  });
  const total = groups.flat().reduce((sum, tensor) => sum + tensor.bytes, 0);
  let bytes = 0;
  let done = 0;

  const create = (words: number, label: string) => {
    const storage = memory.create(words, label);
    storages.push(storage);
    bytes += words * 4;
    return storage;
  };
  const advance = (read: number) => {
    done += read;
    options.onProgress?.(done, total);
    options.signal?.throwIfAborted();
  };
  const destroy = () => {
    for (const storage of storages.splice(0)) memory.destroy(storage);
    // Host memory is free when nothing refers to it.
    matrices.clear();
    vectors.clear();
  };

  const weights: Weights<Storage> = {
    matrices,
    vectors,
    get bytes() {
      return bytes;
    },
    adjacent(names) {
      const found = names.map((name) => matrices.get(name)!);
      return found.every((matrix, i) => {
        const [part] = matrix.parts;
        const before = found[i - 1]?.parts[0];
        return matrix.parts.length === 1 &&
          (!before ||
            (part.storage === before.storage && part.planeRow === before.planeRow + before.rows));
      });
    },
    destroy,
  };

  const writer = memory.writer();
  try {
    // Everything has its place before the first tensor is read.
    for (const group of groups) {
      const [tensor] = group;
      if (vectorNames.has(tensor.name)) {
        vectors.set(tensor.name, create(rowsOf(tensor) * tensor.shape[0], tensor.name));
      } else {
        const packing = PACKINGS.get(tensor.type.name)!;
        const shapes = group.map((each) => ({
          name: each.name,
          packing,
          rows: rowsOf(each),
          columns: each.shape[0],
        }));
        memory.layOut(shapes, create).forEach((parts, i) => {
          const { name, rows, columns } = shapes[i];
          matrices.set(name, { packing, rows, columns, parts });
        });
      }
    }
    options.onLayout?.(weights);
    const piece = new Uint8Array(PIECE);
    for (const tensor of groups.flat()) {
      const vector = vectors.get(tensor.name);
      if (vector) {
        const values = dequantize(tensor.type, await file.readTensor(tensor));
        const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
        await writer.write(vector, 0, words);
        advance(tensor.bytes);
      } else {
        const matrix = matrices.get(tensor.name)!;
        for (const part of matrix.parts) {
          await loadPart(file, tensor, matrix, part, writer, advance, piece);
        }
      }
    }
    await writer.flush();
  } catch (error) {
    destroy();
    throw error;
  } finally {
    await writer.close();
  }

  return weights;
}

/** The vectors by what the plan takes them for: a file may store them as [n, 1]. */
function namesOfVectors(plan: Plan): ReadonlySet<string> {
  const vectors = planWeights(plan).filter(({ shape }) => shape.length === 1);
  return new Set(vectors.map(({ name }) => name));
}

/** Tensors of the forward pass, in the order of use; products of the same rows lie together, in one group. */
function groupTensors(
  file: GgufFile,
  plan: Plan,
  vectorNames: ReadonlySet<string>,
): TensorInfo[][] {
  const groups: TensorInfo[][] = [];
  const placed = new Set<string>();
  let products: { readonly input: Value; readonly group: TensorInfo[] } | undefined;
  for (const { operation, inputs: [input], weights } of plan) {
    for (const name of weights) {
      if (placed.has(name)) continue;
      placed.add(name);
      const tensor = file.tensors.get(name)!;
      if (operation === "linear" && products?.input === input && !vectorNames.has(name)) {
        if (products.group[0].type === tensor.type) {
          products.group.push(tensor);
          continue;
        }
      }
      const group = [tensor];
      groups.push(group);
      if (operation === "linear") products = { input, group };
    }
  }
  return groups;
}

function rowsOf(tensor: TensorInfo): number {
  return sizeOf(tensor.shape.slice(1));
}

/**
 * Gives each matrix of a group its place, in planes: all in one storage where they fit, else split by rows.
 *
 * @param limit largest storage, in bytes
 */
export function layOutPlanes<Storage>(
  group: readonly MatrixShape[],
  limit: number,
  create: Create<Storage>,
): Part<Storage>[][] {
  const [{ packing, columns }] = group;
  const words = packing.words(columns);
  const rowWords = words.quants + words.scales + words.highs;
  const most = Math.floor(limit / 4 / rowWords);
  const together = group.reduce((sum, { rows }) => sum + rows, 0);
  const allocate = (rows: number, label: string) => ({
    // Kernels read by fours.
    storage: create(Math.ceil(rows * rowWords / 4) * 4, label),
    scales: rows * words.quants,
    highs: rows * (words.quants + words.scales),
  });

  const shared = together <= most
    ? allocate(together, group.map(({ name }) => name).join(" "))
    : undefined;
  let planeRow = 0;
  return group.map(({ name, rows }) => {
    const parts: Part<Storage>[] = [];
    if (shared) {
      parts.push({ ...shared, planeRow, row: 0, rows });
      planeRow += rows;
    } else {
      const count = Math.ceil(rows / most);
      const size = Math.ceil(rows / count);
      for (let row = 0; row < rows; row += size) {
        const inPart = Math.min(size, rows - row);
        parts.push({ ...allocate(inPart, `${name} ${row}`), planeRow: 0, row, rows: inPart });
      }
    }
    return parts;
  });
}

/** Packs the file's bytes of some rows into planes and writes them by {@linkcode Writer.write}. */
export async function writePlanes<Storage>(
  writer: Pick<Writer<Storage>, "write">,
  { packing, columns }: Matrix<Storage>,
  part: Part<Storage>,
  first: number,
  rows: number,
  bytes: Uint8Array,
): Promise<void> {
  const words = packing.words(columns);
  const planes = newPlanes(rows, words);
  packing.pack(bytes, rows, columns, planes, 0);
  const row = part.planeRow + first;
  await writer.write(part.storage, row * words.quants, planes.quants);
  await writer.write(part.storage, part.scales + row * words.scales, planes.scales);
  await writer.write(part.storage, part.highs + row * words.highs, planes.highs);
}

/**
 * Reads, packs and writes one part, a few rows at a time.
 *
 * @param into memory for the bytes of a few rows
 */
async function loadPart<Storage>(
  file: GgufFile,
  tensor: TensorInfo,
  matrix: Matrix<Storage>,
  part: Part<Storage>,
  writer: Writer<Storage>,
  advance: (bytes: number) => void,
  into: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const { packing, columns } = matrix;
  const rowBytes = columns / packing.blockSize * packing.blockBytes;
  // Whole tiles of eight rows, which is how the processor has them.
  const step = Math.max(8, Math.floor(PIECE / rowBytes / 8) * 8);
  for (let first = 0; first < part.rows; first += step) {
    const rows = Math.min(step, part.rows - first);
    const from = (part.row + first) * rowBytes;
    const bytes = await file.readTensor(tensor, from, rows * rowBytes, into);
    await writer.writeRows(matrix, part, first, rows, bytes);
    advance(bytes.length);
  }
}

function newPlanes(rows: number, words: { quants: number; scales: number; highs: number }): Planes {
  return {
    quants: new Uint32Array(rows * words.quants),
    scales: new Uint32Array(rows * words.scales),
    highs: new Uint32Array(rows * words.highs),
  };
}

/** Bytes of a weight in planes, and of one of its rows; how many numbers a matrix has. */
export function planeBytes(
  { matrices, vectors }: Weights<{ readonly size: number }>,
  name: string,
): WeightSize {
  const matrix = matrices.get(name);
  if (!matrix) {
    const { size } = vectors.get(name)!;
    return { all: size, row: size, numbers: 0 };
  }
  const { packing, rows, columns } = matrix;
  const { quants, scales, highs } = packing.words(columns);
  const row = 4 * (quants + scales + highs);
  return { all: rows * row, row, numbers: rows * columns };
}
