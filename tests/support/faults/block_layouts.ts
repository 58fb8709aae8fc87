/** Blocks of quantized weights read wrongly: bytes that the right reading takes for what a wrong reading makes of the right ones. */
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";

/** A change of one block, in place. */
type BlockChange = (block: Uint8Array, view: DataView) => void;

/** A wrong reading of a type. */
export interface WrongReading {
  /** The type of the weight. */
  readonly type: keyof typeof BYTES;
  readonly change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
  /** Other names that are as true. */
  readonly also?: readonly Cause[];
}

/** Bytes of a block. */
const BYTES = { Q4_0: 18, Q8_0: 34, Q5_0: 22, Q3_K: 110, Q4_K: 144, Q5_K: 176, Q6_K: 210 } as const;

/** Each block by itself. */
function each(type: WrongReading["type"], change: BlockChange): WrongReading {
  const size = BYTES[type];
  return {
    type,
    change(bytes) {
      const out = bytes.slice();
      for (let at = 0; at < out.length; at += size) {
        change(out.subarray(at, at + size), new DataView(out.buffer, at, size));
      }
      return out;
    },
  };
}

/** Each block by itself, in a way that has another name too. */
function also(name: Cause, type: WrongReading["type"], change: BlockChange): WrongReading {
  return { ...each(type, change), also: [name] };
}

/** A part of each block taken from the next one; the last one keeps its own. */
function neighbours(type: WrongReading["type"], at: number, length: number): WrongReading {
  const size = BYTES[type];
  return {
    type,
    change(bytes) {
      const out = bytes.slice();
      for (let block = 0; block + size < out.length; block += size) {
        out.set(bytes.subarray(block + size + at, block + size + at + length), block + at);
      }
      return out;
    },
  };
}

const swapNibbles = (part: Uint8Array) =>
  part.forEach((byte, i) => part[i] = byte >> 4 | byte << 4);

function exchange(block: Uint8Array, a: number, b: number, length: number): void {
  const first = block.slice(a, a + length);
  block.copyWithin(a, b, b + length);
  block.set(first, b);
}

/** The eight scales and minima of a Q4_K or Q5_K block, in 6 bits each. */
function sixBits(packed: Uint8Array): { scales: number[]; minima: number[] } {
  const [scales, minima]: [number[], number[]] = [[], []];
  for (let j = 0; j < 4; j++) {
    scales[j] = packed[j] & 63;
    minima[j] = packed[j + 4] & 63;
    scales[j + 4] = packed[j + 8] & 15 | packed[j] >> 6 << 4;
    minima[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
  }
  return { scales, minima };
}

/** The reverse of {@linkcode sixBits}. */
function packSixBits(packed: Uint8Array, scales: readonly number[], minima: readonly number[]) {
  for (let j = 0; j < 4; j++) {
    packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
    packed[j + 4] = minima[j] | minima[j + 4] >> 4 << 6;
    packed[j + 8] = scales[j + 4] & 15 | (minima[j + 4] & 15) << 4;
  }
}

/** Sub-block scales changed. */
function scales(
  type: "Q4_K" | "Q5_K",
  change: (scales: number[], minima: number[]) => [readonly number[], readonly number[]],
): WrongReading {
  return each(type, (block) => {
    const packed = block.subarray(4, 16);
    const read = sixBits(packed);
    packSixBits(packed, ...change(read.scales, read.minima));
  });
}

const rotated = (list: readonly number[]) => list.map((_, i) => list[(i + 1) % list.length]);

/** Faults by their names. */
export const WRONG_READINGS: Readonly<Record<string, WrongReading>> = {
  "nibbles of Q4_0 in the other order": also(
    "reordered",
    "Q4_0",
    (block) => swapNibbles(block.subarray(2)),
  ),
  "nibbles of Q4_0 interleaved": also("reordered", "Q4_0", (block) => {
    const [low, high] = [
      block.slice(2).map((byte) => byte & 15),
      block.slice(2).map((b) => b >> 4),
    ];
    const order = [...low].flatMap((nibble, i) => [nibble, high[i]]);
    for (let i = 0; i < 16; i++) block[2 + i] = order[i] | order[i + 16] << 4;
  }),
  "nibbles of Q4_0 as two's complement": each("Q4_0", (block) => {
    for (let i = 2; i < 18; i++) block[i] ^= 0x88;
  }),
  "the sign of Q4_0's scale lost": each("Q4_0", (block) => void (block[1] &= 0x7f)),
  "Q4_0's scale of the next block": neighbours("Q4_0", 0, 2),
  "Q4_0's numbers of the next block": neighbours("Q4_0", 2, 16),
  "Q4_0's numbers mirrored": also("scaled", "Q4_0", (block) => {
    // -8 has no mirror image.
    for (let i = 2; i < 18; i++) {
      const mirrored = (nibble: number) => Math.min(15, 16 - nibble);
      block[i] = mirrored(block[i] & 15) | mirrored(block[i] >> 4) << 4;
    }
  }),
  "Q8_0's scale of the next block": neighbours("Q8_0", 0, 2),
  "Q8_0's scale in the other byte order": also("nan", "Q8_0", (block) => exchange(block, 0, 1, 1)),
  "Q8_0's numbers in the other order of pairs": also("reordered", "Q8_0", (block) => {
    for (let i = 2; i < 34; i += 2) exchange(block, i, i + 1, 1);
  }),
  "halves of Q8_0's blocks exchanged": also(
    "reordered",
    "Q8_0",
    (block) => exchange(block, 2, 18, 16),
  ),
  "Q5_0's high bits lost": each("Q5_0", (block) => block.subarray(2, 6).fill(0)),
  "Q5_0's high bits of the other half": each("Q5_0", (block) => exchange(block, 2, 4, 2)),
  "nibbles of Q5_0 in the other order": each("Q5_0", (block) => swapNibbles(block.subarray(6))),
  "Q4_K's minimum left out": each("Q4_K", (block) => block.fill(0, 2, 4)),
  "Q4_K's minimum added": each("Q4_K", (block) => void (block[3] ^= 0x80)),
  "Q4_K's scale and minimum exchanged": each("Q4_K", (block) => exchange(block, 0, 2, 2)),
  "Q4_K's sub-block scales off by one": scales("Q4_K", (a, b) => [rotated(a), rotated(b)]),
  "Q4_K's minima off by one": scales("Q4_K", (a, b) => [a, rotated(b)]),
  "Q4_K's sub-block scales and minima exchanged": scales("Q4_K", (a, b) => [b, a]),
  "Q4_K's scales without their upper bits": scales("Q4_K", (a, b) => [
    a.map((scale, j) => j < 4 ? scale : scale & 15),
    b.map((minimum, j) => j < 4 ? minimum : minimum & 15),
  ]),
  "nibbles of Q4_K in the other order": each("Q4_K", (block) => swapNibbles(block.subarray(16))),
  "Q5_K's high bits lost": each("Q5_K", (block) => block.fill(0, 16, 48)),
  "Q5_K's minimum left out": each("Q5_K", (block) => block.fill(0, 2, 4)),
  "Q6_K's upper bits lost": each("Q6_K", (block) => block.fill(0, 128, 192)),
  "Q6_K's sub-block scales off by one": each("Q6_K", (block) => {
    block.set(block.slice(193, 208), 192);
  }),
  "halves of Q6_K's lower bits exchanged": each("Q6_K", (block) => exchange(block, 0, 64, 64)),
  "nibbles of Q6_K in the other order": each(
    "Q6_K",
    (block) => swapNibbles(block.subarray(0, 128)),
  ),
  // A block may be a whole row, which then has another factor.
  "Q6_K's scale of the next block": { ...neighbours("Q6_K", 208, 2), also: ["scaled"] },
  "Q3_K's high bits inverted": each("Q3_K", (block) => {
    for (let i = 0; i < 32; i++) block[i] ^= 0xff;
  }),
  "Q3_K's high bits lost": each("Q3_K", (block) => block.fill(0, 0, 32)),
};

/** The weights of the mixed model's blocks by their types, and the point that shows what a wrong reading makes. */
export const TYPED_WEIGHTS = {
  Q4_0: ["attn_q", "2", "q"],
  Q8_0: ["attn_k", "2", "k"],
  Q6_K: ["attn_v", "2", "v"],
  Q4_K: ["attn_output", "5", "attn_out"],
  Q5_0: ["ffn_gate", "6", "ffn_gate"],
  Q3_K: ["ffn_up", "6", "ffn_up"],
  Q5_K: ["ffn_down", "6", "ffn_out"],
} as const;
