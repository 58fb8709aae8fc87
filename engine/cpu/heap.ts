/** Shared memory that kernels compute in: blocks of one WebAssembly memory. */

/** Bytes of every heap: all that a 32-bit address reaches. Pages that nobody has touched take no room. */
export const HEAP_BYTES = 2 ** 32;

/** Where threads meet, in every heap: behind the kernels' own constants, which the compiler puts at the beginning. */
export const CONTROL = 65536;
/** Bytes that are kept for that. */
export const CONTROL_BYTES = 64;
/** The first byte that is given out. */
const RESERVED = CONTROL + CONTROL_BYTES;

/** Blocks begin at multiples of this: a cache line. */
const ALIGNMENT = 64;

/** What a block of so many bytes takes. */
function roundUp(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
}

/** Where blocks end: kernels may look that far ahead of their numbers, and an address there must not begin again at zero. */
const END = HEAP_BYTES - 2 ** 24;

/** Numbers somewhere in a heap. */
export interface Block {
  readonly heap: Heap;
  /** Of its first byte. */
  readonly address: number;
  readonly bytes: number;
}

/** A memory in which blocks are given out and taken back. */
export class Heap {
  readonly memory: WebAssembly.Memory;
  /** Free runs by rising address: first byte and length. */
  #free: { address: number; bytes: number }[] = [{ address: RESERVED, bytes: END - RESERVED }];
  /** Bytes of blocks that are given out. */
  used = 0;

  /** @throws {RangeError} where there is no room for the addresses */
  constructor() {
    const pages = HEAP_BYTES / 65536;
    try {
      this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (error) {
      throw new RangeError(
        "Cannot reserve 4096 MiB of addresses for the CPU backend: the system gives this process no more; " +
          "raise its limit of virtual memory (ulimit -v), or dispose of other models",
        { cause: error },
      );
    }
  }

  /** Bytes of the largest block that it has room for. */
  get largest(): number {
    return Math.max(0, ...this.#free.map(({ bytes }) => bytes));
  }

  /** A block of so many bytes, whatever it contains; undefined where there is no room. The first run that fits is taken. */
  take(bytes: number): Block | undefined {
    const size = roundUp(bytes);
    const at = this.#free.findIndex((run) => run.bytes >= size);
    if (at < 0) return undefined;
    const { address, bytes: room } = this.#free[at];
    if (room === size) this.#free.splice(at, 1);
    else this.#free[at] = { address: address + size, bytes: room - size };
    this.used += size;
    return { heap: this, address, bytes };
  }

  /** Takes a block back. */
  giveBack(block: Block): void {
    const { address } = block;
    const bytes = roundUp(block.bytes);
    this.used -= bytes;
    const at = this.#free.findIndex((run) => run.address > address);
    const next = at < 0 ? this.#free.length : at;
    this.#free.splice(next, 0, { address, bytes });
    this.#join(next);
    this.#join(next - 1);
  }

  /** Makes one of a free run and the one behind it where they touch. */
  #join(at: number): void {
    const [run, after] = [this.#free[at], this.#free[at + 1]];
    if (!run || !after || run.address + run.bytes !== after.address) return;
    run.bytes += after.bytes;
    this.#free.splice(at + 1, 1);
  }

  /** Numbers at an address, in place. */
  floats(address: number, count: number): Float32Array<SharedArrayBuffer> {
    return new Float32Array(this.memory.buffer as unknown as SharedArrayBuffer, address, count);
  }

  /** Words at an address, in place. */
  words(address: number, count: number): Uint32Array<SharedArrayBuffer> {
    return new Uint32Array(this.memory.buffer as unknown as SharedArrayBuffer, address, count);
  }

  /** Bytes at an address, in place. */
  bytes(address: number, count: number): Uint8Array<SharedArrayBuffer> {
    return new Uint8Array(this.memory.buffer as unknown as SharedArrayBuffer, address, count);
  }
}
