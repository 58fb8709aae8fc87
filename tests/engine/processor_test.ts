/** The processor as a device: heaps, threads, and models in several heaps. */
import assert from "node:assert/strict";
import type { Session } from "../../engine/backend.ts";
import { cpuEngine } from "../../engine/cpu/engine.ts";
import { type Block, CONTROL, Heap } from "../../engine/cpu/heap.ts";
import { Processor } from "../../engine/cpu/processor.ts";
import { TileMemory } from "../../engine/cpu/tile_memory.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { randomFile, type RandomLlamaOptions } from "../support/models/random_llama.ts";
import { deno } from "../support/command.ts";

Deno.test("a heap gives out what is free, and joins what comes back", () => {
  const heap = new Heap();
  const all = heap.largest;
  const blocks = [1, 64, 100, 2 ** 20, 3].map((bytes) => heap.take(bytes)!);
  const places = blocks.map(({ address, bytes }) => [address, address + bytes]);
  places.forEach(([from, to], i) =>
    places.slice(i + 1).forEach(([start, end]) => assert.ok(to <= start || end <= from))
  );
  assert.ok(blocks.every(({ address }) => address % 64 === 0 && address > CONTROL));
  assert.equal(heap.take(all), undefined);
  for (const i of [1, 3, 0, 4, 2]) heap.giveBack(blocks[i]);
  assert.equal(heap.largest, all);
  assert.equal(heap.used, 0);
  const whole = heap.take(all) as Block;
  assert.equal(heap.largest, 0);
  heap.giveBack(whole);
});

const MODEL: RandomLlamaOptions = { layers: 5, width: 64, heads: 4, kvHeads: 2, ffnWidth: 96 };

/** Bytes that the small models need with a session. */
const ROOM = 24 * 2 ** 20;

/** More than any heap has room for. */
const NO_ROOM = 2 ** 32;

/** All points of a prompt, of a short one, and of three tokens after it. */
async function everything(session: Session, names: readonly string[]): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  const pass = async (ids: readonly number[] | "next") => {
    const sampling = { temperature: 0.8, seed: 3 };
    const rows = ids === "next" ? 1 : ids.length;
    const tensors = await session.pass({ ids, rows, wanted: names, sampling });
    results.push(...names.map((name) => tensors.get(name)!.data));
    const chosen = { ids, wanted: ["sample", "logits"], sampling };
    if (ids === "next") return;
    // Fused as it is when nobody looks.
    session.rewind(session.position - rows);
    results.push((await session.pass(chosen)).get("logits")!.data);
  };
  await pass(Array.from({ length: 40 }, (_, i) => 3 + i * 7 % 50));
  await pass([4, 8, 15]);
  for (let i = 0; i < 3; i++) await pass("next");
  return results;
}

function sameBits(actual: readonly Float32Array[], expected: readonly Float32Array[]): boolean {
  const bits = (data: Float32Array) => new Uint32Array(data.slice().buffer);
  return actual.every((data, i) => {
    const others = bits(expected[i]);
    return bits(data).every((word, at) => word === others[at]);
  });
}

Deno.test("the bits depend neither on the number of threads nor on the number of heaps", async () => {
  const file = await randomFile(MODEL);
  const config = readConfig(file);
  const outcomes: Float32Array[][] = [];
  for (const threads of [1, 2, 3, 5]) {
    const small = { home: 0, weights: 70_000 };
    for (
      const heapLimits of [
        undefined,
        { ...small, values: 2 ** 27 },
        // Caches lie in a heap of their own.
        { ...small, values: NO_ROOM },
      ]
    ) {
      const processor = new Processor(threads);
      assert.deepEqual([processor.mostThreads, processor.threads], [threads, 1]);
      processor.expect(Infinity);
      assert.equal(processor.threads, threads);
      const engine = await cpuEngine(file, config, processor, { heapLimits });
      const names = [...planValues(engine.plan).keys()];
      const session = engine.session({ capacity: 64 });
      outcomes.push(await everything(session, names));
      session.dispose();
      engine.dispose();
      assert.equal(processor.home.used, 0, "all has come back");
      processor.close();
    }
  }
  outcomes.forEach((each, i) => assert.ok(sameBits(each, outcomes[0]), `outcome ${i}`));
});

Deno.test("the bits do not depend on the addresses, which go beyond 2 and 3 GiB", async () => {
  const outcomes: Float32Array[][] = [];
  for (const type of ["Q4_0", "F16"] as const) {
    const file = await randomFile({ ...MODEL, width: 128, ffnWidth: 256, type });
    outcomes.length = 0;
    // Untouched pages take no room. The last time the heap is filled up to its end.
    for (const [taken, left] of [[0], [2 ** 31 + 2 ** 29], [2 ** 31 + 3 * 2 ** 29], [0, ROOM]]) {
      const processor = new Processor(2);
      const { home } = processor;
      const below = home.take(left ? home.largest - left : taken)!;
      // The limits leave the rest of the heap for values.
      const heapLimits = { home: 2 ** 30, weights: 2 ** 32, values: 0 };
      const engine = await cpuEngine(file, readConfig(file), processor, { heapLimits });
      const session = engine.session({ capacity: 64 });
      outcomes.push(await everything(session, [...planValues(engine.plan).keys()]));
      session.dispose();
      engine.dispose();
      home.giveBack(below);
      assert.equal(home.used, 0);
      processor.close();
    }
    outcomes.forEach((each, i) => assert.ok(sameBits(each, outcomes[0]), `${type} ${i}`));
  }
});

/** Counts the heaps that there are beside the home heap. */
class CountedProcessor extends Processor {
  heaps = 0;
  most = 0;

  override addHeap(): Heap {
    this.most = Math.max(this.most, ++this.heaps);
    return super.addHeap();
  }

  override dropHeap(heap: Heap): void {
    this.heaps--;
    super.dropHeap(heap);
  }
}

Deno.test("a model's heaps end with it, and with a load that fails", async () => {
  const file = await randomFile(MODEL);
  const config = readConfig(file);
  const processor = new CountedProcessor(2);
  const heapLimits = { home: 0, weights: 70_000, values: NO_ROOM };
  const engine = await cpuEngine(file, config, processor, { heapLimits });
  const weightHeaps = processor.heaps;
  assert.ok(weightHeaps > 2);
  const session = engine.session({ capacity: 64 });
  await session.pass({ ids: [3, 4, 5] });
  assert.ok(processor.heaps > weightHeaps, "the caches have heaps");
  session.dispose();
  assert.equal(processor.heaps, weightHeaps);
  engine.dispose();
  assert.equal(processor.heaps, 0);

  processor.most = 0;
  const stop = new AbortController();
  const loading = cpuEngine(file, config, processor, {
    heapLimits,
    signal: stop.signal,
    onProgress: (done, total) => done > total / 2 && stop.abort(),
  });
  await assert.rejects(loading, { name: "AbortError" });
  assert.ok(processor.most > 2);
  assert.equal(processor.heaps, 0);
  processor.close();
});

Deno.test("the memory of a heap that is dropped goes back to the system", async () => {
  const processor = new Processor(3);
  const bytes = 2 ** 28;
  const fill = () => {
    const heap = processor.addHeap();
    heap.bytes(heap.take(bytes)!.address, bytes).fill(1);
    return heap;
  };
  const drop = () => processor.dropHeap(fill());
  const before = Deno.memoryUsage().rss;
  drop();
  const deadline = performance.now() + 10_000;
  while (Deno.memoryUsage().rss > before + bytes / 2 && performance.now() < deadline) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assert.ok(Deno.memoryUsage().rss < before + bytes / 2);
  processor.close();
});

Deno.test("a model that is larger than the free memory is refused before anything is taken", async () => {
  const file = await randomFile(MODEL);
  const processor = new CountedProcessor(1);
  const limits = { home: 0, weights: 70_000, values: 0 };
  assert.throws(
    () => new TileMemory(processor, file, { limits, free: 2 ** 18 }),
    /^RangeError: Cannot load the model: its weights take \d+ MiB of memory, 0 MiB are free; end/,
  );
  assert.equal(processor.most, 0);
  // What a base has loaded counts no more.
  new TileMemory(processor, file, { limits, base: file, free: 0 });
  processor.close();
});

Deno.test("a hundred passes give the same bits", async () => {
  const file = await randomFile(MODEL);
  const processor = new Processor(3);
  processor.expect(Infinity);
  const engine = await cpuEngine(file, readConfig(file), processor);
  const session = engine.session({ capacity: 64 });
  const pass = async (ids: number[]) => {
    session.rewind(0);
    return [(await session.pass({ ids })).get("logits")!.data];
  };
  for (const length of [1, 5, 40]) {
    const ids = Array.from({ length }, (_, i) => 3 + i * 7 % 50);
    const first = await pass(ids);
    for (let i = 0; i < 100; i++) assert.ok(sameBits(await pass(ids), first), `pass ${i}`);
  }
  session.dispose();
  engine.dispose();
  processor.close();
});

Deno.test("a process ends though threads wait, and needs no permission", async () => {
  const script = new URL("../support/processes/processor_process.ts", import.meta.url);
  const { code, out, err } = await deno(["run", "--quiet", "--no-prompt", script.href]);
  assert.equal(err, "");
  assert.deepEqual([code, out], [0, "3 threads\n"]);
});

Deno.test("threads start when there is work for them, also in the middle of a session and with heaps that are there", async () => {
  const file = await randomFile(MODEL);
  const config = readConfig(file);
  const outcomes: Float32Array[][] = [];
  for (const starts of [false, true]) {
    const processor = new Processor(3);
    const engine = await cpuEngine(file, config, processor, {
      heapLimits: { home: 0, weights: 70_000, values: 2 ** 27 },
    });
    const session = engine.session({ capacity: 64 });
    const results: Float32Array[] = [];
    for (const id of [3, 5, 8, 13]) {
      results.push((await session.pass({ ids: [id] })).get("logits")!.data);
      if (starts && id === 5) processor.expect(Infinity);
    }
    assert.equal(processor.threads, starts ? 3 : 1);
    outcomes.push(results);
    session.dispose();
    engine.dispose();
    processor.close();
  }
  assert.ok(sameBits(outcomes[1], outcomes[0]));
});
