/** Seeded random numbers for tests (mulberry32): the same seed, the same numbers, everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 random bits as an unsigned integer. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return (mixed ^ mixed >>> 14) >>> 0;
  }

  /** From `low` (included) to `high` (not included). */
  uniform(low: number, high: number): number {
    return low + (high - low) * (this.bits() / 2 ** 32);
  }

  /** An integer from `low` (included) to `high` (not included). */
  integer(low: number, high: number): number {
    return Math.floor(this.uniform(low, high));
  }

  /** Normal distribution around zero (Box and Muller). */
  normal(deviation = 1): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.bits() / 2 ** 32));
    return deviation * radius * Math.cos(2 * Math.PI * this.bits() / 2 ** 32);
  }

  /** Random bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.bits() >>> 24);
  }
}
