/** What a processor can do, found by small kernels of our own on all threads of the CPU backend: how fast memory is read, and f32 matrices are multiplied. */
import {
  type Processor,
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

/** A variant that runs records. */
function variantOf(processor: Processor, name: string, records: readonly Uint32Array[]): Variant {
  return {
    name: `${name}, ${processor.threads} thread${processor.threads === 1 ? "" : "s"}`,
    async times() {
      const times: number[] = [];
      for (let i = 0; i < TIMES; i++) {
        const start = performance.now();
        await processor.run(records);
        times.push(performance.now() - start);
      }
      return times;
    },
  };
}

/**
 * The best streaming read of memory, in GB/s (10⁹ bytes).
 *
 * @param bytes to be read, about: more than the caches hold
 * @throws {Error} when there is not so much memory left
 */
export function memoryReadProbe(processor: Processor, bytes: number): Probe {
  const pieces = Math.max(processor.threads, Math.round(bytes / PIECE));
  const data = processor.allocate(pieces * PIECE);
  const sums = processor.allocate(pieces * 16);
  // Memory that was never written may be one page of zeros.
  new Uint8Array(processor.memory.buffer, data, pieces * PIECE).fill(0x55);
  const variants = () =>
    READ_STREAMS.map((streams) =>
      variantOf(
        processor,
        streams === 1 ? "front to back" : `${streams} places at a time`,
        [readRecord({ data, sums, pieces, bytes: PIECE, streams })],
      )
    );
  return new BestProbe(variants, (ms) => pieces * PIECE / ms / 1e6, () => {
    processor.free(sums);
    processor.free(data);
  });
}

/** The best plain f32 product, in GFLOP/s; a multiplication and an addition are two. */
export function arithmeticProbe(processor: Processor): Probe {
  const numbers = (count: number) => {
    const address = processor.allocate(4 * count);
    // Zeros could be faster than numbers, and sums must not overflow however often they are added to.
    const data = new Float32Array(processor.memory.buffer, address, count);
    for (let i = 0; i < count; i++) data[i] = (i * 7919 % 1024) / 1024 - 0.5;
    return address;
  };
  const x = numbers(POSITIONS * COLUMNS);
  const w = numbers(ROWS * COLUMNS);
  const y = numbers(POSITIONS * ROWS);
  const shape = { positions: POSITIONS, rows: ROWS, columns: COLUMNS };
  // The processor keeps a record's counters in it: one for each time.
  const records = Array.from({ length: PRODUCTS }, () => productRecord({ x, w, y, ...shape }));
  const name = `tiles of ${PRODUCT_ROWS} rows × ${PRODUCT_POSITIONS} positions`;
  const flops = PRODUCTS * 2 * POSITIONS * ROWS * COLUMNS;
  const variants = () => [variantOf(processor, name, records)];
  return new BestProbe(variants, (ms) => flops / ms / 1e6, () => {
    for (const address of [y, w, x]) processor.free(address);
  });
}

/**
 * The probes of the processor, which is disposed of with them.
 *
 * @param shapes of the products: what the best plain one does hardly depends on them
 * @param bytes that the read probe reads, about
 * @throws {Error} when there is not so much memory left
 */
export function cpuProbes(
  processor: Processor,
  shapes: readonly ProductShape[],
  bytes: number,
): DeviceProbes {
  const read = memoryReadProbe(processor, bytes);
  const product = arithmeticProbe(processor);
  const problem = "the CPU backend runs without a GPU";
  return {
    read,
    products: shapes.map(() => product),
    others: [],
    missing: [{ name: "empty dispatch", problem }, { name: "read-back", problem }],
    [Symbol.dispose]() {
      for (const probe of [read, product]) probe.dispose();
      processor[Symbol.dispose]();
    },
  };
}
