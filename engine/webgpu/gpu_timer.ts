/** How long work takes on the device: by its own clock, where it shows one. */

/** Adds dispatches to a compute pass. */
export type Encode = (pass: GPUComputePassEncoder) => void;

/** Most queries of a set (WebGPU, section 22). */
const MOST_QUERIES = 4096;
/** Without timestamps: so long work is repeated that the 10 ms by which its end is told late do not count. */
const LONG_MS = 200;

/** Measures parts of a submission. */
export class GpuTimer {
  readonly #gpu: GPUDevice;

  constructor(gpu: GPUDevice) {
    this.#gpu = gpu;
  }

  /** Whether the device has a clock. */
  get exact(): boolean {
    return this.#gpu.features.has("timestamp-query");
  }

  /**
   * Runs each part in a compute pass of its own, in this order, and gives the milliseconds of each. Without the device's clock each part
   * is submitted by itself and repeated, so that running it again must give what it gave before.
   */
  async measure(parts: readonly Encode[]): Promise<number[]> {
    if (!this.exact) return await this.#bySubmission(parts);
    const times: number[] = [];
    for (let first = 0; first < parts.length; first += MOST_QUERIES / 2) {
      times.push(...await this.#byClock(parts.slice(first, first + MOST_QUERIES / 2)));
    }
    return times;
  }

  async #byClock(parts: readonly Encode[]): Promise<number[]> {
    const count = 2 * parts.length;
    const querySet = this.#gpu.createQuerySet({ type: "timestamp", count });
    const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    const size = 8 * count;
    const resolved = this.#gpu.createBuffer({ size, usage: QUERY_RESOLVE | COPY_SRC });
    const staging = this.#gpu.createBuffer({ size, usage: COPY_DST | MAP_READ });
    try {
      const encoder = this.#gpu.createCommandEncoder();
      parts.forEach((encode, i) => {
        const pass = encoder.beginComputePass({
          timestampWrites: {
            querySet,
            beginningOfPassWriteIndex: 2 * i,
            endOfPassWriteIndex: 2 * i + 1,
          },
        });
        encode(pass);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
      this.#gpu.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      const stamps = new BigUint64Array(staging.getMappedRange());
      return parts.map((_, i) => Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6);
    } finally {
      querySet.destroy();
      resolved.destroy();
      staging.destroy();
    }
  }

  async #bySubmission(parts: readonly Encode[]): Promise<number[]> {
    const times: number[] = [];
    for (const encode of parts) {
      for (let repetitions = 1;; repetitions *= 4) {
        const ms = await this.#submitted(encode, repetitions);
        if (ms < LONG_MS && repetitions < 4 ** 6) continue;
        times.push(ms / repetitions);
        break;
      }
    }
    return times;
  }

  async #submitted(encode: Encode, repetitions: number): Promise<number> {
    const encoder = this.#gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let i = 0; i < repetitions; i++) encode(pass);
    pass.end();
    const start = performance.now();
    this.#gpu.queue.submit([encoder.finish()]);
    await this.#gpu.queue.onSubmittedWorkDone();
    return performance.now() - start;
  }
}
