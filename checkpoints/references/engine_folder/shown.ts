/** What a folder does not show of what its model computes: said before anything is judged. */
import type { Point } from "../../../inspect/points/points.ts";
import { CHECKPOINTS, isCompared } from "../../parity/contract.ts";
import type { FolderContents } from "./contents.ts";

/** Kinds that are named one by one. */
const MOST_KINDS = 6;
/** Parts of other points, which engines seldom have as tensors. */
const PARTS = /_(rms|pre)$|^probs$/;

/**
 * Points, layers and steps that are not there, a line each; none where all are.
 *
 * @param points of the model
 */
export function folderAbsences(
  { passes, ids = [] }: FolderContents,
  points: readonly Point[],
): string[] {
  const all = points.filter(({ name, kind, onRequest }) =>
    !onRequest && isCompared(name) && !PARTS.test(kind)
  );
  const entries = new Set(passes.flatMap(({ entries }) => [...entries.keys()]));
  const shown = all.filter(({ name }) => entries.has(name));
  if (entries.size === 0) return ["the folder shows no tensors: ids alone are judged"];
  const lines: string[] = [];
  if (shown.length < all.length) {
    const what = [...missingLayers(shown, all), ...missingKinds(shown, all)].join(", ");
    const kinds = new Set(shown.map(({ kind }) => kind));
    const unjudged = CHECKPOINTS.filter(({ points }) =>
      points.some((kind) => !PARTS.test(kind) && all.some((each) => each.kind === kind)) &&
      !points.some((kind) => kinds.has(kind))
    );
    const rest = unjudged.length > 0
      ? `; not judged: ${unjudged.map(({ title }) => title).join(", ")}`
      : "";
    lines.push(`the folder shows ${shown.length} of ${all.length} points: ${what}${rest}`);
  }
  const steps = passes.filter(({ entries }) => entries.size > 0).map(({ step }) => step);
  // What follows the last id was not run, or nobody has told.
  const lost = Array.from({ length: ids.length }, (_, step) => step)
    .filter((step) => !steps.includes(step));
  if (lost.length > 0) {
    lines.push(`the folder shows tensors of step ${ranges(steps)}, not of ${ranges(lost)}`);
  }
  return lines;
}

/** That a folder shows blocks which its model does not have; undefined where it does not. */
export function blocksBeyond({ beyond = [] }: FolderContents, layers: number): string | undefined {
  if (beyond.length === 0) return undefined;
  const more = beyond.length > 1 ? ` and ${beyond.length - 1} more` : "";
  return `the folder shows ${beyond[0]}${more}: the model has ${layers} blocks, 0 to ${layers - 1}`;
}

function missingLayers(shown: readonly Point[], all: readonly Point[]): string[] {
  const layersOf = (
    points: readonly Point[],
  ) => [...new Set(points.flatMap(({ layer }) => layer === undefined ? [] : [layer]))];
  const [own, every] = [layersOf(shown), layersOf(all)];
  if (own.length === every.length) return [];
  return [own.length === 0 ? "no blocks" : `blk.${ranges(own)} of ${every.length} blocks`];
}

function missingKinds(shown: readonly Point[], all: readonly Point[]): string[] {
  const kindsOf = (points: readonly Point[]) => [...new Set(points.map(({ kind }) => kind))];
  const [own, every] = [kindsOf(shown), kindsOf(all)];
  const lost = every.filter((kind) => !own.includes(kind));
  if (lost.length === 0) return [];
  if (own.length <= MOST_KINDS) return [own.length === 0 ? "none" : own.join(", ")];
  const more = lost.length > MOST_KINDS ? ` and ${lost.length - MOST_KINDS} more` : "";
  return [`no ${lost.slice(0, MOST_KINDS).join(", ")}${more}`];
}

/** `0 to 3, 7` */
function ranges(numbers: readonly number[]): string {
  const sorted = numbers.toSorted((a, b) => a - b);
  const found: string[] = [];
  for (let i = 0; i < sorted.length;) {
    let end = i;
    while (sorted[end + 1] === sorted[end] + 1) end++;
    found.push(end > i ? `${sorted[i]} to ${sorted[end]}` : `${sorted[i]}`);
    i = end + 1;
  }
  return found.join(", ");
}
