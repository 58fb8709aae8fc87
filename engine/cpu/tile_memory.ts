/** Weights in shared memory, in tiles that the kernels compute on. */
import type { RowReader } from "../../kernels/kernel.ts";
import type { Packing } from "../../kernels/weights/packings.ts";
import { TILES } from "../../kernels/weights/tiles.ts";
import type { GgufFile, TensorInfo } from "../gguf/reader.ts";
import { layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import type {
  Create,
  Matrix,
  MatrixShape,
  Memory,
  Part,
  Weights,
  Writer,
} from "../model/weights.ts";
import type { WeightSize } from "../plan/step_cost.ts";
import { mebibytes } from "../model/capacity.ts";
import { type Block, type Heap, HEAP_BYTES } from "./heap.ts";
import type { Processor } from "./processor.ts";
import { RECORD_WORDS, writePackRecord } from "./records.ts";

/** In front of a matrix's tiles lies its descriptor: address of the tiles, packing, rows, columns, bytes of a tile. */
export const DESCRIPTOR_BYTES = 64;

/** What a matrix of a type takes, its descriptor included. */
export function matrixBytes({ name }: { name: string }, rows: number, columns: number): number {
  return DESCRIPTOR_BYTES + Math.ceil(rows / 8) * TILES.get(name)!.tileBytes(columns);
}

/** Writes a matrix's descriptor in front of its tiles. */
export function writeDescriptor(
  { heap, address }: Block,
  packing: Packing,
  rows: number,
  columns: number,
): void {
  const { id, tileBytes } = TILES.get(packing.name)!;
  heap.words(address, DESCRIPTOR_BYTES / 4).fill(0);
  heap.words(address, 5).set([address + DESCRIPTOR_BYTES, id, rows, columns, tileBytes(columns)]);
}

/** What goes into which heap, in bytes. */
export interface HeapLimits {
  /** Models up to this size share the home heap with others; larger ones have heaps of their own, whose memory ends with them. */
  readonly home: number;
  /** Weights that a heap takes at most: what is left of it is for caches and values. */
  readonly weights: number;
  /** What caches leave of a heap for the values of passes. */
  readonly values: number;
}

/** The limits of models. */
export const LIMITS: HeapLimits = {
  home: 2 ** 30,
  weights: HEAP_BYTES - 2 ** 29,
  values: 3 * 2 ** 27,
};

/** Bytes of file that are packed at a time. */
const STAGING_BYTES = 2 ** 21;

/** Where the weights of one model go: layer by layer into as few heaps as hold them. */
export class TileMemory implements Memory<Block> {
  readonly #processor: Processor;
  readonly #own: Heap[] = [];
  /** Bytes that each layer takes, by what stands for it: its number, or the name of a weight outside of all layers. */
  readonly #sizes = new Map<number | string, number>();
  readonly #heaps = new Map<number | string, Heap>();
  readonly #atHome: boolean;
  readonly #limits: HeapLimits;
  #free = 0;

  /**
   * @param file whose weights are to be loaded
   * @param base the file whose weights are loaded already, which tensors may be of
   * @param free bytes of this machine's memory that are free, where that is known
   * @throws {RangeError} where they are more than that
   */
  constructor(
    processor: Processor,
    file: GgufFile,
    { limits = LIMITS, base, free = Infinity }: {
      limits?: HeapLimits;
      base?: GgufFile;
      free?: number;
    } = {},
  ) {
    this.#processor = processor;
    this.#limits = limits;
    for (const tensor of file.tensors.values()) {
      if (base?.tensors.get(tensor.name) === tensor) continue;
      const key = layerKey(tensor.name);
      this.#sizes.set(key, (this.#sizes.get(key) ?? 0) + bytesOf(tensor));
    }
    const total = this.#sizes.values().reduce((sum, bytes) => sum + bytes, 0);
    if (total > free) {
      throw new RangeError(
        `Cannot load the model: its weights take ${mebibytes(total)} of memory, ${
          mebibytes(free)
        } are free; end other programs, or take a smaller model or one of fewer bits a weight`,
      );
    }
    processor.expect(total); // to be packed
    const room = processor.home.largest - (HEAP_BYTES - limits.weights);
    this.#atHome = total <= Math.min(limits.home, room);
  }

  /** Bytes of values that a pass may keep until its end. */
  get together(): number {
    const { values } = this.#limits;
    const room = this.#atHome ? this.#processor.home.largest / 4 : 0;
    return Math.max(room, values / 3 * 2);
  }

  create(words: number, label: string): Block {
    const block = this.#heapOf(layerKey(label)).take(words * 4);
    if (!block) {
      throw new RangeError(
        `Cannot load ${label}: it takes ${
          Math.ceil(words / 2 ** 18)
        } MiB, more than a WebAssembly memory has room for; take a file of fewer bits a weight, or a GPU (--backend webgpu)`,
      );
    }
    return block;
  }

  layOut(group: readonly MatrixShape[], create: Create<Block>): Part<Block>[][] {
    return group.map(({ name, packing, rows, columns }) => {
      const storage = create(Math.ceil(matrixBytes(packing, rows, columns) / 4), name);
      writeDescriptor(storage, packing, rows, columns);
      return [{ storage, planeRow: 0, row: 0, rows, scales: 0, highs: 0 }];
    });
  }

  writer(): Writer<Block> {
    return new TileWriter(this.#processor, (block) => this.destroy(block));
  }

  /** Gives a block back, and with the last one of a heap of its own the heap. */
  destroy(block: Block): void {
    block.heap.giveBack(block);
    const at = this.#own.indexOf(block.heap);
    if (at < 0 || block.heap.used > 0) return;
    this.#own.splice(at, 1);
    for (const [key, heap] of this.#heaps) if (heap === block.heap) this.#heaps.delete(key);
    this.#processor.dropHeap(block.heap);
  }

  /** A layer's weights lie together. */
  #heapOf(key: number | string): Heap {
    if (this.#atHome) return this.#processor.home;
    const known = this.#heaps.get(key);
    if (known) return known;
    const bytes = this.#sizes.get(key) ?? 0;
    if (bytes > this.#free || this.#own.length === 0) {
      this.#own.push(this.#processor.addHeap());
      this.#free = this.#limits.weights;
    }
    this.#free -= bytes;
    const heap = this.#own.at(-1)!;
    this.#heaps.set(key, heap);
    return heap;
  }
}

/** What stands for a weight's layer. A group's label names several weights. */
function layerKey(label: string): number | string {
  const [name] = label.split(" ");
  return layerOf(name) ?? name;
}

/** Bytes of a tensor's tiles; of a vector, its numbers. */
function bytesOf({ type, shape }: TensorInfo): number {
  const rows = sizeOf(shape.slice(1));
  return rows > 1 && TILES.has(type.name) ? matrixBytes(type, rows, shape[0]) : 4 * sizeOf(shape);
}

class TileWriter implements Writer<Block> {
  readonly #processor: Processor;
  readonly #giveBack: (block: Block) => void;
  readonly #staging = new Map<Heap, Staging>();

  constructor(processor: Processor, giveBack: (block: Block) => void) {
    this.#processor = processor;
    this.#giveBack = giveBack;
  }

  // deno-lint-ignore require-await -- arrived when it is written
  async write(storage: Block, word: number, data: Uint32Array): Promise<void> {
    storage.heap.words(storage.address + word * 4, data.length).set(data);
  }

  // deno-lint-ignore require-await -- as above
  async writeRows(
    { packing, columns }: Matrix<Block>,
    { storage }: Part<Block>,
    first: number,
    rows: number,
    bytes: Uint8Array,
  ): Promise<void> {
    const { heap, address } = storage;
    const { id, tileBytes } = TILES.get(packing.name)!;
    const { record, source } = this.#stagingIn(heap, bytes.length);
    heap.bytes(source.address, bytes.length).set(bytes);
    const tile = tileBytes(columns);
    writePackRecord(heap.words(record.address, RECORD_WORDS), {
      source: source.address,
      tiles: address + DESCRIPTOR_BYTES + first / 8 * tile,
      ...{ id, rows, columns, tile, rowBytes: bytes.length / rows },
    });
    this.#processor.run(record, 0, 1);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  // deno-lint-ignore require-await -- nothing is under way
  async close(): Promise<void> {
    for (const { record, source } of this.#staging.values()) {
      this.#giveBack(record);
      this.#giveBack(source);
    }
    this.#staging.clear();
  }

  #stagingIn(heap: Heap, bytes: number): Staging {
    const known = this.#staging.get(heap);
    if (known && known.source.bytes >= bytes) return known;
    if (known) heap.giveBack(known.source);
    const record = known?.record ?? heap.take(RECORD_WORDS * 4);
    const source = heap.take(Math.max(bytes, STAGING_BYTES));
    if (!record || !source) {
      throw new RangeError("Cannot load the weights: their memory has no room to pack them");
    }
    const staging = { record, source };
    this.#staging.set(heap, staging);
    return staging;
  }
}

/** Where the file's bytes wait to be packed. */
interface Staging {
  readonly record: Block;
  readonly source: Block;
}

/** Where a step finds a weight: of a matrix its descriptor, of a vector its numbers. */
export function weightBlock({ matrices, vectors }: Weights<Block>, name: string): Block {
  return vectors.get(name) ?? matrices.get(name)!.parts[0].storage;
}

/** Reads rows of a weight, for twins. */
export function rowReader(processor: Processor, weights: Weights<Block>, name: string): RowReader {
  const block = weightBlock(weights, name);
  const { heap, address } = block;
  const matrix = weights.matrices.get(name);
  if (!matrix) {
    const values = heap.floats(address, block.bytes / 4);
    return { rows: 1, columns: values.length, read: (_row, out) => out.set(values) };
  }
  const { rows, columns } = matrix;
  const place = heap.take(columns * 4);
  if (!place) throw new RangeError(`Cannot read ${name}: its memory has no room for a row`);
  heap.giveBack(place); // it is used before anything else can take it
  const numbers = heap.floats(place.address, columns);
  return {
    rows,
    columns,
    read(row, out) {
      processor.kernels(heap).read_row(address, row, place.address);
      out.set(numbers);
    },
  };
}

/** Bytes of a weight in tiles, and of one of its rows; how many numbers a matrix has. */
export function weightBytes(weights: Weights<Block>, name: string): WeightSize {
  const matrix = weights.matrices.get(name);
  const { bytes } = weightBlock(weights, name);
  if (!matrix) return { all: bytes, row: bytes, numbers: 0 };
  const { packing, rows, columns } = matrix;
  return {
    all: bytes,
    row: TILES.get(packing.name)!.tileBytes(columns) / 8,
    numbers: rows * columns,
  };
}
