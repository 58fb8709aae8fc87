/** One tensor against another: how far off, where, and whether that is too far. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import { MASKED } from "../../kernels/attention/scoring/score.ts";
import { isCache } from "./cache.ts";
import { checkpointOf, RELATIVE_TOLERANCE } from "./contract.ts";
import type { ActivationType } from "../references/reference.ts";

/** A tensor on one side of a comparison, row-major. */
export interface Side {
  readonly shape: readonly number[];
  readonly data: Float32Array | Float64Array;
}

/** Where an element of a point is. */
export interface ElementPlace {
  /** Undefined outside of blocks. */
  readonly layer?: number;
  /** Of attention, of q and of head_out; of k, v and the cache the key/value head. */
  readonly head?: number;
  /** Absolute position of the row (attention: of the query; the cache: of the slot). */
  readonly position: number;
  /** Within the row: feature, key, or token id. */
  readonly index: number;
}

/** The outcome of a comparison. */
export interface Difference {
  readonly passed: boolean;
  /** The largest share of what is allowed that an element takes; above 1 it fails. Infinity where only one side is a number. */
  readonly share: number;
  readonly place: ElementPlace;
  readonly ours: number;
  readonly reference: number;
  /** |ours − reference| there, and how much is allowed there. */
  readonly error: number;
  readonly allowed: number;
  /** Largest |a − b|. */
  readonly maxError: number;
  /** Largest |a − b| as a part of its row's largest magnitude. */
  readonly maxRelative: number;
  readonly cosine: number;
  /** Σ(a − b)² / Σb². */
  readonly nmse: number;
  /** √(mean (a − b)²) */
  readonly rms: number;
  /** Elements by their distance in units in the last place of an f32: 0, 1, 2–3, 4–7, …, from 2³⁰ on. */
  readonly ulps: readonly number[];
  /** Elements that were compared: attention counts visible keys only. */
  readonly count: number;
  /** What the difference is judged by where the weights of both sides were rounded differently, instead of element by element. */
  readonly rounding?: Rounding;
  /** A weight that has the same type and other bytes on the other side: its largest difference, as a part of the block's largest number. */
  readonly otherBytes?: { readonly tensor: string; readonly largest: number };
}

/**
 * How a difference stands to what rounding makes. `output` is the largest |z|, an output's difference in units of its expected spread,
 * `outputs` the RMS of z over all, `scale` how far a product is scaled; `block` and `row` are mean squares of the weights' errors, in
 * units of what is expected; `product` is what no rounding explains, the difference to the 64-bit product of the weights' errors, in
 * units of what is allowed there; `unknown` where an input is not shown.
 */
export interface Rounding {
  readonly measure: "output" | "outputs" | "scale" | "block" | "row" | "product" | "unknown";
  readonly value: number;
  readonly limit: number;
  /** How the weight is stored: `Q4_0 for F32`, `Q4_0 and Q8_0, both rounded`. */
  readonly types: string;
  /** `blk.3.attn_q.weight, row 5, columns 32 to 63` */
  readonly where?: string;
}

/** How a difference stands to what rounding makes, in words. */
export function roundingText({ measure, value, limit, types }: Rounding): string {
  const figures = `${figure(value)} of ${figure(limit)}`;
  const texts: Readonly<Record<Rounding["measure"], string>> = {
    output: `z ${figures} expected spreads`,
    outputs: `z ${figures} expected spreads in RMS`,
    scale: `scale off by ${figures} allowed`,
    block: `a block ${figures} times its expected square error`,
    row: `a row ${figures} times its expected square error`,
    product: `${figure(value)} times what is allowed from the product of the files' weights`,
    unknown: "not judged: an input is not shown, so that nothing is known of its rounding",
  };
  return types === "" ? texts[measure] : `${texts[measure]} (${types})`;
}

function figure(value: number): string {
  return value < 100 || value >= 1e6 ? value.toPrecision(2) : value.toFixed(0);
}

/** Which share of what is allowed an error takes; above 1 it is too large. No number, or an infinite one, is Infinity times too large. */
export function shareOf(error: number, allowed: number): number {
  return error === 0 ? 0 : error <= Number.MAX_VALUE ? error / allowed : Infinity;
}

/** A difference in absolute terms: `3.0e-3 of 1.0e-5 allowed`. */
export function leftText({ error, allowed, rounding }: Difference): string {
  return rounding
    ? roundingText(rounding)
    : `${error.toExponential(1)} of ${allowed.toExponential(1)} allowed`;
}

/** How much may differ. */
export interface Allowance {
  /** Absolute. */
  readonly tolerance: number;
  /** Of the largest magnitude in the reference's row. */
  readonly relative: number;
  /** What is allowed at least: four times the reference's own error, in the cumulative verdict. */
  readonly atLeast?: number;
}

/** Rounding of activations, as a part of a row's largest magnitude, that a right engine of this type may show in one operation. */
const ROUNDING: Readonly<Record<ActivationType, number>> = {
  f32: RELATIVE_TOLERANCE,
  f16: 2 ** -9, // two roundings of 2⁻¹¹ and their sums
  bf16: 2 ** -6, // two roundings of 2⁻⁸ and their sums
  q8: 2 ** -5, // blocks of 32 rounded to 1/127 of their largest, on the way into each product
};

/** What the local verdict allows a point. */
export function localAllowance(point: string, activations: ActivationType = "f32"): Allowance {
  const { tolerance } = checkpointOf(point);
  if (activations === "f32") {
    return { tolerance, relative: tolerance === 0 ? 0 : RELATIVE_TOLERANCE };
  }
  return { tolerance, relative: ROUNDING[activations] };
}

const ULP_BINS = 32;
const floats = new Float32Array(2);
const bits = new Int32Array(floats.buffer);

/** Distance of two floats in representable 32-bit numbers. */
function ulpDistance(a: number, b: number): number {
  floats[0] = a;
  floats[1] = b;
  const [x, y] = bits;
  const ordered = (n: number) => n < 0 ? -0x80000000 - n : n;
  return Math.abs(ordered(x) - ordered(y));
}

/**
 * Compares a tensor of a pass with a reference's: |a − b| ≤ tolerance + relative · m, where m is the largest magnitude in the
 * reference's row (the last axis). Of attention the keys up to the query's position count and no others; both sides must hide the same ones among them.
 *
 * @param start absolute position of the pass's first row
 * @param positions absolute positions of the rows, where not all of the pass are there
 * @throws {RangeError} for different shapes
 */
export function compareTensors(
  point: string,
  ours: Side,
  reference: Side,
  { tolerance, relative, atLeast = 0 }: Allowance,
  start: number,
  positions?: readonly number[],
): Difference {
  const { shape } = reference;
  if (`${ours.shape}` !== `${shape}`) {
    throw new RangeError(`Cannot compare ${point}: [${ours.shape}] with [${shape}]`);
  }
  const width = shape.at(-1)!;
  const rows = width === 0 ? 0 : reference.data.length / width;
  const attention = isAttention(point);
  const positionOf = rowPositions(point, shape, start, positions);
  // Windows hide keys among those that come before: kernels mark their scores with a number, engines with −∞.
  const seen = kindOf(point) === "attn_scores"
    ? (data: Side["data"]) => data.map((score) => score <= MASKED ? -Infinity : score)
    : (data: Side["data"]) => data;
  const [a, b] = [seen(ours.data), seen(reference.data)];

  const ulps = new Array<number>(ULP_BINS).fill(0);
  let [worstShare, worst, allowedThere] = [-1, 0, 0];
  let [maxError, maxRelative, squares, norm, ownNorm, product, count] = [0, 0, 0, 0, 0, 0, 0];
  for (let row = 0; row < rows; row++) {
    const first = row * width;
    const end = first + (attention ? Math.min(width, positionOf(row) + 1) : width);
    let m = 0;
    for (let i = first; i < end; i++) {
      const magnitude = Math.abs(b[i]);
      if (magnitude > m && magnitude < Infinity) m = magnitude;
    }
    const allowed = Math.max(tolerance + relative * m, atLeast);
    for (let i = first; i < end; i++) {
      const [x, y] = [a[i], b[i]];
      // The same infinity, or no number on both sides, is no difference.
      const error = x === y || (x !== x && y !== y) ? 0 : Math.abs(x - y);
      const share = shareOf(error, allowed);
      if (share > worstShare) [worstShare, worst, allowedThere] = [share, i, allowed];
      if (!(error <= Number.MAX_VALUE)) {
        maxError = Infinity;
        continue;
      }
      if (error > maxError) maxError = error;
      if (error > maxRelative * m) maxRelative = error / m;
      squares += error * error;
      if (x - x === 0 && y - y === 0) {
        norm += y * y;
        ownNorm += x * x;
        product += x * y;
      }
      const distance = error === 0 ? 0 : ulpDistance(x, y);
      ulps[distance === 0 ? 0 : Math.min(ULP_BINS - 1, 32 - Math.clz32(distance))]++;
    }
    count += end - first;
  }
  const error = Math.abs(a[worst] - b[worst]);
  return {
    passed: worstShare <= 1,
    share: Math.max(0, worstShare),
    place: placeOf(point, shape, worst, positionOf),
    ours: a[worst],
    reference: b[worst],
    error: Number.isNaN(error) ? (worstShare > 0 ? Infinity : 0) : error,
    allowed: allowedThere,
    maxError,
    maxRelative,
    cosine: norm > 0 && ownNorm > 0
      ? product / Math.sqrt(norm * ownNorm)
      : norm === ownNorm
      ? 1
      : 0,
    nmse: maxError === Infinity ? Infinity : norm > 0 ? squares / norm : squares > 0 ? Infinity : 0,
    rms: count > 0 ? Math.sqrt(squares / count) : 0,
    ulps,
    count,
  };
}

/** Largest |a − b| over what counts of a point. */
export function largestError(point: string, a: Side, b: Side, start: number): number {
  return compareTensors(point, a, b, { tolerance: 1, relative: 0 }, start).maxError;
}

/** Whether a point's rows are over keys. */
export function isAttention(point: string): boolean {
  return /^attn_(scores|probs)$/.test(kindOf(point));
}

/** The absolute position of a row: rows are counted over all axes but the last. */
function rowPositions(
  point: string,
  shape: readonly number[],
  start: number,
  positions?: readonly number[],
): (row: number) => number {
  const at = (i: number) => positions ? positions[i] : start + i;
  if (isAttention(point)) return (row) => at(row % shape[1]);
  const perPosition = sizeOf(shape.slice(1, -1));
  const absolute = isCache(point) ? (slot: number) => slot : at;
  return (row) => absolute(Math.floor(row / perPosition));
}

/** Where the elements of a pass's tensor are, the first of whose rows is at `start`. */
export function placesOf(
  point: string,
  { shape, positions }: {
    readonly shape: readonly number[];
    readonly positions?: readonly number[];
  },
  start: number,
): (element: number) => ElementPlace {
  const positionOf = rowPositions(point, shape, start, positions);
  return (element) => placeOf(point, shape, element, positionOf);
}

function placeOf(
  point: string,
  shape: readonly number[],
  element: number,
  positionOf: (row: number) => number,
): ElementPlace {
  const width = Math.max(1, shape.at(-1)!);
  const row = Math.floor(element / width);
  const head = isAttention(point)
    ? Math.floor(row / shape[1])
    : shape.length === 3
    ? row % shape[1]
    : undefined;
  const layer = layerOf(point);
  return {
    ...(layer === undefined ? {} : { layer }),
    ...(head === undefined ? {} : { head }),
    position: positionOf(row),
    index: element % width,
  };
}

/** A place in words. */
export function placeText({ layer, head, position, index }: ElementPlace): string {
  return [
    layer === undefined ? "" : `layer ${layer}`,
    head === undefined ? "" : `head ${head}`,
    `position ${position}`,
    `index ${index}`,
  ].filter(Boolean).join(", ");
}
