/** What a processor does at its best, in a few figures: how fast it reads memory, multiplies, and multiplies weights of each type. */
import type { Heap } from "../../engine/cpu/heap.ts";
import { scratchBytes } from "../../engine/cpu/places.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import {
  PASS_WORDS,
  RECORD_WORDS,
  writePackRecord,
  writeRecord,
} from "../../engine/cpu/records.ts";
import { DESCRIPTOR_BYTES, matrixBytes, writeDescriptor } from "../../engine/cpu/tile_memory.ts";
import { Noise, randomBlocks } from "../../engine/check/data.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { type Packing, PACKINGS } from "../../kernels/weights/packings.ts";
import { TILES } from "../../kernels/weights/tiles.ts";
import { cpuProbes } from "./cpu_probes.ts";
import type { Probe } from "./probe.ts";

/** What some threads do at their best. */
export interface ThreadFigures {
  readonly threads: number;
  /** Streaming read of memory, GB/s (10⁹ bytes). */
  readonly read: number;
  /** Plain f32 products, GFLOP/s; a multiplication and an addition are two. */
  readonly arithmetic: number;
}

/** The figures of a processor. */
export interface CpuFigures {
  /** One thread alone, and all of them where there are more. */
  readonly byThreads: readonly ThreadFigures[];
  /** Products with one position on all threads, by weight type: 10⁹ weights per second. */
  readonly weights: Readonly<Record<string, number>>;
}

/** Bytes that are read: more than most caches hold. */
const READ_BYTES = 2 ** 28;
/** Bytes of the matrix of each type, about, for the same reason. */
const MATRIX_BYTES = 2 ** 26;
const COLUMNS = 2048;
/** Rows that are made of random blocks; the matrix repeats them. */
const OWN_ROWS = 64;
/** Figures of a probe, of which the best counts. */
const MEASUREMENTS = 4;
/** Times that a product runs, of which the fastest counts: code is compiled better after the first ones. */
const TIMES = 8;

/** Measures a processor; takes about two seconds. */
export async function cpuFigures(processor: Processor): Promise<CpuFigures> {
  const alone = new Processor(1);
  const byThreads = [await threadFigures(alone)];
  alone.close();
  if (processor.threads > 1) byThreads.push(await threadFigures(processor));
  const heap = processor.addHeap();
  try {
    const weights = [...PACKINGS].map(([name, packing]) => [
      name,
      weightsPerNanosecond(processor, heap, packing),
    ]);
    return { byThreads, weights: Object.fromEntries(weights) };
  } finally {
    processor.dropHeap(heap);
  }
}

async function threadFigures(processor: Processor): Promise<ThreadFigures> {
  using probes = cpuProbes(processor, [{ positions: 1, rows: 1, columns: 1 }], READ_BYTES);
  const { read, products: [product] } = probes;
  return {
    threads: processor.threads,
    read: await most(read),
    arithmetic: await most(product),
  };
}

/** The best of a few figures: whatever else the machine does only makes them worse. */
async function most(probe: Probe): Promise<number> {
  let best = 0;
  for (let i = 0; i < MEASUREMENTS; i++) best = Math.max(best, await probe.measure());
  return best;
}

/** Weights of a type that are multiplied in a nanosecond, with one position. */
function weightsPerNanosecond(processor: Processor, heap: Heap, packing: Packing): number {
  const { id, blockSize, blockBytes, tileBytes } = TILES.get(packing.name)!;
  const rows = OWN_ROWS * Math.round(MATRIX_BYTES / (OWN_ROWS / 8 * tileBytes(COLUMNS)));
  const take = (bytes: number) => heap.take(bytes)!;
  const noise = new Noise(packing.name);
  const file = randomBlocks(packing, OWN_ROWS * COLUMNS, noise, "real");
  const source = take(OWN_ROWS * COLUMNS / blockSize * blockBytes);
  heap.bytes(source.address, file.length).set(file);
  const matrix = take(matrixBytes(packing, rows, COLUMNS));
  writeDescriptor(matrix, packing, rows, COLUMNS);
  const record = take(4 * RECORD_WORDS);
  const words = heap.words(record.address, RECORD_WORDS);
  const tile = tileBytes(COLUMNS);
  for (let row = 0; row < rows; row += OWN_ROWS) {
    writePackRecord(words, {
      source: source.address,
      tiles: matrix.address + DESCRIPTOR_BYTES + row / 8 * tile,
      ...{ id, rows: OWN_ROWS, columns: COLUMNS, tile, rowBytes: file.length / OWN_ROWS },
    });
    processor.run(record, 0, 1);
  }
  const x = take(4 * COLUMNS);
  heap.floats(x.address, COLUMNS).set(noise.numbers(COLUMNS));
  const y = take(4 * rows);
  const bytes = scratchBytes(COLUMNS, 1);
  const scratch = take(bytes * processor.threads);
  const pass = take(4 * PASS_WORDS);
  heap.words(pass.address, 5).set([1, 0, 1, scratch.address, bytes]);
  const kernel = kernelOf({ operation: "linear" })!;
  const step = { ...kernel, constants: { columns: COLUMNS } };
  writeRecord(words, step, kernel, {
    pass: pass.address,
    inputs: [x.address],
    weights: [matrix.address],
    outputs: [y.address],
    scratch: 0,
  });
  let least = Infinity;
  for (let i = 0; i < TIMES; i++) {
    const start = performance.now();
    processor.run(record, 0, 1);
    least = Math.min(least, performance.now() - start);
  }
  for (const block of [source, matrix, x, y, scratch, pass, record]) heap.giveBack(block);
  return rows * COLUMNS / least / 1e6;
}
