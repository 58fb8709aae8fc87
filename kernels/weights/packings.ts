/**
 * Packings of weights: how a tensor lies on the device.
 *
 * GGUF's blocks of 18, 34 or 210 bytes are not aligned to words. Loading takes each row apart into planes of 32-bit
 * words (quants, then scales, then fifth bits) without changing a value; the kernels compute on the planes. A plane
 * holds its rows one after another, so that any range of rows can be addressed by its first row.
 */
import f32 from "./packings/f32.wgsl" with { type: "text" };
import f16 from "./packings/f16.wgsl" with { type: "text" };
import bf16 from "./packings/bf16.wgsl" with { type: "text" };
import min from "./packings/min.wgsl" with { type: "text" };
import q4 from "./packings/q4.wgsl" with { type: "text" };
import q5 from "./packings/q5.wgsl" with { type: "text" };
import q8 from "./packings/q8.wgsl" with { type: "text" };
import scaleF16 from "./packings/scale_f16.wgsl" with { type: "text" };
import scaleMinF16 from "./packings/scale_min_f16.wgsl" with { type: "text" };
import scaleMinF32 from "./packings/scale_min_f32.wgsl" with { type: "text" };
import scaleMin16F32 from "./packings/scale_min16_f32.wgsl" with { type: "text" };
import scale16F32 from "./packings/scale16_f32.wgsl" with { type: "text" };

/** Planes of one tensor part while it is packed or read; `highs` is empty where the packing has none. */
export interface Planes {
  readonly quants: Uint32Array;
  readonly scales: Uint32Array;
  readonly highs: Uint32Array;
}

/** One packing: the words of a row in each plane, and the way from file bytes to planes and from planes to numbers. */
export interface Packing {
  readonly name: string;
  /** Columns must be a multiple of this. */
  readonly blockSize: number;
  /** Bytes of one block in the file. */
  readonly blockBytes: number;
  /**
   * WGSL that defines `load8(row, group)`, columns 8·group … 8·group+7 of a row; `load_block(row, block)` and `eight(block, i)`; and
   * `dot_columns(row, block, x)`: see weights.wgsl.
   */
  readonly wgsl: string;
  /** Columns of a block as the WGSL reads them. */
  readonly chunk: 8 | 32;
  /** Value of the WGSL's `OFFSET`, where it has one. */
  readonly offset?: number;
  /** Words per row of the three planes. */
  words(columns: number): { quants: number; scales: number; highs: number };
  /** Packs `rows` rows of file bytes into the planes, from plane row `first` on. */
  pack(bytes: Uint8Array, rows: number, columns: number, planes: Planes, first: number): void;
  /** The exact f32 values of one row of the planes, written to `out[0..columns)`. */
  unpack(planes: Planes, row: number, columns: number, out: Float32Array): void;
}

const half = new Float16Array(1);
const halfBits = new Uint16Array(half.buffer);
const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

function fromF16(bits: number): number {
  halfBits[0] = bits;
  return half[0];
}

function fromBits(bits: number): number {
  singleBits[0] = bits;
  return single[0];
}

function toBits(value: number): number {
  single[0] = value;
  return singleBits[0];
}

/** Rows of plain floats: file bytes are the plane, padded with zeros to eight columns. */
function plain(
  name: string,
  bytes: 2 | 4,
  wgsl: string,
  value: (words: Uint32Array, i: number) => number,
): Packing {
  const perWord = 4 / bytes;
  const words = (columns: number) => ({
    quants: Math.ceil(columns / 8) * 8 / perWord,
    scales: 0,
    highs: 0,
  });
  return {
    name,
    blockSize: 1,
    blockBytes: bytes,
    wgsl,
    chunk: 8,
    words,
    pack(file, rows, columns, planes, first) {
      const out = new Uint8Array(
        planes.quants.buffer,
        planes.quants.byteOffset,
        planes.quants.byteLength,
      );
      const stride = words(columns).quants * 4;
      const rowBytes = columns * bytes;
      if (stride === rowBytes) {
        out.set(file.subarray(0, rows * rowBytes), first * stride);
        return;
      }
      for (let row = 0; row < rows; row++) {
        out.set(file.subarray(row * rowBytes, (row + 1) * rowBytes), (first + row) * stride);
      }
    },
    unpack(planes, row, columns, out) {
      const base = row * words(columns).quants * perWord;
      for (let i = 0; i < columns; i++) out[i] = value(planes.quants, base + i);
    },
  };
}

type Quants = "q4" | "q5" | "q8";
const QUANT_WGSL: Record<Quants, string> = { q4, q5, q8 };

/** Words per block of 32 in the quants plane. */
function quantWords(quants: Quants): number {
  return quants === "q8" ? 8 : 4;
}

/** Quant `i` (0…31) of block `block`, where blocks are counted through the plane. */
function quantAt(quants: Quants, planes: Planes, block: number, i: number): number {
  if (quants === "q8") return (planes.quants[block * 8 + (i >> 2)] << (24 - 8 * (i & 3))) >> 24;
  const word = planes.quants[block * 4 + (i >> 3)];
  const low = (word >>> (8 * (i & 3) + (i & 4))) & 15;
  return quants === "q4" ? low : low | ((planes.highs[block] >>> i) & 1) << 4;
}

/** Blocks of 32 with one or two f16 beside the quants, as in the older ggml types. */
function legacy(
  name: string,
  quants: Quants,
  minimum: boolean,
  offset: number,
): Packing {
  const scaleBytes = minimum ? 4 : 2;
  const highBytes = quants === "q5" ? 4 : 0;
  const blockBytes = scaleBytes + highBytes + (quants === "q8" ? 32 : 16);
  const words = (columns: number) => {
    const blocks = columns / 32;
    return {
      quants: blocks * quantWords(quants),
      scales: minimum ? blocks : Math.ceil(blocks / 2),
      highs: quants === "q5" ? blocks : 0,
    };
  };
  return {
    name,
    blockSize: 32,
    blockBytes,
    wgsl: QUANT_WGSL[quants] +
      (minimum ? scaleMinF16 + min : "override OFFSET: f32;\n" + scaleF16),
    chunk: 32,
    offset: minimum ? undefined : offset,
    words,
    pack(file, rows, columns, planes, first) {
      const blocks = columns / 32;
      const row = words(columns);
      const scales = new Uint16Array(
        planes.scales.buffer,
        planes.scales.byteOffset,
        planes.scales.length * 2,
      );
      const u16 = (at: number) => file[at] | file[at + 1] << 8;
      const u32 = (at: number) => u16(at) | u16(at + 2) << 16;
      let at = 0;
      for (let r = first; r < first + rows; r++) {
        for (let b = 0; b < blocks; b++, at += blockBytes) {
          if (minimum) planes.scales[r * row.scales + b] = u32(at);
          else scales[r * row.scales * 2 + b] = u16(at);
          if (quants === "q5") planes.highs[r * row.highs + b] = u32(at + scaleBytes);
          const from = at + scaleBytes + highBytes;
          const to = r * row.quants + b * quantWords(quants);
          if (quants === "q8") {
            for (let w = 0; w < 8; w++) planes.quants[to + w] = u32(from + 4 * w);
          } else {
            // In the file byte j holds columns j and j + 16; here a word holds eight neighbours.
            const w0 = u32(from), w1 = u32(from + 4), w2 = u32(from + 8), w3 = u32(from + 12);
            planes.quants[to] = (w0 & 0x0f0f0f0f) | (w1 & 0x0f0f0f0f) << 4;
            planes.quants[to + 1] = (w2 & 0x0f0f0f0f) | (w3 & 0x0f0f0f0f) << 4;
            planes.quants[to + 2] = ((w0 >>> 4) & 0x0f0f0f0f) | (w1 & 0xf0f0f0f0);
            planes.quants[to + 3] = ((w2 >>> 4) & 0x0f0f0f0f) | (w3 & 0xf0f0f0f0);
          }
        }
      }
    },
    unpack(planes, row, columns, out) {
      const blocks = columns / 32;
      const { scales } = words(columns);
      for (let b = 0; b < blocks; b++) {
        const word = minimum
          ? planes.scales[row * scales + b]
          : planes.scales[row * scales + (b >> 1)] >>> 16 * (b & 1);
        const d = fromF16(word & 0xffff);
        for (let i = 0; i < 32; i++) {
          const q = quantAt(quants, planes, row * blocks + b, i);
          out[b * 32 + i] = minimum ? d * q + fromF16(word >>> 16) : d * (q - offset);
        }
      }
    },
  };
}

/** The 6-bit scale and minimum of sub-block j (0…7) of a K-quant block: ggml's packing of 16 numbers in 12 bytes. */
function scaleAndMin(file: Uint8Array, at: number, j: number): [number, number] {
  if (j < 4) return [file[at + j] & 63, file[at + j + 4] & 63];
  return [
    (file[at + j + 4] & 15) | (file[at + j - 4] >> 6) << 4,
    (file[at + j + 4] >> 4) | (file[at + j] >> 6) << 4,
  ];
}

/** Q4_K and Q5_K: blocks of 32 whose scale d·sc and minimum dmin·m are exact in f32 (11 + 6 bits). */
function kScaleMin(name: string, quants: "q4" | "q5"): Packing {
  const blockBytes = quants === "q4" ? 144 : 176;
  const words = (columns: number) => ({
    quants: columns / 8,
    scales: columns / 16,
    highs: quants === "q5" ? columns / 32 : 0,
  });
  return {
    name,
    blockSize: 256,
    blockBytes,
    wgsl: QUANT_WGSL[quants] + scaleMinF32 + min,
    chunk: 32,
    words,
    pack(file, rows, columns, planes, first) {
      const row = words(columns);
      const low = quants === "q4" ? 16 : 48; // offset of the low nibbles; Q5_K has its fifth bits at 16
      let at = 0;
      for (let r = first; r < first + rows; r++) {
        for (let s = 0; s < columns / 256; s++, at += blockBytes) {
          const d = fromF16(file[at] | file[at + 1] << 8);
          const dmin = fromF16(file[at + 2] | file[at + 3] << 8);
          for (let j = 0; j < 8; j++) {
            const [sc, m] = scaleAndMin(file, at + 4, j);
            const block = s * 8 + j;
            planes.scales[r * row.scales + block * 2] = toBits(d * sc);
            planes.scales[r * row.scales + block * 2 + 1] = toBits(dmin * m);
            // Sub-blocks 2c and 2c + 1 share 32 bytes: one in the low nibbles, one in the high ones.
            const from = at + low + (j >> 1) * 32;
            const shift = (j & 1) * 4;
            for (let w = 0; w < 4; w++) {
              let word = 0;
              for (let i = 0; i < 4; i++) {
                word |= ((file[from + 8 * w + i] >> shift) & 15) << 8 * i;
                word |= ((file[from + 8 * w + 4 + i] >> shift) & 15) << (8 * i + 4);
              }
              planes.quants[r * row.quants + block * 4 + w] = word;
            }
            if (quants === "q5") {
              let highs = 0;
              for (let i = 0; i < 32; i++) highs |= ((file[at + 16 + i] >> j) & 1) << i;
              planes.highs[r * row.highs + block] = highs;
            }
          }
        }
      }
    },
    unpack(planes, row, columns, out) {
      const blocks = columns / 32;
      for (let b = 0; b < blocks; b++) {
        const d = fromBits(planes.scales[(row * blocks + b) * 2]);
        const m = fromBits(planes.scales[(row * blocks + b) * 2 + 1]);
        for (let i = 0; i < 32; i++) {
          out[b * 32 + i] = d * quantAt(quants, planes, row * blocks + b, i) - m;
        }
      }
    },
  };
}

/** Types whose numbers become signed bytes, with one f32 scale d·sc per 16 columns, which is exact (11 + 8 bits). */
interface SignedBytes {
  readonly name: string;
  readonly blockBytes: number;
  /** Byte offset of d in a block. */
  readonly d: number;
  /** The integer scale of columns 16·j … 16·j + 15 of the block at `at`. */
  scale(file: Uint8Array, at: number, j: number): number;
  /** The signed number of column `i` of the block at `at`. */
  quant(file: Uint8Array, at: number, i: number): number;
}

function signedBytes({ name, blockBytes, d: dAt, scale, quant }: SignedBytes): Packing {
  return {
    name,
    blockSize: 256,
    blockBytes,
    wgsl: QUANT_WGSL.q8 + scale16F32,
    chunk: 32,
    words: (columns) => ({ quants: columns / 4, scales: columns / 16, highs: 0 }),
    pack(file, rows, columns, planes, first) {
      const bytes = new Uint8Array(
        planes.quants.buffer,
        planes.quants.byteOffset,
        planes.quants.byteLength,
      );
      let at = 0;
      for (let r = first; r < first + rows; r++) {
        for (let s = 0; s < columns / 256; s++, at += blockBytes) {
          const d = fromF16(file[at + dAt] | file[at + dAt + 1] << 8);
          for (let j = 0; j < 16; j++) {
            planes.scales[r * columns / 16 + s * 16 + j] = toBits(d * scale(file, at, j));
          }
          for (let i = 0; i < 256; i++) bytes[r * columns + s * 256 + i] = quant(file, at, i);
        }
      }
    },
    unpack(planes, row, columns, out) {
      for (let i = 0; i < columns; i++) {
        const d = fromBits(planes.scales[(row * columns + i) >> 4]);
        out[i] = d * quantAt("q8", planes, (row * columns + i) >> 5, i & 31);
      }
    },
  };
}

/** Q6_K: six bits less 32; signed scales of 8 bits. */
const q6k = signedBytes({
  name: "Q6_K",
  blockBytes: 210,
  d: 208,
  scale: (file, at, j) => file[at + 192 + j] << 24 >> 24,
  quant(file, at, i) {
    // Each half of 128: 64 bytes of low nibbles hold columns l and l + 64; 32 bytes of high pairs hold four columns.
    const inHalf = i & 127, h = i >> 7;
    const low = (file[at + 64 * h + (inHalf & 63)] >> (inHalf >> 6) * 4) & 15;
    const high = (file[at + 128 + 32 * h + (inHalf & 31)] >> (inHalf >> 5) * 2) & 3;
    return (low | high << 4) - 32;
  },
});

/** The two bits of column i of a block of Q2_K or Q3_K whose bit pairs begin at `at`: byte l of a half holds columns l + 0, 32, 64, 96. */
function bitPair(file: Uint8Array, at: number, i: number): number {
  return (file[at + 32 * (i >> 7) + (i & 31)] >> 2 * ((i >> 5) & 3)) & 3;
}

/** Q3_K: two bits, less 4 where the third bit is not set; scales of 6 bits less 32 in 12 bytes. */
const q3k = signedBytes({
  name: "Q3_K",
  blockBytes: 110,
  d: 108,
  scale(file, at, j) {
    const low = (file[at + 96 + (j & 7)] >> 4 * (j >> 3)) & 15;
    const high = (file[at + 104 + (j & 3)] >> 2 * (j >> 2)) & 3;
    return (low | high << 4) - 32;
  },
  quant(file, at, i) {
    const third = (file[at + (i & 31)] >> (i >> 5)) & 1;
    return bitPair(file, at + 32, i) - (third ? 0 : 4);
  },
});

/** Q2_K: two bits in nibbles of their own, with one f32 scale d·sc and minimum dmin·m per 16 columns, exact in f32 (11 + 4 bits). */
const q2k: Packing = {
  name: "Q2_K",
  blockSize: 256,
  blockBytes: 84,
  wgsl: QUANT_WGSL.q4 + scaleMin16F32,
  chunk: 32,
  words: (columns) => ({ quants: columns / 8, scales: columns / 8, highs: 0 }),
  pack(file, rows, columns, planes, first) {
    let at = 0;
    for (let r = first; r < first + rows; r++) {
      for (let s = 0; s < columns / 256; s++, at += 84) {
        const d = fromF16(file[at + 80] | file[at + 81] << 8);
        const dmin = fromF16(file[at + 82] | file[at + 83] << 8);
        for (let j = 0; j < 16; j++) {
          const to = (r * columns / 16 + s * 16 + j) * 2;
          planes.scales[to] = toBits(d * (file[at + j] & 15));
          planes.scales[to + 1] = toBits(dmin * (file[at + j] >> 4));
        }
        for (let w = 0; w < 32; w++) {
          let word = 0;
          for (let i = 0; i < 4; i++) {
            word |= bitPair(file, at + 16, 8 * w + i) << 8 * i;
            word |= bitPair(file, at + 16, 8 * w + 4 + i) << (8 * i + 4);
          }
          planes.quants[(r * columns + s * 256) / 8 + w] = word;
        }
      }
    }
  },
  unpack(planes, row, columns, out) {
    for (let i = 0; i < columns; i++) {
      const at = (row * columns + i >> 4) * 2;
      const q = quantAt("q4", planes, (row * columns + i) >> 5, i & 31);
      out[i] = fromBits(planes.scales[at]) * q - fromBits(planes.scales[at + 1]);
    }
  },
};

/** The packings by the name of the ggml type that they hold. */
export const PACKINGS: ReadonlyMap<string, Packing> = new Map(
  [
    plain("F32", 4, f32, (words, i) => fromBits(words[i])),
    plain("F16", 2, f16, (words, i) => fromF16(words[i >> 1] >>> 16 * (i & 1) & 0xffff)),
    plain("BF16", 2, bf16, (words, i) => fromBits(words[i >> 1] >>> 16 * (i & 1) << 16)),
    legacy("Q4_0", "q4", false, 8),
    legacy("Q4_1", "q4", true, 0),
    legacy("Q5_0", "q5", false, 16),
    legacy("Q5_1", "q5", true, 0),
    legacy("Q8_0", "q8", false, 0),
    q2k,
    q3k,
    kScaleMin("Q4_K", "q4"),
    kScaleMin("Q5_K", "q5"),
    q6k,
  ].map((packing) => [packing.name, packing]),
);
