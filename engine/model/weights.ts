/**
 * Weights on their way from the file to a device: which tensors lie together, how they are split, and the stream that
 * packs them.
 *
 * Matrices are packed into planes (kernels/weights/packings.ts); vectors become plain f32. Matrices that one dispatch may compute
 * together (q, k, v; gate, up) lie one behind another. A storage never exceeds the device's binding limit: larger
 * matrices are split by rows.
 */
import { sizeOf } from "../../base/shape.ts";
import { type Packing, PACKINGS, type Planes } from "../../kernels/weights/packings.ts";
import type { RowReader } from "../../kernels/kernel.ts";
import { type Config, expectedTensors } from "./config.ts";
import { dequantize } from "../gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../gguf/reader.ts";

/** Where packed words go: a GPU buffer or host memory. */
export interface Memory<Storage> {
  /** Largest storage, in bytes. */
  readonly limit: number;
  create(words: number, label: string): Storage;
  writer(): Writer<Storage>;
  destroy(storage: Storage): void;
}

/** Writes into storages. It has little memory of its own: it waits where more is written than has arrived. */
export interface Writer<Storage> {
  write(storage: Storage, word: number, data: Uint32Array): Promise<void>;
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

/** Rows are read, packed and written in pieces of about this many file bytes. */
const PIECE = 16 * 2 ** 20;

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
 * Loads all the tensors that the config's forward pass uses.
 *
 * @param base whose weights are shared where both files have the very same tensor; to be freed after these
 * @throws {GgufError} when the file cannot be read, and the signal's reason when it is aborted; what was loaded is freed
 */
export async function loadWeights<Storage>(
  file: GgufFile,
  config: Config,
  memory: Memory<Storage>,
  options: LoadOptions<Storage> = {},
  base?: Base<Storage>,
): Promise<Weights<Storage>> {
  const matrices = new Map<string, Matrix<Storage>>();
  const vectors = new Map<string, Storage>();
  const storages: Storage[] = [];
  const vectorNames = namesOfVectors(config);
  const groups = groupTensors(file, config, vectorNames).filter((group) => {
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
        for (const each of layOut(group, memory.limit, create)) {
          matrices.set(each.tensor.name, each.matrix);
        }
      }
    }
    options.onLayout?.(weights);
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
          await loadPart(file, tensor, matrix, part, writer, advance);
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

/** The vectors by what the model expects: a file may store them as [n, 1]. */
function namesOfVectors(config: Config): ReadonlySet<string> {
  const vectors = expectedTensors(config).filter(({ shape }) => shape.length === 1);
  return new Set(vectors.map(({ name }) => name));
}

/** Tensors of the forward pass, in the order of use; those that lie together form one group. */
function groupTensors(
  file: GgufFile,
  config: Config,
  vectorNames: ReadonlySet<string>,
): TensorInfo[][] {
  const groups: TensorInfo[][] = [];
  const add = (...names: string[]) => {
    const tensors = names.flatMap((name) => file.tensors.get(name) ?? []);
    for (const tensor of tensors) {
      const previous = groups.at(-1)?.[0];
      const joins = previous && tensor !== tensors[0] && !vectorNames.has(tensor.name) &&
        tensor.type === previous.type;
      if (joins) groups.at(-1)!.push(tensor);
      else groups.push([tensor]);
    }
  };
  add("token_embd.weight");
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `blk.${layer}`;
    add(`${at}.attn_norm.weight`);
    add(...["q", "k", "v"].map((name) => `${at}.attn_${name}.weight`));
    for (const name of ["q", "k", "v", "output"]) add(`${at}.attn_${name}.bias`);
    add(`${at}.attn_output.weight`);
    add(`${at}.ffn_norm.weight`);
    add(`${at}.ffn_gate.weight`, `${at}.ffn_up.weight`);
    for (const name of ["gate", "up", "down"]) add(`${at}.ffn_${name}.bias`);
    add(`${at}.ffn_down.weight`);
  }
  add("output_norm.weight");
  if (!config.tiedOutput) add("output.weight");
  return groups;
}

function rowsOf(tensor: TensorInfo): number {
  return sizeOf(tensor.shape.slice(1));
}

/** Gives each matrix of a group its place: all in one storage where they fit, else split by rows. */
function layOut<Storage>(
  group: readonly TensorInfo[],
  limit: number,
  create: (words: number, label: string) => Storage,
): { tensor: TensorInfo; matrix: Matrix<Storage> }[] {
  const packing = PACKINGS.get(group[0].type.name)!;
  const columns = group[0].shape[0];
  const words = packing.words(columns);
  const rowWords = words.quants + words.scales + words.highs;
  const most = Math.floor(limit / 4 / rowWords);
  const together = group.reduce((sum, tensor) => sum + rowsOf(tensor), 0);
  const allocate = (rows: number, label: string) => ({
    // Kernels read by fours.
    storage: create(Math.ceil(rows * rowWords / 4) * 4, label),
    scales: rows * words.quants,
    highs: rows * (words.quants + words.scales),
  });

  const shared = together <= most
    ? allocate(together, group.map((tensor) => tensor.name).join(" "))
    : undefined;
  let planeRow = 0;
  return group.map((tensor) => {
    const rows = rowsOf(tensor);
    const parts: Part<Storage>[] = [];
    if (shared) {
      parts.push({ ...shared, planeRow, row: 0, rows });
      planeRow += rows;
    } else {
      const count = Math.ceil(rows / most);
      const size = Math.ceil(rows / count);
      for (let row = 0; row < rows; row += size) {
        const inPart = Math.min(size, rows - row);
        parts.push({
          ...allocate(inPart, `${tensor.name} ${row}`),
          planeRow: 0,
          row,
          rows: inPart,
        });
      }
    }
    return { tensor, matrix: { packing, rows, columns, parts } };
  });
}

/** Reads, packs and writes one part, a few rows at a time. */
async function loadPart<Storage>(
  file: GgufFile,
  tensor: TensorInfo,
  { packing, columns }: Matrix<Storage>,
  part: Part<Storage>,
  writer: Writer<Storage>,
  advance: (bytes: number) => void,
): Promise<void> {
  const rowBytes = columns / packing.blockSize * packing.blockBytes;
  const words = packing.words(columns);
  const step = Math.max(1, Math.floor(PIECE / rowBytes));
  for (let first = 0; first < part.rows; first += step) {
    const rows = Math.min(step, part.rows - first);
    const bytes = await file.readTensor(tensor, (part.row + first) * rowBytes, rows * rowBytes);
    const planes = newPlanes(rows, words);
    packing.pack(bytes, rows, columns, planes, 0);
    const row = part.planeRow + first;
    await writer.write(part.storage, row * words.quants, planes.quants);
    await writer.write(part.storage, part.scales + row * words.scales, planes.scales);
    await writer.write(part.storage, part.highs + row * words.highs, planes.highs);
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

/** Host memory for the CPU backend. */
export const hostMemory: Memory<Uint32Array> = {
  limit: 2 ** 31,
  create: (words) => new Uint32Array(words),
  writer: () => ({
    // deno-lint-ignore require-await -- arrived when it is written
    async write(storage, word, data) {
      storage.set(data, word);
    },
    flush: () => Promise.resolve(),
    close: () => Promise.resolve(),
  }),
  destroy() {},
};

/** Reads rows of a weight that lies in host memory. */
export function rowReader(weights: Weights<Uint32Array>, name: string): RowReader {
  const vector = weights.vectors.get(name);
  if (vector) {
    const values = new Float32Array(vector.buffer, vector.byteOffset, vector.length);
    return { rows: 1, columns: values.length, read: (_row, out) => out.set(values) };
  }
  const { packing, rows, columns, parts } = weights.matrices.get(name)!;
  const planes = parts.map(({ storage, scales, highs }) => ({
    quants: storage.subarray(0, scales || undefined),
    scales: storage.subarray(scales, highs),
    highs: storage.subarray(highs),
  }));
  return {
    rows,
    columns,
    read(row, out) {
      const i = parts.findIndex((part) => row < part.row + part.rows);
      packing.unpack(planes[i], parts[i].planeRow + row - parts[i].row, columns, out);
    },
  };
}
