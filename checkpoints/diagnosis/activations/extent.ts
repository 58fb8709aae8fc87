/** Where numbers differ: in all of a tensor, or only at some positions, in some heads or features. */
import { runsText } from "../../files/patterns/runs.ts";
import { isAttention, placesOf } from "../../parity/compare.ts";

/** What is smaller than this share of the largest difference is not told. */
const SMALL = 1e-3;

/**
 * In which part of a point both sides differ, in words; undefined where it is all of it.
 *
 * @param start absolute position of the first row
 */
export function extentText(
  point: string,
  shape: readonly number[],
  ours: Float32Array,
  theirs: Float32Array,
  start: number,
): string | undefined {
  const off = ours.map((value, i) => Math.abs(value - theirs[i]));
  const largest = off.reduce((a, b) => Math.max(a, b));
  const placeOf = placesOf(point, { shape }, start);
  const axes = new Map<string, { all: Set<number>; wrong: Set<number> }>();
  off.forEach((error, i) => {
    const { head, position, index } = placeOf(i);
    const named = {
      positions: position,
      heads: head,
      [isAttention(point) ? "keys" : "features"]: index,
    };
    for (const [axis, at] of Object.entries(named)) {
      if (at === undefined) continue;
      let seen = axes.get(axis);
      if (!seen) axes.set(axis, seen = { all: new Set(), wrong: new Set() });
      seen.all.add(at);
      if (error > SMALL * largest) seen.wrong.add(at);
    }
  });
  const parts = [...axes].filter(([, { all, wrong }]) => wrong.size < all.size)
    .map(([axis, { wrong }]) => runsText([...wrong].sort((a, b) => a - b), axis));
  return parts.length === 0 ? undefined : `only ${parts.join(", ")} differ`;
}
