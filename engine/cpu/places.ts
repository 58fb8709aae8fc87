/** What a session keeps in memory between passes: caches, the table, ids, and the numbers of the pass. */
import type { Pass } from "../../kernels/kernel.ts";
import { layerOf } from "../../base/layer_names.ts";
import { CapacityError, mebibytes } from "../model/capacity.ts";
import { elementCount, type Lengths, type Plan, planValues, type Value } from "../plan/plan.ts";
import type { Block, Heap } from "./heap.ts";
import type { Processor } from "./processor.ts";
import type { SessionPlaces } from "./program.ts";
import { PASS_WORDS } from "./records.ts";

/** Scratch of a thread that kernels count on, beside what depends on the model. */
const SCRATCH_BYTES = 2 ** 19;
/** For each column of the widest matrix. */
const SCRATCH_PER_COLUMN = 96;
/** For each position of the session. */
const SCRATCH_PER_POSITION = 64;

/**
 * Bytes of scratch that each thread has.
 *
 * @param columns of the widest matrix
 * @param capacity positions of the session
 */
export function scratchBytes(columns: number, capacity: number): number {
  return SCRATCH_BYTES + SCRATCH_PER_COLUMN * columns + SCRATCH_PER_POSITION * capacity;
}

/** What there is of a session in one heap. */
interface HeapPart {
  readonly pass: Block;
  readonly scratch: Block;
  /** By value name. */
  readonly blocks: Map<string, Block>;
}

/** How large a session is. */
export interface PlacesOptions {
  readonly plan: Plan;
  readonly capacity: number;
  /** Most positions of a pass. */
  readonly maxTokens: number;
  /** (cos, sin) of each position and pair, by the tables' names. */
  readonly tables: ReadonlyMap<string, Float32Array>;
  /** Heap of a layer's weights, where its caches lie if there is room. */
  heapOf(cache: string): Heap;
  /** What caches leave of a heap, in bytes. */
  readonly spared: number;
}

/** The memory of one session. Its caches lie beside their layers' weights; all else is in each heap that needs it. */
export class Places implements SessionPlaces {
  readonly #processor: Processor;
  readonly #options: PlacesOptions;
  readonly #caches = new Map<string, Block>();
  readonly #parts = new Map<Heap, HeapPart>();
  readonly #scratchBytes: number;
  /** Ids and the like as they were last written, for heaps that come later. */
  readonly #written = new Map<string, Uint32Array>();
  /** A heap for caches that do not fit beside their weights. */
  #extra: Heap[] = [];

  /** @throws {CapacityError} where the caches do not fit */
  constructor(processor: Processor, options: PlacesOptions) {
    this.#processor = processor;
    this.#options = options;
    const columns = options.plan.map(({ constants }) => constants.columns ?? 0);
    this.#scratchBytes = scratchBytes(Math.max(...columns), options.capacity);
    try {
      const caches = [...planValues(options.plan).values()].filter(({ kind }) => kind === "cache");
      // A step may read both of a layer: they lie in the same heap.
      for (const of of Map.groupBy(caches, ({ name }) => layerOf(name)).values()) this.#cache(of);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  place(value: Value, heap?: Heap): Block {
    const cache = this.#caches.get(value.name);
    if (cache) return cache;
    const { blocks } = this.#part(heap!);
    let block = blocks.get(value.name);
    if (!block) {
      const { name, shape } = value;
      blocks.set(name, block = this.#take(heap!, 4 * elementCount(shape, this.#largest)));
      if (value.kind === "table") {
        heap!.floats(block.address, block.bytes / 4).set(this.#options.tables.get(name)!);
      }
      const written = this.#written.get(name);
      if (written) heap!.words(block.address, written.length).set(written);
    }
    return block;
  }

  passNumbers(heap: Heap): { all: number; last: number } {
    const { address } = this.#part(heap).pass;
    return { all: address, last: address + 4 * PASS_WORDS };
  }

  /** Writes the numbers of a pass. */
  begin(pass: Pass, tail: Pass): void {
    for (const [heap, { pass: block, scratch }] of this.#parts) {
      const words = heap.words(block.address, 2 * PASS_WORDS);
      [pass, tail].forEach(({ tokens, start, rows }, i) =>
        words.set([tokens, start, rows, scratch.address, this.#scratchBytes], i * PASS_WORDS)
      );
    }
  }

  /** Writes words of a value in every heap that has it: those from `from` to `to` (exclusive), where the others are there already. */
  write(name: string, words: Uint32Array, from = 0, to = words.length): void {
    this.#written.set(name, words);
    const changed = words.subarray(from, to);
    for (const [heap, { blocks }] of this.#parts) {
      const block = blocks.get(name);
      if (block) heap.words(block.address + 4 * from, changed.length).set(changed);
    }
  }

  /** Rows of a cache, from the first on. */
  cache(name: string): Float32Array<SharedArrayBuffer> {
    const { heap, address, bytes } = this.#caches.get(name)!;
    return heap.floats(address, bytes / 4);
  }

  /** Gives the memory back. */
  dispose(): void {
    const own = [...this.#caches.values()];
    for (const { pass, scratch, blocks } of this.#parts.values()) {
      own.push(pass, scratch, ...blocks.values());
    }
    for (const block of own) block.heap.giveBack(block);
    this.#caches.clear();
    this.#parts.clear();
    for (const heap of this.#extra.splice(0)) this.#processor.dropHeap(heap);
  }

  get #largest(): Lengths {
    const { maxTokens: T, capacity: S } = this.#options;
    return { T, S, R: T };
  }

  /** Gives the caches of a layer their places. */
  #cache(caches: readonly Value[]): void {
    const { heapOf, spared } = this.#options;
    const sizes = caches.map(({ shape }) => 4 * elementCount(shape, this.#largest));
    const together = sizes.reduce((sum, bytes) => sum + bytes, 0);
    const fits = (heap?: Heap) => heap && heap.largest >= together + spared;
    const heap = [heapOf(caches[0].name), this.#extra.at(-1)].find(fits) ?? this.#addHeap();
    caches.forEach(({ name }, i) => this.#caches.set(name, this.#take(heap, sizes[i])));
  }

  #addHeap(): Heap {
    const heap = this.#processor.addHeap();
    this.#extra.push(heap);
    return heap;
  }

  #part(heap: Heap): HeapPart {
    let part = this.#parts.get(heap);
    if (!part) {
      const pass = this.#take(heap, 2 * PASS_WORDS * 4);
      const scratch = this.#take(heap, this.#scratchBytes * this.#processor.mostThreads);
      this.#parts.set(heap, part = { pass, scratch, blocks: new Map() });
    }
    return part;
  }

  #take(heap: Heap, bytes: number): Block {
    const block = heap.take(bytes);
    if (!block) {
      throw new CapacityError(
        this.#options.capacity,
        0,
        `a WebAssembly memory has no room for ${mebibytes(bytes)} more`,
      );
    }
    return block;
  }
}
