/**
 * How the blocks of quantized types can be misread: where their bits are looked for, which offset, scale and minimum is taken. What
 * misreads right bytes reads rightly what was written in that layout: one list serves engines that dequantize wrongly and files that
 * were packed wrongly.
 */
import { dequantize, f16ToF32 } from "../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../engine/gguf/types.ts";

/** Another reading of the blocks of a type. */
export interface Misreading {
  /** In words: "without the offset 8". */
  readonly what: string;
  /**
   * The numbers that whole blocks give when they are read so.
   *
   * @param bytes whole blocks of the type
   */
  read(bytes: Uint8Array): Float32Array;
}

/**
 * Bits of each number of a block: number i has `bits` of the byte `at + ⌊i / span⌋ · stride + i mod stride`, from bit
 * `bits · ⌊(i mod span) / stride⌋` on, where a span is the `8 · stride / bits` numbers that share `stride` bytes.
 */
interface Field {
  readonly at: number;
  readonly bits: number;
  readonly stride: number;
  /** From the byte's upper end on. */
  readonly reversed?: boolean;
  /** Of the number whose index has these bits turned round. */
  readonly moved?: number;
}

/** Reads scales and minima of the groups of a block: x = d · scale · (q − offset) − m · minimum. */
type Groups = (bytes: Uint8Array, at: number, scales: Int16Array, minima: Int16Array) => void;

/** How a block is read. */
interface Reading {
  readonly blockSize: number;
  readonly blockBytes: number;
  readonly low: Field;
  readonly high?: Field;
  /** What is taken from a quant. */
  readonly offset: number;
  /** Whether a quant is a two's complement. */
  readonly signed?: boolean;
  /** Bits that are turned round in a quant. */
  readonly flipped?: number;
  /** Where the block's scale stands, a half float, and where what its minima are multiplied with. */
  readonly d: number;
  readonly m?: number;
  /** Groups of numbers that have a scale of their own, and a minimum where there is `m`. */
  readonly groups: number;
  readonly scales: Groups;
  /** What is done to scales and minima. */
  readonly regrouped?: (scales: Int16Array, minima: Int16Array) => void;
  /** The block whose d and m are taken, counted from the own one. */
  readonly neighbour?: number;
  /** Whether the two bytes of half floats are exchanged. */
  readonly swapped?: boolean;
  readonly scalar?: (d: number, m: number) => readonly [d: number, m: number];
}

/** One scale for all; minima are added where there are some. */
const single: Groups = (_bytes, _at, scales, minima) => {
  scales[0] = 1;
  minima[0] = -1;
};

/** Scale and minimum of each group in a byte. */
const nibbles: Groups = (bytes, at, scales, minima) => {
  for (let group = 0; group < 16; group++) {
    scales[group] = bytes[at + group] & 15;
    minima[group] = bytes[at + group] >> 4;
  }
};

/** Q3_K's scales: lower four bits, then upper two, of 16 groups, 32 too much. */
const sixBits: Groups = (bytes, at, scales) => {
  for (let group = 0; group < 16; group++) {
    const low = bytes[at + 96 + (group & 7)] >> (group & 8 ? 4 : 0) & 15;
    const high = bytes[at + 104 + (group & 3)] >> 2 * (group >> 2) & 3;
    scales[group] = (low | high << 4) - 32;
  }
};

/** Scales and minima of 8 groups in 12 bytes: those of the last four have their upper two bits beside those of the first four. */
const packed: Groups = (bytes, at, scales, minima) => {
  for (let group = 0; group < 4; group++) {
    const a = bytes[at + 4 + group], b = bytes[at + 8 + group], c = bytes[at + 12 + group];
    scales[group] = a & 63;
    minima[group] = b & 63;
    scales[group + 4] = c & 15 | a >> 6 << 4;
    minima[group + 4] = c >> 4 | b >> 6 << 4;
  }
};

const bytesAsScales: Groups = (bytes, at, scales) => {
  for (let group = 0; group < 16; group++) scales[group] = bytes[at + 192 + group] << 24 >> 24;
};

const SIMPLE = { blockSize: 32, d: 0, groups: 1, scales: single };
const K = { blockSize: 256 };
/** The right readings: the layouts of ggml-common.h, as engine/gguf/dequantize.ts has them. */
const LAYOUTS: Readonly<Record<string, Reading>> = {
  Q4_0: { ...SIMPLE, blockBytes: 18, low: { at: 2, bits: 4, stride: 16 }, offset: 8 },
  Q4_1: { ...SIMPLE, blockBytes: 20, low: { at: 4, bits: 4, stride: 16 }, offset: 0, m: 2 },
  Q5_0: {
    ...{ ...SIMPLE, blockBytes: 22, offset: 16 },
    ...{ low: { at: 6, bits: 4, stride: 16 }, high: { at: 2, bits: 1, stride: 1 } },
  },
  Q5_1: {
    ...{ ...SIMPLE, blockBytes: 24, offset: 0, m: 2 },
    ...{ low: { at: 8, bits: 4, stride: 16 }, high: { at: 4, bits: 1, stride: 1 } },
  },
  Q8_0: {
    ...{ ...SIMPLE, blockBytes: 34, offset: 0, signed: true },
    low: { at: 2, bits: 8, stride: 1 },
  },
  Q2_K: {
    ...{ ...K, blockBytes: 84, d: 80, m: 82, offset: 0, groups: 16, scales: nibbles },
    low: { at: 16, bits: 2, stride: 32 },
  },
  Q3_K: {
    ...{ ...K, blockBytes: 110, d: 108, offset: 4, groups: 16, scales: sixBits },
    ...{ low: { at: 32, bits: 2, stride: 32 }, high: { at: 0, bits: 1, stride: 32 } },
  },
  Q4_K: {
    ...{ ...K, blockBytes: 144, d: 0, m: 2, offset: 0, groups: 8, scales: packed },
    low: { at: 16, bits: 4, stride: 32 },
  },
  Q5_K: {
    ...{ ...K, blockBytes: 176, d: 0, m: 2, offset: 0, groups: 8, scales: packed },
    ...{ low: { at: 48, bits: 4, stride: 32 }, high: { at: 16, bits: 1, stride: 32 } },
  },
  Q6_K: {
    ...{ ...K, blockBytes: 210, d: 208, offset: 32, groups: 16, scales: bytesAsScales },
    ...{ low: { at: 0, bits: 4, stride: 64 }, high: { at: 128, bits: 2, stride: 32 } },
  },
};

/** The 16-bit floats, each of which may be taken for the other. */
const HALVES: Readonly<Record<string, string>> = { F16: "BF16", BF16: "F16" };

/** Types whose blocks can be misread. */
export const PACKED_TYPES: readonly string[] = Object.keys(LAYOUTS);

/** The other readings of a type's blocks, the likeliest first; none of types that are neither packed nor 16-bit floats. */
export function misreadingsOf(type: string): readonly Misreading[] {
  if (Object.hasOwn(HALVES, type)) return ofHalves(type);
  if (!Object.hasOwn(LAYOUTS, type)) return [];
  const layout = LAYOUTS[type];
  const all: readonly (readonly [what: string, changes: Partial<Reading>])[] = [
    ...lowBits(layout),
    ...highBits(layout),
    ...values(layout),
    ...halves(layout),
    ...groupScales(layout),
  ];
  return all.map(([what, changes]) => ({
    what,
    read: (bytes) => readBlocks({ ...layout, ...changes }, bytes),
  }));
}

/**
 * The numbers of whole blocks, by the description of their layout: those that `dequantize` gives.
 *
 * @param type one of {@linkcode PACKED_TYPES}
 */
export function readAsDescribed(type: string, bytes: Uint8Array): Float32Array {
  return readBlocks(LAYOUTS[type], bytes);
}

function ofHalves(type: string): Misreading[] {
  const [own, other] = [type, HALVES[type]].map((name) =>
    GGML_TYPES.find((each) => each.name === name)!
  );
  return [
    { what: `as ${other.name}`, read: (bytes) => dequantize(other, bytes) },
    {
      what: "the two bytes of each number exchanged",
      read: (bytes) => dequantize(own, bytes.map((_, i) => bytes[i ^ 1])),
    },
  ];
}

type Changes = readonly (readonly [what: string, changes: Partial<Reading>])[];

/** Where else a field's bits may be looked for. */
function places(field: Field, { blockSize }: Reading): [what: string, field: Field][] {
  const { bits, stride } = field;
  const unit = { 1: "bits", 2: "bit pairs", 4: "nibbles" }[bits];
  if (unit === undefined) return [];
  const found: [string, Field][] = [[`${unit} of a byte from its other end`, {
    ...field,
    reversed: true,
  }]];
  for (let other = 1; other <= blockSize * bits / 8; other *= 2) {
    if (other === stride) continue;
    const how = other === 1
      ? `numbers beside each other in a byte's ${unit}`
      : `${unit} of a byte ${other} numbers apart instead of ${stride}`;
    found.push([how, { ...field, stride: other }]);
    if (other === 1) {
      found.push([`${how}, from its other end`, { ...field, stride: other, reversed: true }]);
    }
  }
  return found;
}

function lowBits(layout: Reading): Changes {
  const { low } = layout;
  const moved = (
    what: string,
    moved: number,
  ): Changes[number] => [what, { low: { ...low, moved } }];
  // Large blocks are read half by half.
  const halves = layout.blockSize === 256
    ? [moved("the lower bits those of the other half of a block", 128)]
    : [];
  if (low.bits < 8) {
    return [
      ...places(low, layout).map(([what, low]): Changes[number] => [what, { low }]),
      ...halves,
    ];
  }
  return [
    moved("each two numbers exchanged", 1),
    moved("each four numbers in reverse order", 3),
    moved("the halves of a block exchanged", layout.blockSize / 2),
  ];
}

function highBits(layout: Reading): Changes {
  const { high, low, offset } = layout;
  if (!high) return [];
  const moved = (what: string, moved: number): Changes[number] => [what, {
    high: { ...high, moved },
  }];
  const upper = high.bits === 1 ? "the upper bit" : "the upper bits";
  return [
    [`${upper} left out`, { high: undefined }],
    // A single bit turned round makes a two's complement of an offset.
    ...high.bits === 1 && offset > 0
      ? []
      : [[`${upper} turned round`, { flipped: ((1 << high.bits) - 1) << low.bits }]] as const,
    moved(`${upper} those of the number beside it`, 1),
    moved(`${upper} those of the number ${low.stride} places away`, low.stride),
    ...high.stride === 1 ? [moved(`the bytes of ${upper}s in reverse order`, 24)] : [],
    ...places(high, layout).map(([what, high]): Changes[number] => [
      `${upper}: ${what}`,
      { high },
    ]),
  ];
}

/** Offsets and signs. */
function values(layout: Reading): Changes {
  const { offset, signed, low, high } = layout;
  if (signed) {
    return [
      ["unsigned where bytes are signed", { signed: false }],
      ["128 too much where bytes are signed", { signed: false, offset: 128 }],
    ];
  }
  const top = 1 << low.bits + (high?.bits ?? 0) - 1;
  if (offset === 0) return [["signed where numbers have a minimum", { signed: true }]];
  return [
    [`without the offset ${offset}`, { offset: 0 }],
    [`a two's complement instead of the offset ${offset}`, { signed: true, offset: 0 }],
    [`an offset of ${offset - 1} instead of ${offset}`, { offset: offset - 1 }],
    ...top === offset
      ? []
      : [[`an offset of ${top} instead of ${offset}`, { offset: top }]] as const,
  ];
}

/** The half floats of a block. */
function halves({ m }: Reading): Changes {
  return [
    ["the bytes of half floats exchanged", { swapped: true }],
    ["the next block's scale", { neighbour: 1 }],
    ["the previous block's scale", { neighbour: -1 }],
    // Where there is a minimum all scales are positive.
    ...m === undefined
      ? [["the scale without its sign", {
        scalar: (d: number) => [Math.abs(d), 0] as const,
      }]] as const
      : [
        ["without the minimum", { scalar: (d: number) => [d, 0] as const }],
        ["the minimum with the other sign", { scalar: (d: number, m: number) => [d, -m] as const }],
        ["scale and minimum exchanged", { scalar: (d: number, m: number) => [m, d] as const }],
      ] as const,
  ];
}

/** Scales and minima of groups. */
function groupScales({ groups, m, scales: read }: Reading): Changes {
  if (groups === 1) return [];
  const moved = (from: (group: number) => number) => (...arrays: Int16Array[]) => {
    for (const each of arrays) each.set(each.map((_, group) => each[from(group)]));
  };
  const both = (what: string, from: (group: number) => number): Changes[number] => [
    `the scales of groups ${what}`,
    { regrouped: moved(from) },
  ];
  const minimaAlone = (what: string, from: (group: number) => number): Changes[number] => [
    `the minima of groups ${what}`,
    { regrouped: (_scales, minima) => moved(from)(minima) },
  ];
  const orders = [
    ["exchanged in pairs", (group: number) => group ^ 1],
    ["moved by one", (group: number) => (group + 1) % groups],
    ["moved by one the other way", (group: number) => (group + groups - 1) % groups],
    ["in reverse order", (group: number) => groups - 1 - group],
    [
      "in halves: every other one",
      (group: number) => 2 * group % groups + (2 * group >= groups ? 1 : 0),
    ],
    ["from halves", (group: number) => (group >> 1) + (group & 1) * groups / 2],
    ["all the first", () => 0],
  ] as const;
  return [
    ...orders.map(([what, from]) => both(what, from)),
    ["without the scales of groups", { regrouped: (scales) => scales.fill(1) }],
    ...m === undefined ? [] : [
      ["the scales and minima of groups exchanged", {
        regrouped(scales: Int16Array, minima: Int16Array) {
          const own = scales.slice();
          scales.set(minima);
          minima.set(own);
        },
      }] as const,
      ...orders.slice(0, 3).map(([what, from]) => minimaAlone(what, from)),
    ],
    ...read === sixBits
      ? [
        ["without the scales' offset 32", { regrouped: (s: Int16Array) => add(s, 32) }],
        ["the scales' upper bits left out", {
          regrouped: (s: Int16Array) => s.set(s.map((scale) => (scale + 32 & 15) - 32)),
        }],
      ] as const
      : [],
    ...read === packed
      ? [["the upper bits of the last scales and minima left out", {
        regrouped: (...arrays: Int16Array[]) =>
          arrays.forEach((each) =>
            each.set(each.map((value, group) => group < 4 ? value : value & 15))
          ),
      }]] as const
      : [],
    ...read === bytesAsScales
      ? [["the scales of groups unsigned", {
        regrouped: (s: Int16Array) => s.set(s.map((scale) => scale & 255)),
      }]] as const
      : [],
  ];
}

function add(values: Int16Array, by: number): void {
  values.set(values.map((value) => value + by));
}

/** Where a field's bits are, by number. */
function bitsOf({ at, bits, stride, reversed, moved = 0 }: Field, count: number) {
  const span = 8 * stride / bits;
  const byte = new Uint16Array(count);
  const shift = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const from = i ^ moved;
    byte[i] = at + Math.floor(from / span) * stride + from % stride;
    shift[i] = bits * Math.floor(from % span / stride);
    if (reversed) shift[i] = 8 - bits - shift[i];
  }
  return { byte, shift, mask: (1 << bits) - 1 };
}

function readBlocks(reading: Reading, bytes: Uint8Array): Float32Array {
  const { blockSize, blockBytes, offset, signed, flipped = 0, neighbour = 0, groups } = reading;
  const blocks = bytes.length / blockBytes;
  const out = new Float32Array(blocks * blockSize);
  const low = bitsOf(reading.low, blockSize);
  const high = reading.high && bitsOf(reading.high, blockSize);
  const lowBits = reading.low.bits;
  const range = 1 << lowBits + (reading.high?.bits ?? 0);
  const scales = new Int16Array(groups);
  const minima = new Int16Array(groups);
  const perGroup = blockSize / groups;
  const half = (at: number) => {
    const [first, second] = reading.swapped
      ? [bytes[at + 1], bytes[at]]
      : [bytes[at], bytes[at + 1]];
    return f16ToF32(first | second << 8);
  };
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    // There is nothing before the first one and behind the last.
    const from = Math.min(blocks - 1, Math.max(0, block + neighbour)) * blockBytes;
    let d = half(from + reading.d);
    let m = reading.m === undefined ? 0 : half(from + reading.m);
    if (reading.scalar) [d, m] = reading.scalar(d, m);
    reading.scales(bytes, at, scales, minima);
    reading.regrouped?.(scales, minima);
    for (let group = 0, i = 0; group < groups; group++) {
      const scale = d * scales[group];
      const minimum = reading.m === undefined ? 0 : m * minima[group];
      for (const end = i + perGroup; i < end; i++) {
        let quant = bytes[at + low.byte[i]] >> low.shift[i] & low.mask;
        if (high) quant |= (bytes[at + high.byte[i]] >> high.shift[i] & high.mask) << lowBits;
        quant ^= flipped;
        if (signed && quant >= range / 2) quant -= range;
        out[block * blockSize + i] = scale * (quant - offset) - minimum;
      }
    }
  }
  return out;
}
