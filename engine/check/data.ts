/** Seeded numbers and weights for the kernels' checks. */
import type { Packing, Planes } from "../../kernels/weights/packings.ts";
import type { Pass, RowReader } from "../../kernels/kernel.ts";
import { GGML_TYPES } from "../gguf/types.ts";

/**
 * `real` numbers have many bits, so that sums round. `whole` ones are so small that sums are exact in f32 in any order:
 * a kernel then has to give exactly the twin's numbers, and one term left out shows in any length.
 */
export type Kind = "real" | "whole";

/** Seeded random numbers: xorshift (Marsaglia 2003), 32 bits of state. */
export class Noise {
  #state: number;

  /** @param seed any text: the same text, the same numbers */
  constructor(seed: string) {
    let hash = 0x811c9dc5; // FNV-1a
    for (let i = 0; i < seed.length; i++) hash = Math.imul(hash ^ seed.charCodeAt(i), 0x01000193);
    this.#state = hash || 1;
  }

  /** 32 bits, unsigned. */
  bits(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (this.#state = x) >>> 0;
  }

  /** One of a list. */
  pick<T>(list: readonly T[]): T {
    return list[this.bits() % list.length];
  }

  /** `real`: uniform in [−2, 2); `whole`: −2, −1, 0, 1, 2. */
  numbers(length: number, kind: Kind = "real"): Float32Array<ArrayBuffer> {
    return Float32Array.from(
      { length },
      kind === "whole" ? () => this.bits() % 5 - 2 : () => this.bits() / 2 ** 30 - 2,
    );
  }
}

/** The lowest and highest f16 bits without a sign that are subnormal. */
const SUBNORMAL = [1, 1023];

function f16Bits(value: number): number {
  return new Uint16Array(Float16Array.of(value).buffer)[0];
}

/**
 * `rows` · `columns` numbers as a GGUF file stores them. Quantized ones are blocks of random bits, some all zeros and
 * some all ones (the largest quants), under scales and minimums of either sign, zero and subnormal ones among them.
 */
export function randomBlocks(
  packing: Packing,
  count: number,
  noise: Noise,
  kind: Kind,
): Uint8Array<ArrayBuffer> {
  const type = GGML_TYPES.find(({ name }) => name === packing.name)!;
  if (type.blockSize === 1) return plainNumbers(packing, noise.numbers(count, kind));

  const bytes = new Uint8Array(count / type.blockSize * type.blockBytes);
  const view = new DataView(bytes.buffer);
  const scales = type.wide.filter(([, width]) => width === 2)
    .flatMap(([offset, , fields]) => Array.from({ length: fields }, (_, i) => offset + 2 * i));
  for (let block = 0; block < bytes.length; block += type.blockBytes) {
    const filling = noise.bits() % 16;
    for (let i = 0; i < type.blockBytes; i++) {
      bytes[block + i] = filling === 0 ? 0 : filling === 1 ? 255 : noise.bits() >>> 24;
    }
    if (filling === 0) continue;
    for (const offset of scales) view.setUint16(block + offset, scaleBits(noise, kind), true);
  }
  return bytes;
}

function scaleBits(noise: Noise, kind: Kind): number {
  if (kind === "whole") return f16Bits(noise.pick([-1, 1, 1, 2]));
  const sign = noise.pick([0, 0x8000]);
  switch (noise.bits() % 8) {
    case 0:
      return sign;
    case 1:
      return sign | noise.pick([...SUBNORMAL, 1 + noise.bits() % 1023]);
    default:
      return sign | f16Bits((1 + noise.bits() / 2 ** 32) / 64);
  }
}

function plainNumbers(
  packing: Packing,
  values: Float32Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  if (packing.name === "F16") return new Uint8Array(Float16Array.from(values).buffer);
  const bytes = new Uint8Array(values.buffer);
  return packing.name === "BF16" ? bytes.filter((_, i) => i % 4 >= 2) : bytes;
}

/** Matrices one behind another in the planes of one buffer, as loading lays them, and their numbers. */
export interface PackedMatrices {
  readonly packing: Packing;
  readonly columns: number;
  /** The rows as a file has them. */
  readonly bytes: Uint8Array;
  /** The three planes in a row. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Word offsets of the later planes. */
  readonly scales: number;
  readonly highs: number;
  readonly readers: readonly RowReader[];
}

/** Packs matrices of `rows[i]` rows of file bytes each. */
export function packMatrices(
  packing: Packing,
  columns: number,
  rows: readonly number[],
  bytes: Uint8Array,
): PackedMatrices {
  const total = rows.reduce((sum, count) => sum + count, 0);
  const perRow = packing.words(columns);
  const scales = total * perRow.quants;
  const highs = scales + total * perRow.scales;
  const words = new Uint32Array(Math.ceil((highs + total * perRow.highs) / 4) * 4);
  const planes: Planes = {
    quants: words.subarray(0, scales),
    scales: words.subarray(scales, highs),
    highs: words.subarray(highs),
  };
  packing.pack(bytes, total, columns, planes, 0);
  const numbers = new Float32Array(total * columns);
  for (let row = 0; row < total; row++) {
    packing.unpack(planes, row, columns, numbers.subarray(row * columns, (row + 1) * columns));
  }
  let first = 0;
  const readers = rows.map((count) => {
    const reader = numbersReader(
      numbers.subarray(first * columns, (first + count) * columns),
      columns,
    );
    first += count;
    return reader;
  });
  return { packing, columns, bytes, words, scales, highs, readers };
}

/** A reader over numbers in memory, [rows, columns]. */
export function numbersReader(numbers: Float32Array, columns: number): RowReader {
  return {
    rows: numbers.length / columns,
    columns,
    read: (row, out) => out.set(numbers.subarray(row * columns, (row + 1) * columns)),
  };
}

/** Turns of RoPE [positions, ropeWidth / 2] as (cos, sin); whole ones are quarter turns. */
export function turns(
  noise: Noise,
  positions: number,
  ropeWidth: number,
  kind: Kind = "real",
): Float32Array {
  const table = new Float32Array(positions * ropeWidth);
  for (let i = 0; i < table.length; i += 2) {
    if (kind === "whole") table.set(noise.pick([[1, 0], [0, 1], [-1, 0], [0, -1]]), i);
    else {
      const angle = noise.bits();
      table.set([Math.cos(angle), Math.sin(angle)], i);
    }
  }
  return table;
}

/** Branches of 1, 2, 3, … positions, which go on from all that is cached, from nothing, or from a part of it. */
export function branchGaps({ tokens, start }: Pick<Pass, "tokens" | "start">): Float32Array {
  const gaps: number[] = [];
  for (let length = 1; gaps.length < 2 * tokens; length++) {
    const gap = [[start, 0, Math.ceil(start / 3)][length % 3], start + gaps.length / 2];
    for (let i = 0; i < length; i++) gaps.push(...gap);
  }
  return Float32Array.from(gaps.slice(0, 2 * tokens));
}
