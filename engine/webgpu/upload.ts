/** Weights on their way from the host to buffers on the device. */
import { type Matrix, type Part, writePlanes, type Writer } from "../model/weights.ts";

/** Bytes of a staging buffer. */
const STAGING_BYTES = 16 * 2 ** 20;
/** Most staging buffers: while one is copied out of, another is filled. */
const MOST_STAGING = 2;

/** How long a lost device may take to say so, in ms. */
const MOMENT = 100;

/** A mapped staging buffer. */
interface Staging {
  readonly buffer: GPUBuffer;
  readonly bytes: ArrayBuffer;
}

/** A staging buffer that is being filled. */
interface Filling {
  readonly buffer: GPUBuffer;
  readonly words: Uint32Array;
  readonly encoder: GPUCommandEncoder;
  used: number;
}

/** What an upload needs of its device. */
interface Receiver {
  readonly gpu: GPUDevice;
  check(): void;
  fail(reason: string): Error;
  createStaging(size: number): Staging;
  destroy(buffer: GPUBuffer): void;
}

/**
 * Copies through a few staging buffers that are used again and again. `queue.writeBuffer` makes one for each call, and where those
 * come from the same memory as the weights, as in software drivers, the holes that they leave are a third of it.
 */
export class Upload implements Writer<GPUBuffer> {
  readonly #device: Receiver;
  #staging = 0;
  /** Those that were submitted, mapped again when they are copied. */
  readonly #submitted: Promise<Staging>[] = [];
  #filling: Filling | undefined;

  constructor(device: Receiver) {
    this.#device = device;
  }

  async write(buffer: GPUBuffer, word: number, data: Uint32Array): Promise<void> {
    for (let done = 0; done < data.length;) {
      const filling = this.#filling ??= await this.#next();
      const { words, encoder, used } = filling;
      const count = Math.min(data.length - done, words.length - used);
      words.set(data.subarray(done, done + count), used);
      encoder.copyBufferToBuffer(filling.buffer, used * 4, buffer, (word + done) * 4, count * 4);
      filling.used += count;
      done += count;
      if (filling.used === words.length) this.#submit(filling);
    }
  }

  async writeRows(
    matrix: Matrix<GPUBuffer>,
    part: Part<GPUBuffer>,
    first: number,
    rows: number,
    bytes: Uint8Array,
  ): Promise<void> {
    await writePlanes(this, matrix, part, first, rows, bytes);
  }

  async flush(): Promise<void> {
    if (this.#filling) this.#submit(this.#filling);
    await Promise.all(this.#submitted);
    this.#device.check();
  }

  async close(): Promise<void> {
    const staging = await Promise.allSettled(this.#submitted.splice(0));
    if (this.#filling) this.#device.destroy(this.#filling.buffer);
    this.#filling = undefined;
    for (const each of staging) {
      if (each.status === "fulfilled") this.#device.destroy(each.value.buffer);
    }
  }

  /** A mapped staging buffer: a new one as long as there may be more of them. */
  async #next(): Promise<Filling> {
    const more = this.#staging < MOST_STAGING;
    if (more) this.#staging++;
    const { buffer, bytes } = more
      ? this.#device.createStaging(STAGING_BYTES)
      : await this.#submitted.shift()!;
    const encoder = this.#device.gpu.createCommandEncoder();
    return { buffer, words: new Uint32Array(bytes), encoder, used: 0 };
  }

  #submit(filling: Filling): void {
    this.#filling = undefined;
    const ready = this.#send(filling);
    ready.catch(() => {}); // it is awaited in its turn
    this.#submitted.push(ready);
  }

  /** Submits the copies out of a staging buffer, and waits until it can be filled again. */
  async #send({ buffer, encoder }: Filling): Promise<Staging> {
    try {
      buffer.unmap();
      this.#device.gpu.queue.submit([encoder.finish()]);
      await buffer.mapAsync(GPUMapMode.WRITE);
      return { buffer, bytes: buffer.getMappedRange() };
    } catch (error) {
      this.#device.destroy(buffer);
      // Where the device is lost, that is what went wrong, and it is told a moment later.
      const { lost } = this.#device.gpu;
      await Promise.race([lost, new Promise((resolve) => setTimeout(resolve, MOMENT))]);
      throw this.#device.fail(`took no weights: ${error}`);
    }
  }
}
