/** Random numbers, and blocks of them as GGUF files store weights. */
import { GGML_TYPES } from "../../engine/gguf/types.ts";

/** Seeded random numbers (mulberry32, 32 bits of state): the same seed, the same numbers, everywhere. */
export class Random {
  #state: number;

  /** @param seed unsigned 32-bit integer */
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

/** Quantized types that {@linkcode randomBlocks} makes. */
const QUANTIZED = [
  ...["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] as const,
  ...["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"] as const,
];
type QuantizedType = typeof QUANTIZED[number];

/** Types that {@linkcode randomBlocks} makes. */
export const RANDOM_TYPES = ["F32", "F16", "BF16", ...QUANTIZED] as const;
/** One of them. */
export type RandomType = typeof RANDOM_TYPES[number];

/**
 * Random numbers as ggml stores them, with the given standard deviation (about).
 *
 * @param count a multiple of the type's block size
 */
export function randomBlocks(
  name: RandomType,
  count: number,
  deviation: number,
  random: Random,
): Uint8Array<ArrayBuffer> {
  const type = GGML_TYPES.find((each) => each.name === name)!;
  if (name === "F32") return floats(new Float32Array(count), deviation, random);
  if (name === "F16") return floats(new Float16Array(count), deviation, random);
  if (name === "BF16") {
    const bytes = floats(new Float32Array(count), deviation, random);
    return bytes.filter((_, i) => i % 4 >= 2);
  }
  const [fields, spread] = SCALES[name];
  const bytes = random.bytes(count / type.blockSize * type.blockBytes);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < bytes.length; block += type.blockBytes) {
    const scale = deviation / spread * random.uniform(0.5, 1.5);
    for (const [offset, factor] of fields) {
      // Q4_0 and its like have scales of either sign; where there is a minimum d is positive.
      const sign = fields.length === 1 && random.bits() % 2 === 0 ? -1 : 1;
      view.setFloat16(block + offset, sign * factor * scale, true);
    }
  }
  return bytes;
}

type Scales = readonly [readonly (readonly [number, number])[], number];

/**
 * The f16 fields of a block of random bits, as [offset, multiple of the scale], with which the
 * numbers have zero mean and the scale times the last figure as standard deviation.
 */
const SCALES: Readonly<Record<QuantizedType, Scales>> = {
  Q8_0: [[[0, 1]], 74],
  Q4_0: [[[0, 1]], 4.6],
  Q5_0: [[[0, 1]], 9.2],
  Q4_1: [[[0, 1], [2, -7.5]], 4.6],
  Q5_1: [[[0, 1], [2, -15.5]], 9.2],
  Q2_K: [[[80, 1], [82, 1.5]], 14],
  Q3_K: [[[108, 1]], 43],
  Q4_K: [[[0, 1], [2, 7.5]], 290],
  Q5_K: [[[0, 1], [2, 15.5]], 590],
  Q6_K: [[[208, 1]], 1360],
};

function floats(
  numbers: Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>,
  deviation: number,
  random: Random,
): Uint8Array<ArrayBuffer> {
  for (let i = 0; i < numbers.length; i++) numbers[i] = random.normal(deviation);
  return new Uint8Array(numbers.buffer);
}
