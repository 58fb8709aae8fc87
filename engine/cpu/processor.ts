/** The processor as a device: threads that run steps in WebAssembly, in memory that all of them share. */
import kernelsBase64 from "../../kernels/kernels.wasm.base64" with { type: "text" };
import { type Block, CONTROL, CONTROL_BYTES, Heap } from "./heap.ts";
import { collectGarbage } from "./garbage.ts";
import { startThread } from "./threads.ts";

/** What the module offers. */
interface Kernels {
  /** Hands a job out to the threads that wait. */
  start(control: number): void;
  /** Runs the steps `from` to `to` (exclusive) of the records at `steps`, as one of so many threads. */
  run(
    steps: number,
    from: number,
    to: number,
    control: number,
    thread: number,
    threads: number,
  ): void;
  /** The exact numbers of one row. */
  read_row(descriptor: number, row: number, to: number): void;
}

/** Words of the control block of the home heap; program.as.ts says what the first ones are, in every heap; worker.js what these. */
const READY = 6;
const JOB = 8;

/** Multiplications that are worth the start of threads, which takes 20 ms: more than a token of a small model. */
const WORTH_THREADS = 1e8;

/** Most milliseconds that threads may take to start. */
const PATIENCE = 60_000;

/** A heap as the threads know it. */
interface Place {
  readonly number: number;
  readonly kernels: Kernels;
}

/**
 * Threads and memory. The thread that asks computes too; the others start when there is work for them. Where there can be no others, or
 * none that could share its memory, it computes alone. What is computed does not depend on the number of threads.
 */
export class Processor {
  /** Most threads that will compute. */
  readonly mostThreads: number;
  /** For what is small; a large model has heaps of its own, which end with it. */
  readonly home: Heap;
  readonly #module: WebAssembly.Module;
  readonly #places = new Map<Heap, Place>();
  readonly #workers: Worker[] = [];
  readonly #words: Int32Array;
  #started = false;
  #heaps = 0;
  /** Workers that are not known to have taken what was sent to them. */
  #awaited = 0;

  /** @param threads how many compute; by default as many as there are cores */
  constructor(threads: number = navigator.hardwareConcurrency) {
    this.#module = new WebAssembly.Module(Uint8Array.fromBase64(kernelsBase64));
    this.home = new Heap();
    this.#words = new Int32Array(this.home.memory.buffer, CONTROL, CONTROL_BYTES / 4);
    this.#place(this.home);
    this.mostThreads = Math.max(1, Math.floor(threads));
  }

  /** How many compute so far. */
  get threads(): number {
    return 1 + this.#workers.length;
  }

  /**
   * Starts the other threads if that is worth it.
   *
   * @param work multiplications that are to come
   */
  expect(work: number): void {
    if (this.#started || work < WORTH_THREADS) return;
    this.#started = true;
    try {
      for (let i = 1; i < this.mostThreads; i++) this.#workers.push(startThread());
    } catch {
      // Where workers are forbidden, or no more of them can be had, those that there are serve.
    }
    try {
      this.#workers.forEach((worker, i) => this.#send(worker, this.home, { thread: i + 1 }));
      for (const heap of this.#places.keys()) {
        if (heap !== this.home) this.#tell(heap);
      }
    } catch {
      // Memory cannot be handed to workers here (a page that is not isolated).
      this.close();
    }
  }

  /** A heap of its own for what is large. */
  addHeap(): Heap {
    const heap = new Heap();
    this.#place(heap);
    this.#tell(heap);
    return heap;
  }

  /** Forgets a heap: its memory is free when nobody holds it any more. */
  dropHeap(heap: Heap): void {
    const { number } = this.#places.get(heap)!;
    this.#places.delete(heap);
    this.#waitForWorkers();
    // They take up their work again at the next message.
    this.#admit(number);
    for (const worker of this.#workers) this.#send(worker, this.home, { collect: true });
    collectGarbage();
  }

  /** Runs the steps `from` to `to` (exclusive) of a program's records (records.ts) on all threads. */
  run({ heap, address }: Block, from: number, to: number): void {
    this.#waitForWorkers();
    const { number, kernels } = this.#places.get(heap)!;
    if (this.#workers.length > 0) {
      this.#words.set([number, address, from, to], JOB);
      this.kernels(this.home).start(CONTROL);
    }
    kernels.run(address, from, to, CONTROL, 0, this.threads);
  }

  /** The kernels of a heap, for what one thread does alone. */
  kernels(heap: Heap): Kernels {
    return this.#places.get(heap)!.kernels;
  }

  /** Ends the threads. */
  close(): void {
    for (const worker of this.#workers.splice(0)) worker.terminate();
    this.#awaited = 0;
  }

  #place(heap: Heap): void {
    const { exports } = new WebAssembly.Instance(this.#module, { env: { memory: heap.memory } });
    const kernels = exports as unknown as Kernels;
    this.#places.set(heap, { number: this.#heaps++, kernels });
  }

  /** Tells the threads of a heap. */
  #tell(heap: Heap): void {
    this.#waitForWorkers();
    this.#admit(0);
    for (const worker of this.#workers) this.#send(worker, heap);
  }

  /** Lets the threads look for a message; they forget a heap. */
  #admit(forget: number): void {
    if (this.#workers.length === 0) return;
    this.#words.set([-1, forget, 0, 0], JOB);
    this.kernels(this.home).start(CONTROL);
  }

  /** Sends a heap to a worker; `thread` says which one it is, the first time, `collect` that it has forgotten another heap. */
  #send(
    worker: Worker,
    heap: Heap,
    { thread, collect = false }: { thread?: number; collect?: boolean } = {},
  ): void {
    const first = thread === undefined
      ? undefined
      : { control: CONTROL, thread, threads: this.threads };
    const { number } = this.#places.get(heap)!;
    worker.postMessage({
      module: this.#module,
      memory: heap.memory,
      heap: number,
      first,
      collect,
    });
    this.#awaited++;
  }

  #waitForWorkers(): void {
    const from = performance.now();
    while (this.#awaited > 0) {
      const ready = Atomics.load(this.#words, READY);
      if (ready === this.#awaited) {
        Atomics.store(this.#words, READY, 0);
        this.#awaited = 0;
      } else if (performance.now() - from > PATIENCE) {
        throw new Error("the processor's threads do not start; try --threads 1");
      } else Atomics.wait(this.#words, READY, ready, 100);
    }
  }
}
