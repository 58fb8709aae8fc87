/** One tensor against another, in one pass over both. */
import type { Band } from "./bands.ts";
import { type Numbers, pieces } from "./numbers.ts";

interface NumberPlace {
  readonly row: number;
  readonly column: number;
}

/** A block of numbers and how wrong it is. */
export interface BlockError extends NumberPlace {
  /** How many numbers from there on. */
  readonly count: number;
  readonly nmse: number;
}

/** How alike two tensors are; a is what b should be. */
export interface Similarity {
  /** Σ(b − a)² */
  readonly squares: number;
  /** Σa² */
  readonly weight: number;
  /** Largest |b − a|. */
  readonly largest: number;
  /** Σ(b − a)² / Σa² */
  readonly nmse: number;
  /** What a has to be multiplied with to come nearest to b. */
  readonly scale: number;
  /** The NMSE after that. */
  readonly scaledNmse: number;
  /** What has to be added to a to come nearest to b. */
  readonly offset: number;
  /** The NMSE after that. */
  readonly offsetNmse: number;
  readonly worst: BlockError;
  readonly blocks: number;
  /** Blocks out of their band: how many, and the first. */
  readonly bad: number;
  readonly firstBad?: BlockError;
  /** The NMSE of all other blocks. */
  readonly restNmse: number;
  /** The first number that is none, in either. */
  readonly nonFinite?: NumberPlace & { readonly in: "a" | "b" };
}

/** Numbers in a block, where neither type has larger ones. */
export const SMALLEST_BLOCK = 32;

/**
 * What half floats cannot hold, squared: below 2⁻¹⁴ they, and the scales of quantized blocks, lose digits, so that blocks of such
 * numbers are not judged on their own.
 */
const SMALLEST_SQUARE = 2 ** -28;

/**
 * Compares two tensors of the same size.
 *
 * @param blockSize numbers in a block of the coarser type
 * @param signal aborts between pieces
 */
export async function similarity(
  a: Numbers,
  b: Numbers,
  band: Band,
  blockSize: number,
  signal?: AbortSignal,
): Promise<Similarity> {
  const sums = new Sums(b.columns, Math.max(SMALLEST_BLOCK, blockSize), band);
  const ordered = a.together > b.together ? a : b;
  for (const [first, count] of pieces(ordered)) {
    signal?.throwIfAborted();
    sums.add(await a.read(first, count), await b.read(first, count), first);
  }
  return sums.result();
}

/** Sums over all numbers, and over the blocks that are good. */
class Sums {
  #count = 0;
  #a = 0;
  #b = 0;
  #aa = 0;
  #ab = 0;
  #bb = 0;
  #dd = 0;
  #largest = 0;
  #goodAa = 0;
  #goodDd = 0;
  #blocks = 0;
  #bad = 0;
  #firstBad: BlockError | undefined;
  #worst: BlockError = { row: 0, column: 0, count: 0, nmse: -1 };
  #nonFinite: Similarity["nonFinite"];

  constructor(
    readonly columns: number,
    readonly blockSize: number,
    readonly band: Band,
  ) {}

  add(a: Float32Array, b: Float32Array, first: number): void {
    for (let start = 0; start < a.length;) {
      // Pieces may begin within a block.
      const end = Math.min(a.length, start + this.blockSize - (first + start) % this.blockSize);
      this.#block(a, b, start, end, first);
      start = end;
    }
    this.#count += a.length;
  }

  #block(a: Float32Array, b: Float32Array, start: number, end: number, first: number): void {
    let sumA = 0, sumB = 0, aa = 0, ab = 0, bb = 0, dd = 0, largest = this.#largest;
    for (let i = start; i < end; i++) {
      const x = a[i];
      const y = b[i];
      const difference = y - x;
      sumA += x;
      sumB += y;
      aa += x * x;
      ab += x * y;
      bb += y * y;
      dd += difference * difference;
      if (Math.abs(difference) > largest) largest = Math.abs(difference);
    }
    if (!(Number.isFinite(aa) && Number.isFinite(bb))) {
      this.#notFinite(a, b, start, end, first);
      return;
    }
    this.#a += sumA;
    this.#b += sumB;
    this.#aa += aa;
    this.#ab += ab;
    this.#bb += bb;
    this.#dd += dd;
    this.#largest = largest;
    this.#blocks++;
    const count = end - start;
    const nmse = dd === 0 ? 0 : dd / Math.max(aa, count * SMALLEST_SQUARE);
    if (nmse > this.#worst.nmse) this.#worst = { ...this.#place(first + start), count, nmse };
    if (nmse > this.band.block) {
      this.#bad++;
      this.#firstBad ??= { ...this.#place(first + start), count, nmse };
    } else {
      this.#goodAa += aa;
      this.#goodDd += dd;
    }
  }

  #notFinite(a: Float32Array, b: Float32Array, start: number, end: number, first: number): void {
    for (let i = start; i < end && !this.#nonFinite; i++) {
      const which = !Number.isFinite(a[i]) ? "a" : !Number.isFinite(b[i]) ? "b" : undefined;
      if (which) this.#nonFinite = { ...this.#place(first + i), in: which };
    }
  }

  #place(index: number): NumberPlace {
    return { row: Math.floor(index / this.columns), column: index % this.columns };
  }

  result(): Similarity {
    const [aa, ab, bb, dd, n] = [this.#aa, this.#ab, this.#bb, this.#dd, Math.max(1, this.#count)];
    const offset = (this.#b - this.#a) / n;
    return {
      squares: dd,
      weight: aa,
      largest: this.#largest,
      nmse: ratio(dd, aa),
      scale: aa === 0 ? 1 : ab / aa,
      scaledNmse: ratio(aa * bb - ab * ab, ab * ab),
      offset,
      offsetNmse: ratio(dd - n * offset * offset, aa),
      worst: this.#worst,
      blocks: this.#blocks,
      bad: this.#bad,
      firstBad: this.#firstBad,
      restNmse: ratio(this.#goodDd, this.#goodAa),
      nonFinite: this.#nonFinite,
    };
  }
}

/** 0/0 is 0: nothing is wrong with nothing. */
function ratio(part: number, whole: number): number {
  return part === 0 ? 0 : Math.max(0, part) / whole;
}
