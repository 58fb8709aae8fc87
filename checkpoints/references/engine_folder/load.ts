/** Tensors of a folder, as our points have them. */
import { extname } from "node:path";
import {
  type Point,
  type ResolvedPoint,
  toAdjacent,
  toHalf,
} from "../../../inspect/points/points.ts";
import { readArrow } from "../../../inspect/tables/files.ts";
import { decodeNpy, type StoredTensor, TensorFileError } from "../../files/npy.ts";
import type { ReferencePass, ReferenceTensor } from "../reference.ts";
import { arrowRope, arrowTensor } from "./arrow_rows.ts";
import { toPointAxes } from "./axes.ts";
import { decodeCheckpointBin } from "./checkpoint_bin.ts";
import type { ManifestTensor } from "./manifest.ts";

/** A tensor of a pass in a file. */
export interface Entry extends ManifestTensor {
  readonly resolved: ResolvedPoint;
}

/** The pass that a tensor is of. */
export type PassPlace = Pick<ReferencePass, "step" | "start" | "ids">;

/** Order of a head's numbers. */
type Rope = "adjacent" | "half";

/** Gives the tensors that a file holds: one, or in an Arrow file those of many steps and layers. */
type TensorFile = (entry: Entry, pass: PassPlace, rope: Rope | undefined) => ReferenceTensor;

/** Makers of {@linkcode TensorFile}s, by the ending of the name. */
const FILES: Readonly<Record<string, (path: string) => Promise<TensorFile>>> = {
  async ".npy"(path) {
    const stored = decodeNpy(await Deno.readFile(path));
    return (entry, pass, rope) => asPoint(entry, pass, rope, [stored]);
  },
  async ".bin"(path) {
    const stored = decodeCheckpointBin(await Deno.readFile(path));
    // Whoever writes such files without ggml may well write the shape the other way around; the numbers are the same.
    const reversed = { ...stored, shape: stored.shape.toReversed() };
    return (entry, pass, rope) => asPoint(entry, pass, rope, [stored, reversed]);
  },
  async ".arrow"(path) {
    const table = await readArrow(path);
    return (entry, pass, rope) => {
      const { shape, data, positions } = arrowTensor(table, entry.resolved.point, pass.step);
      const [stored] = claimed(entry, [{ shape, data }]);
      const ours = asOurs(entry.resolved, stored.data, rope ?? arrowRope(table));
      return withPositions(entry.resolved.point, { shape, data: ours }, positions, pass);
    };
  },
};

/** Whether a file may hold tensors, by its name. */
export function isTensorFile(file: string): boolean {
  return Object.hasOwn(FILES, extname(file));
}

/**
 * Reads a file of tensors. What it gives brings each to the axes, the row order and the scale of its point; `rope` is the
 * engine's row order, and without it what the file or the tensor's name says.
 *
 * @throws {TensorFileError | ArrowFileError} when the file does not hold what it should; so does what it gives
 */
export async function openTensorFile(path: string): Promise<TensorFile> {
  // Reading a pipe waits for whoever writes into it.
  if (!(await Deno.stat(path)).isFile) throw new TensorFileError(`${path}: this is no file`);
  return await FILES[extname(path)](path);
}

/** @param readings the same numbers under shapes that they may have, the likeliest first */
function asPoint(
  entry: Entry,
  pass: PassPlace,
  rope: Rope | undefined,
  readings: readonly StoredTensor[],
): ReferenceTensor {
  const { resolved: { point }, axes, positions } = entry;
  const lengths = { T: positions?.length ?? pass.ids.length, S: pass.start + pass.ids.length };
  const { shape, data } = firstOf(
    claimed(entry, readings),
    (reading) => toPointAxes(point, reading, lengths, axes),
  );
  const tensor = { shape, data: asOurs(entry.resolved, data, rope) };
  return withPositions(point, tensor, positions ?? lastRows(point, shape, pass), pass);
}

/** The readings with the shape that the manifest claims; all where it claims none. */
function claimed({ shape }: Entry, readings: readonly StoredTensor[]): readonly StoredTensor[] {
  const fitting = readings.filter((reading) => !shape || `${reading.shape}` === `${shape}`);
  if (fitting.length > 0) return fitting;
  throw new TensorFileError(
    `shape [${readings[0].shape.join(", ")}] where the manifest says [${shape!.join(", ")}]`,
  );
}

/** The first result without an error; where there is none, the first error. */
function firstOf<T, R>(tries: readonly T[], attempt: (value: T) => R): R {
  let first: unknown;
  for (const each of tries) {
    try {
      return attempt(each);
    } catch (error) {
      first ??= error;
    }
  }
  throw first;
}

/** In the row order of the model's file, and in our scale. */
function asOurs<A extends Float32Array | Float64Array>(
  { point, rowOrder, factor }: ResolvedPoint,
  data: A,
  rope: Rope | undefined,
): A {
  const own = point.rope?.order;
  const order = rope ?? (rowOrder === "half" ? "half" : own);
  const reorder = order === "half" ? toAdjacent : toHalf;
  const ordered = !own || order === own
    ? data
    : reorder(data, point.shape.at(-1) as number, point.rope?.width);
  return factor === 1 ? ordered : ordered.map((value) => value / factor) as A;
}

/** Logits may be there for the last rows alone. */
function lastRows(point: Point, shape: readonly number[], pass: PassPlace): number[] | undefined {
  if (point.shape[0] !== "R") return undefined;
  const first = pass.start + pass.ids.length - shape[0];
  return Array.from({ length: shape[0] }, (_, row) => first + row);
}

/**
 * Positions stand with a tensor only where they are not all that it could have.
 *
 * @throws {TensorFileError} when some are not of the pass
 */
function withPositions(
  { axes }: Point,
  tensor: ReferenceTensor,
  positions: readonly number[] | undefined,
  pass: PassPlace,
): ReferenceTensor {
  const end = pass.start + pass.ids.length;
  const start = axes[0] === "slot" ? 0 : pass.start;
  const outside = positions?.find((position) => position < start || position >= end);
  if (outside !== undefined) {
    throw new TensorFileError(`position ${outside} is not of the pass from ${start} to ${end - 1}`);
  }
  // They differ from each other, so that their number tells.
  return positions === undefined || positions.length === end - start
    ? tensor
    : { ...tensor, positions };
}
