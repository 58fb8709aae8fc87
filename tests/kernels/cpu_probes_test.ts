/** The processor's probes: each reads and multiplies what it says, on all threads. */
import assert from "node:assert/strict";
import { Processor } from "../../engine/cpu/processor.ts";
import { cpuProbes } from "../../inspect/bench/cpu_probes.ts";
import {
  PRODUCT_POSITIONS,
  PRODUCT_ROWS,
  productRecord,
  READ_STREAMS,
  readRecord,
} from "../../kernels/probes/records.ts";

const processor = new Processor(3);
processor.expect(Infinity);

/** Runs a record in a heap of its own; `fill` gives the heap's blocks their numbers, and says what the record is. */
function runRecord<T>(
  fill: (take: (count: number) => Uint32Array<SharedArrayBuffer>) => {
    readonly record: Uint32Array;
    readonly result: () => T;
  },
): T {
  const heap = processor.addHeap();
  try {
    const { record, result } = fill((count) => {
      const block = heap.take(4 * count)!;
      return heap.words(block.address, count);
    });
    const block = heap.take(record.byteLength)!;
    heap.words(block.address, record.length).set(record);
    processor.run(block, 0, 1);
    return result();
  } finally {
    processor.dropHeap(heap);
  }
}

for (const streams of READ_STREAMS) {
  Deno.test(`reading ${streams} places at a time reads every word once`, () => {
    const [pieces, bytes] = [7, 1024];
    const [got, expected] = runRecord((take) => {
      const data = take(pieces * bytes / 4);
      for (let i = 0; i < data.length; i++) data[i] = Math.imul(i + 1, 0x9e3779b1);
      const sums = take(pieces * 4);
      const addresses = { data: data.byteOffset, sums: sums.byteOffset };
      return {
        record: readRecord({ ...addresses, pieces, bytes, streams }),
        result: () => {
          // Of a piece, the vectors' exclusive or: word by word.
          const exact = Uint32Array.from({ length: pieces * 4 }, (_, i) => {
            const from = (i >> 2) * bytes / 4;
            let sum = 0;
            for (let at = i & 3; at < bytes / 4; at += 4) sum ^= data[from + at];
            return sum;
          });
          return [sums.slice(), exact];
        },
      };
    });
    assert.deepEqual(got, expected);
  });
}

Deno.test("the product is one, and adds to what there is", () => {
  const [positions, rows, columns] = [24, 20, 37];
  const x = (t: number, k: number) => Math.fround(Math.sin(3 * t + k));
  const w = (n: number, k: number) => Math.fround(Math.cos(n + 5 * k) / 8);
  const worst = runRecord((take) => {
    const floats = (count: number) => {
      const words = take(count);
      return new Float32Array(words.buffer, words.byteOffset, count);
    };
    const [xs, ws, ys] = [
      floats(positions * columns),
      floats(rows * columns),
      floats(positions * rows),
    ];
    const place = (i: number, at: number, all: number, tile: number) =>
      (Math.floor(i / tile) * all + at) * tile + i % tile;
    for (let k = 0; k < columns; k++) {
      for (let t = 0; t < positions; t++) xs[place(t, k, columns, PRODUCT_POSITIONS)] = x(t, k);
      for (let n = 0; n < rows; n++) ws[place(n, k, columns, PRODUCT_ROWS)] = w(n, k);
    }
    ys.fill(2);
    return {
      record: productRecord({
        ...{ x: xs.byteOffset, w: ws.byteOffset, y: ys.byteOffset },
        ...{ positions, rows, columns },
      }),
      result: () => {
        let worst = 0;
        for (let t = 0; t < positions; t++) {
          for (let n = 0; n < rows; n++) {
            let sum = 2;
            for (let k = 0; k < columns; k++) sum += x(t, k) * w(n, k);
            worst = Math.max(worst, Math.abs(ys[place(t, n, rows, PRODUCT_POSITIONS)] - sum));
          }
        }
        return worst;
      },
    };
  });
  assert.ok(worst < 2e-6, `${worst}`);
});

Deno.test("probes give figures, and know their best variant after the first", async () => {
  const shape = { positions: 1, rows: 8, columns: 8 };
  using probes = cpuProbes(processor, [shape, shape], 2 ** 22);
  assert.equal(probes.products.length, 2);
  for (const probe of [probes.read, ...probes.products]) {
    const figures = [await probe.measure(), await probe.measure()];
    for (const figure of figures) assert.ok(figure > 0 && Number.isFinite(figure), `${figure}`);
    assert.match(probe.variant!, /, 3 threads$/);
  }
  assert.deepEqual(probes.missing.map(({ name }) => name), ["empty dispatch", "read-back"]);
});

Deno.test("sixteen times as much takes longer to read", async () => {
  const milliseconds = async (bytes: number) => {
    using probes = cpuProbes(processor, [], bytes);
    // The least of a few: whatever else the machine does only adds.
    const rates = [await probes.read.measure(), await probes.read.measure()];
    return bytes / Math.max(...rates) / 1e6;
  };
  const [less, more] = [await milliseconds(2 ** 23), await milliseconds(2 ** 27)];
  assert.ok(more > 5 * less, `${less} ms and ${more} ms`);
});
