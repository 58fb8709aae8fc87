/** Places of all axes of a figure. */
import type { Layout } from "../figure.ts";
import { PlacedAxis } from "./axis.ts";
import type { AxisKind, Box } from "./axis.ts";
import { rangeOf, reachesOf } from "./extents.ts";
import { isShown } from "./series.ts";
import type { Series } from "./series.ts";
import type { FullFont } from "./text.ts";

interface Draft {
  readonly kind: AxisKind;
  range: [number, number];
  start: number;
  length: number;
}

/**
 * Places the axes of some series.
 *
 * @param area the plot's area
 */
export function placeAxes(
  series: readonly Series[],
  layout: Layout,
  area: Box,
  font: FullFont,
): ReadonlyMap<string, PlacedAxis> {
  const kinds = new Map(series.flatMap(({ x, y }) => [[x.id, x], [y.id, y]] as const));
  const shown = series.filter(({ trace }) => isShown(trace));
  const reaches = new Map(
    [...kinds].map(([id, kind]) => [id, reachesOf(kind, shown, layout, font)]),
  );
  const leader = (kind: AxisKind) => kind.layout.matches ?? kind.id;
  const drafts = new Map<string, Draft>();
  for (const [id, kind] of kinds) {
    const [from, to] = kind.layout.domain ?? [0, 1];
    const across = kind.letter === "x";
    const length = (to - from) * (across ? area.width : area.height);
    const start = across ? area.x + from * area.width : area.y + (1 - to) * area.height;
    const together = [...kinds.values()].filter((each) => leader(each) === leader(kind));
    const auto = rangeOf(together.flatMap((each) => reaches.get(each.id)!), length);
    const { range, autorange } = kind.layout;
    const ends: [number, number] = range
      ? [...range]
      : kind.categories
      ? [-0.5, kind.categories.length - 0.5]
      : auto ?? (across ? [-1, 6] : [-1, 4]);
    if (!range && autorange === "reversed") ends.reverse();
    drafts.set(id, { kind, range: ends, start, length });
  }
  for (const draft of drafts.values()) {
    const anchor = draft.kind.layout.scaleanchor;
    const other = anchor === undefined ? undefined : drafts.get(anchor);
    if (other) equalScale(draft, other);
  }
  return new Map(
    [...drafts].map(([id, { kind, range, start, length }]) => [
      id,
      new PlacedAxis(kind, range, start, length),
    ]),
  );
}

/** Makes a unit as long on one axis as on the other. */
function equalScale(one: Draft, other: Draft): void {
  const pixels = ({ range, length }: Draft) => length / Math.abs(range[1] - range[0]);
  const least = Math.min(pixels(one), pixels(other));
  for (const draft of [one, other]) {
    const factor = pixels(draft) / least;
    if (factor <= 1) continue;
    if (draft.kind.layout.constrain === "domain") {
      draft.start += draft.length * (1 - 1 / factor) / 2;
      draft.length /= factor;
    } else {
      const [from, to] = draft.range;
      const more = (to - from) * (factor - 1) / 2;
      draft.range = [from - more, to + more];
    }
  }
}
