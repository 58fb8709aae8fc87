/** Why a tensor is not what it should be: what is known to go wrong is undone, and what then fits is the cause. */
import { type Cause, CAUSES } from "../../diagnosis/causes.ts";
import { fewBits } from "../few_bits.ts";
import type { Band } from "./bands.ts";
import { type Similarity, similarity } from "./similarity.ts";
import { type HeadLayout, inOtherOrder, type Numbers } from "./numbers.ts";
import { transposedNmse } from "./transposed.ts";

/** What can be wrong with a tensor: causes that a comparison of passes knows too, and those that only files can have. */
export type DiffCause =
  | Cause
  | "missing"
  | "extra"
  | "renamed"
  | "shape"
  | "scaled"
  | "exchanged";

/** What was found. */
export interface Finding {
  readonly cause: DiffCause;
  /** For people: what is wrong, and where. */
  readonly detail: string;
  /** The NMSE when it is undone. */
  readonly undone?: number;
}

/** A tensor of both files that are not alike. */
export interface Suspect {
  readonly name: string;
  readonly a: Numbers;
  readonly b: Numbers;
  readonly band: Band;
  readonly blockSize: number;
  /** Undefined where their shapes differ. */
  readonly found?: Similarity;
}

/** Numbers in which a rounding is looked for. */
const MOST_LOOKED_AT = 2 ** 20;
/** What rounding to two bits makes of normal numbers is less. */
const ROUNDED_NMSE = 0.3;
/** A norm's weight that is off by one is so within rounding. */
const OFFSET_TOLERANCE = 1e-4;

/**
 * Finds what explains the difference.
 *
 * @param others suspects of the same shape, whose numbers it may have
 * @param heads of queries and keys, for tensors whose rows have an order
 */
export async function findingOf(
  suspect: Suspect,
  others: readonly Suspect[],
  heads: HeadLayout | undefined,
  signal?: AbortSignal,
): Promise<Finding> {
  const { a, b, band, found } = suspect;
  return (found && notFinite(found)) ??
    await exchanged(suspect, others, signal) ??
    (heads && await reordered(suspect, heads, signal)) ??
    await transposed(a, b, band, signal) ??
    (found && await otherLayout(suspect, signal)) ??
    (found && await fewerBits(suspect, signal)) ??
    (found ? byNumbers(found, band, a.rows === 1) : otherShape(a, b));
}

function notFinite({ nonFinite }: Similarity): Finding | undefined {
  if (!nonFinite) return undefined;
  const { row, column, in: which } = nonFinite;
  const file = which === "a" ? "A" : "B";
  return { cause: "nan", detail: `no number in ${file}, row ${row}, column ${column}` };
}

async function exchanged(
  suspect: Suspect,
  others: readonly Suspect[],
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const { name, a, band, blockSize } = suspect;
  for (const other of others) {
    if (other.name === name || !await beginsLike(a, other.b, band)) continue;
    const found = await similarity(a, other.b, band, blockSize, signal);
    if (!isInBand(found, band)) continue;
    const swapped = CAUSES["gate-up-swapped"].undo(name) === other.name;
    return {
      cause: swapped ? "gate-up-swapped" : "exchanged",
      detail: `its numbers are in B's ${other.name}`,
      undone: found.nmse,
    };
  }
}

/** Whether the first numbers are alike: a first look that spares most full ones. */
export async function beginsLike(a: Numbers, b: Numbers, band: Band): Promise<boolean> {
  const count = Math.min(4096, a.rows * a.columns);
  const part = (numbers: Numbers): Numbers => ({
    ...numbers,
    rows: 1,
    columns: count,
    together: 1,
  });
  const { nmse } = await similarity(part(a), part(b), band, 1);
  return nmse <= band.block;
}

async function reordered(
  { a, b, band, blockSize, found }: Suspect,
  heads: HeadLayout,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  if (!found) return undefined;
  for (const order of ["half", "adjacent"] as const) {
    const undone = inOtherOrder(b, order, heads);
    if (!undone) continue;
    const after = await similarity(a, undone, band, blockSize, signal);
    if (!isInBand(after, band)) continue;
    const detail = "rows are in the other RoPE order";
    return { cause: "qk-permuted", detail, undone: after.nmse };
  }
}

async function transposed(
  a: Numbers,
  b: Numbers,
  band: Band,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const undone = await transposedNmse(a, b, signal);
  if (undone > band.tensor) return undefined;
  return { cause: "transposed", detail: "the matrix is transposed", undone };
}

/** B's blocks read in another layout: what wrote them packs them differently. */
async function otherLayout(
  { a, b, band, blockSize }: Suspect,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  for (const [what, read] of b.misread ?? []) {
    const numbers: Numbers = { ...b, read };
    if (!await beginsLike(a, numbers, band)) continue;
    const after = await similarity(a, numbers, band, blockSize, signal);
    if (!isInBand(after, band)) continue;
    return {
      cause: "block-layout",
      detail: `its blocks are right when read so: ${what}`,
      undone: after.nmse,
    };
  }
}

/** Numbers that a few bits hold, in a type that has more of them. */
async function fewerBits(
  { a, b, found }: Suspect,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const rows = Math.max(1, Math.floor(Math.min(b.rows, MOST_LOOKED_AT / b.columns)));
  const count = rows * b.columns;
  if (!(found!.nmse < ROUNDED_NMSE) || count > 2 * MOST_LOOKED_AT) return undefined;
  const [own, others] = await Promise.all([a, b].map(({ read }) => read(0, count)));
  signal?.throwIfAborted();
  const bits = fewBits(others, b.columns);
  if (bits === undefined || fewBits(own, b.columns) === bits) return undefined;
  return { cause: "rounded", detail: `every number is ${bits}; A's are not` };
}

function otherShape(a: Numbers, b: Numbers): Finding {
  const [shapeA, shapeB] = [a, b].map(({ rows, columns }) => `${rows} x ${columns}`);
  return { cause: "shape", detail: `${shapeA} where B has ${shapeB}` };
}

function byNumbers(found: Similarity, band: Band, isVector: boolean): Finding {
  const { offset, offsetNmse, scale, scaledNmse, bad, blocks, firstBad, restNmse } = found;
  if (
    isVector && CAUSES["norm-offset"].undo.some((by) => Math.abs(offset - by) < 0.01) &&
    offsetNmse < OFFSET_TOLERANCE
  ) {
    const detail = offset > 0 ? "one larger than in A" : "one smaller than in A";
    return { cause: "norm-offset", detail, undone: offsetNmse };
  }
  if (firstBad && bad < blocks / 2 && restNmse <= band.tensor) {
    const { row, column, count } = firstBad;
    const place = `row ${row}, columns ${column} to ${column + count - 1}`;
    const detail = bad === 1
      ? `one block of ${blocks} is wrong: ${place}`
      : `${bad} of ${blocks} blocks are wrong, the first in ${place}`;
    return { cause: "dequant-block", detail, undone: restNmse };
  }
  if (scaledNmse <= band.tensor) {
    const detail = scale === 0 ? "all zeros" : `A's times ${Number(scale.toPrecision(4))}`;
    return { cause: "scaled", detail, undone: scaledNmse };
  }
  return { cause: "unknown", detail: "other numbers" };
}

/** Whether a tensor is as near as its type can be. */
export function isInBand(found: Similarity, band: Band): boolean {
  const { nmse, bad, nonFinite } = found;
  const far = Math.abs(found.scale - 1) > band.scale;
  return nmse <= band.tensor && bad === 0 && !nonFinite && !(nmse > 0 && far);
}
