/** Why a tensor is not what it should be: what is known to go wrong is undone, and what then fits is the cause. */
import { CAUSES } from "../../diagnosis/causes.ts";
import { fewBits } from "../few_bits.ts";
import type { Band } from "./bands.ts";
import type { FactorSizes } from "../patterns/factors.ts";
import { layoutFinding, scaleText } from "./layout.ts";
import { type Similarity, similarity } from "./similarity.ts";
import type { Finding, Suspect } from "./suspect.ts";
import { type HeadLayout, inOtherOrder, type Numbers } from "./numbers.ts";
import { transposedNmse } from "./transposed.ts";

/** A tensor of A, whose numbers B may have elsewhere. */
export interface Candidate {
  readonly name: string;
  readonly a: Numbers;
  /** What B has under this name, where that is not what A has. */
  readonly b?: Numbers;
}

/** What is known of the model. */
export interface Known {
  /** Of queries and keys, where the tensor's rows have such an order. */
  readonly heads?: HeadLayout;
  /** Of what factors may be made. */
  readonly sizes?: FactorSizes;
}

/** Blocks of a matrix that may be damaged, as a share. */
const FEW = 0.05;
/** Numbers in which a rounding is looked for. */
const MOST_LOOKED_AT = 2 ** 20;
/** A norm's weight that is off by one is so within rounding. */
const OFFSET_TOLERANCE = 1e-4;

/**
 * Finds what explains the difference.
 *
 * @param others A's other tensors of the same shape, whose numbers it may have
 */
export async function findingOf(
  suspect: Suspect,
  others: readonly Candidate[],
  { heads, sizes }: Known,
  signal?: AbortSignal,
): Promise<Finding> {
  const { a, b, band, found } = suspect;
  // Scales whose bytes are exchanged are no numbers here and there.
  return (found?.nonFinite ? await otherLayout(suspect, signal) : undefined) ??
    (found && notFinite(found)) ??
    await otherTensor(suspect, others, signal) ??
    (heads && await otherRopeOrder(suspect, heads, signal)) ??
    await transposed(a, b, band, signal) ??
    (found && await otherLayout(suspect, signal)) ??
    (found && await fewerBits(suspect, signal)) ??
    (found
      ? await inPlace(suspect, await byNumbers(suspect, found, sizes, signal))
      : otherShape(a, b));
}

function notFinite({ nonFinite }: Similarity): Finding | undefined {
  if (!nonFinite) return undefined;
  const { row, column, in: which } = nonFinite;
  const file = which === "a" ? "A" : "B";
  return { cause: "nan", detail: `no number in ${file}, row ${row}, column ${column}` };
}

/** The numbers of another tensor: those of gate and up are often exchanged, in both. */
async function otherTensor(
  { name, a, b, band, blockSize, found }: Suspect,
  others: readonly Candidate[],
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  if (found?.scale === 0) return undefined; // of nothing
  for (const other of others) {
    if (other.name === name || !await beginsLike(other.a, b, band)) continue;
    const similar = await similarity(other.a, b, band, blockSize, signal);
    if (!isInBand(similar, band)) continue;
    const swapped = CAUSES["gate-up-swapped"].undo(name) === other.name && other.b &&
      await beginsLike(a, other.b, band);
    const isOutput = name === "output.weight" && other.name === "token_embd.weight";
    return {
      cause: swapped ? "gate-up-swapped" : isOutput ? "output-tied" : "other-tensor",
      detail: `it holds the numbers of A's ${other.name}`,
      undone: similar.nmse,
    };
  }
}

/** Numbers of a first look, which spares most full ones. */
const START = 4096;
/** Farther apart than this nothing is alike, whatever the band: tensors that have nothing in common are 2 apart. */
const UNLIKE = 0.5;
const starts = new WeakMap<Numbers, Promise<Float32Array>>();

/** Whether the first numbers are alike. */
export async function beginsLike(a: Numbers, b: Numbers, band: Band): Promise<boolean> {
  const [x, y] = await Promise.all([a, b].map((numbers) => {
    const known = starts.get(numbers);
    if (known) return known;
    const start = numbers.read(0, Math.min(START, numbers.rows * numbers.columns));
    starts.set(numbers, start);
    return start;
  }));
  let [dd, aa] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    dd += (y[i] - x[i]) ** 2;
    aa += x[i] ** 2;
  }
  return dd <= Math.min(band.block, UNLIKE) * aa;
}

async function otherRopeOrder(
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
  const turned = (of: Numbers): Numbers => ({ ...of, rows: of.columns, columns: of.rows });
  const ways: [detail: string, a: Numbers, b: Numbers][] = [
    ["the matrix is transposed", a, b],
    // Of the same shape, with the numbers of the other one.
    ["its numbers are those of the transposed matrix", a, turned(b)],
    ["its numbers are those of the transposed matrix", turned(a), b],
  ];
  for (const [detail, x, y] of ways) {
    const undone = await transposedNmse(x, y, signal);
    if (undone <= band.tensor) return { cause: "transposed", detail, undone };
  }
}

/**
 * Blocks read in another layout: B's, which what wrote them packs differently, or A's, whose numbers B has as somebody misread them. Of
 * several that fit, the one that fits best.
 */
async function otherLayout(
  { a, b, band, blockSize }: Suspect,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const ways = [
    ...(b.misread ?? []).map(([what, read]) => ({
      x: a,
      y: { ...b, read },
      detail: `its blocks are right when read so: ${what}`,
    })),
    ...(a.misread ?? []).map(([what, read]) => ({
      x: { ...a, read },
      y: b,
      detail: `it has what A's blocks give when read so: ${what}`,
    })),
  ];
  let best: Finding & { undone: number } | undefined;
  for (const { x, y, detail } of ways) {
    if (!await beginsLike(x, y, band)) continue;
    const after = await similarity(x, y, band, blockSize, signal);
    if (!isInBand(after, band) || after.nmse >= (best?.undone ?? Infinity)) continue;
    best = { cause: "block-layout", detail, undone: after.nmse };
    if (after.nmse === 0) break;
  }
  return best;
}

/** What can be said of the only block that is wrong: that it is misread, or has a neighbour's scale. */
async function inPlace({ a, b, band, found }: Suspect, finding: Finding): Promise<Finding> {
  if (finding.cause !== "dequant-block" || found!.bad !== 1 || !b.misread) return finding;
  const { row, column, count } = found!.firstBad!;
  const first = row * b.columns + column;
  const right = await a.read(first, count);
  const wrong = await b.read(first, count);
  for (const [what, read] of b.misread) {
    const numbers = await read(first, count);
    const isRight = distance(numbers, right) <= band.block * distance(right);
    // Its own scale is lost where it has the neighbour's; all numbers are off by one factor then.
    const hasIt = /block's scale$/.test(what) && numbers.every((number, i) =>
      number === wrong[i]
    ) &&
      distance(wrong.map((number) => number * factorOf(wrong, right)), right) <=
        band.block * distance(right);
    if (isRight || hasIt) {
      const more = isRight ? `it is right when read so: ${what}` : `it has ${what}`;
      return { ...finding, detail: `${finding.detail}; ${more}` };
    }
  }
  return finding;
}

/** Σ (x − y)², or Σ x² */
function distance(x: Float32Array, y?: Float32Array): number {
  return x.reduce((sum, value, i) => sum + (value - (y?.[i] ?? 0)) ** 2, 0);
}

/** By which x comes nearest to y. */
function factorOf(x: Float32Array, y: Float32Array): number {
  return x.reduce((sum, value, i) => sum + value * y[i], 0) / distance(x);
}

/** Numbers that a few bits hold, in a type that has more of them. */
async function fewerBits(
  { a, b, found }: Suspect,
  signal?: AbortSignal,
): Promise<Finding | undefined> {
  const rows = Math.max(1, Math.floor(Math.min(b.rows, MOST_LOOKED_AT / b.columns)));
  const count = rows * b.columns;
  if (found!.nonFinite || count > 2 * MOST_LOOKED_AT) return undefined;
  const [own, others] = await Promise.all([a, b].map(({ read }) => read(0, count)));
  signal?.throwIfAborted();
  const bits = fewBits(others, b.columns);
  // Other numbers that were rounded too differ by more.
  if (!bits || found!.nmse > bits.nmse || fewBits(own, b.columns)?.what === bits.what) {
    return undefined;
  }
  return { cause: "rounded", detail: `every number is ${bits.what}; A's are not` };
}

function otherShape(a: Numbers, b: Numbers): Finding {
  const [shapeA, shapeB] = [a, b].map(({ rows, columns }) => `${rows} x ${columns}`);
  return { cause: "shape", detail: `${shapeA} where B has ${shapeB}` };
}

async function byNumbers(
  suspect: Suspect,
  found: Similarity,
  sizes: FactorSizes | undefined,
  signal?: AbortSignal,
): Promise<Finding> {
  const { a, band } = suspect;
  const { offset, offsetNmse, scale, scaledNmse, bad, blocks, firstBad, restNmse } = found;
  if (
    a.rows === 1 && CAUSES["norm-offset"].undo.some((by) => Math.abs(offset - by) < 0.01) &&
    offsetNmse < OFFSET_TOLERANCE
  ) {
    const detail = offset > 0 ? "one larger than in A" : "one smaller than in A";
    return { cause: "norm-offset", detail, undone: offsetNmse };
  }
  // A few wrong blocks are few among all: without them there is no factor.
  const most = a.rows === 1 ? blocks / 2 : Math.max(1, FEW * blocks);
  const isFew = firstBad && bad <= most && restNmse <= band.tensor;
  if (!isFew && scale !== 0 && scaledNmse <= band.tensor) {
    const detail = `A's times ${scaleText(scale, band, sizes)}`;
    return { cause: "scaled", detail, undone: scaledNmse };
  }
  const layout = await layoutFinding(suspect, sizes, signal);
  if (layout) return layout;
  if (!isFew) {
    const isPart = bad < blocks && restNmse <= band.tensor;
    const detail = isPart ? `other numbers in ${bad} of ${blocks} blocks` : "other numbers";
    return { cause: "unknown", detail };
  }
  const { row, column, count } = firstBad;
  const place = `row ${row}, columns ${column} to ${column + count - 1}`;
  const detail = bad === 1
    ? `one block of ${blocks} is wrong: ${place}`
    : `${bad} of ${blocks} blocks are wrong, the first in ${place}`;
  return { cause: "dequant-block", detail, undone: restNmse };
}

/** Whether a tensor is as near as its type can be. */
export function isInBand(found: Similarity, band: Band): boolean {
  const { nmse, bad, nonFinite } = found;
  const far = Math.abs(found.scale - 1) > band.scale;
  return nmse <= band.tensor && bad === 0 && !nonFinite && !(nmse > 0 && far);
}
