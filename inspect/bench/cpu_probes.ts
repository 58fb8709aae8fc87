/** What a processor can do, found by small kernels of our own on all threads of the CPU backend: how fast memory is read, and f32 matrices are multiplied. */
import type { Block, Heap } from "../../engine/cpu/heap.ts";
import type { Processor } from "../../engine/cpu/processor.ts";
import {
  PRODUCT_POSITIONS,
  PRODUCT_ROWS,
  productRecord,
  READ_STREAMS,
  readRecord,
} from "../../kernels/probes/records.ts";
import type { ProductShape } from "../../kernels/probes/probes.ts";
import { BestProbe, type DeviceProbes, type Probe, type Variant } from "./probe.ts";

/** Times in a row, of which the least counts. */
const TIMES = 3;
/** Bytes that a thread reads at a time. */
const PIECE = 2 ** 20;
/** The product that is measured: the parts that are multiplied lie in the first two caches. */
const COLUMNS = 512;
const ROWS = 256;
const POSITIONS = 96;
/** Products that are timed together: one takes less than a millisecond. */
const PRODUCTS = 16;

/** A block of a heap; there is room, since the heap has nothing but what probes need. */
function take(heap: Heap, bytes: number): Block {
  const block = heap.take(bytes);
  if (!block) throw new RangeError(`Cannot probe ${bytes} bytes: a heap has ${heap.largest} free`);
  return block;
}

/** A variant that runs a record, some times one behind the other. */
function variantOf(
  processor: Processor,
  heap: Heap,
  name: string,
  record: Uint32Array,
  count = 1,
): Variant {
  const records = take(heap, count * record.byteLength);
  const words = heap.words(records.address, count * record.length);
  const { threads } = processor;
  return {
    name: `${name}, ${threads} thread${threads === 1 ? "" : "s"}`,
    times() {
      const times = Array.from({ length: TIMES }, () => {
        // Threads count in a record what they have done.
        for (let i = 0; i < count; i++) words.set(record, i * record.length);
        const start = performance.now();
        processor.run(records, 0, count);
        return performance.now() - start;
      });
      return Promise.resolve(times);
    },
  };
}

/**
 * The best streaming read of memory, in GB/s (10⁹ bytes).
 *
 * @param heap of the processor, in which what is read is put
 * @param bytes to be read, about: more than the caches hold
 * @throws {RangeError} for more than a heap holds
 */
export function memoryReadProbe(processor: Processor, heap: Heap, bytes: number): Probe {
  const pieces = Math.max(processor.threads, Math.round(bytes / PIECE));
  const { address: data } = take(heap, pieces * PIECE);
  const { address: sums } = take(heap, pieces * 16);
  // Memory that was never written may be one page of zeros.
  heap.bytes(data, pieces * PIECE).fill(0x55);
  const variants = READ_STREAMS.map((streams) =>
    variantOf(
      processor,
      heap,
      streams === 1 ? "front to back" : `${streams} places at a time`,
      readRecord({ data, sums, pieces, bytes: PIECE, streams }),
    )
  );
  return new BestProbe(() => variants, (ms) => pieces * PIECE / ms / 1e6);
}

/** The best plain f32 product, in GFLOP/s; a multiplication and an addition are two. */
export function arithmeticProbe(processor: Processor, heap: Heap): Probe {
  const numbers = (count: number) => {
    const { address } = take(heap, 4 * count);
    // Zeros could be faster than numbers; and sums must not overflow, however often they are added to.
    const data = heap.floats(address, count);
    for (let i = 0; i < count; i++) data[i] = (i * 7919 % 1024) / 1024 - 0.5;
    return address;
  };
  const x = numbers(POSITIONS * COLUMNS);
  const w = numbers(ROWS * COLUMNS);
  const y = numbers(POSITIONS * ROWS);
  const record = productRecord({ x, w, y, positions: POSITIONS, rows: ROWS, columns: COLUMNS });
  const name = `tiles of ${PRODUCT_ROWS} rows × ${PRODUCT_POSITIONS} positions`;
  const variant = variantOf(processor, heap, name, record, PRODUCTS);
  const flops = PRODUCTS * 2 * POSITIONS * ROWS * COLUMNS;
  return new BestProbe(() => [variant], (ms) => flops / ms / 1e6);
}

/**
 * The probes of the processor, in a heap of their own: a large model may leave no room in others.
 *
 * @param shapes of the products: what the best plain one does hardly depends on them
 * @param bytes that the read probe reads, about
 */
export function cpuProbes(
  processor: Processor,
  shapes: readonly ProductShape[],
  bytes: number,
): DeviceProbes {
  const heap = processor.addHeap();
  const read = memoryReadProbe(processor, heap, bytes);
  const product = arithmeticProbe(processor, heap);
  const problem = "the CPU backend runs without a GPU";
  return {
    read,
    products: shapes.map(() => product),
    others: [],
    missing: [{ name: "empty dispatch", problem }, { name: "read-back", problem }],
    [Symbol.dispose]: () => processor.dropHeap(heap),
  };
}
