/** How far an axis must reach for what stands on it: Plotly's rules. */
import type { Bar, Layout, Scatter } from "../figure.ts";
import type { AxisKind } from "./axis.ts";
import { placeBars } from "./bar_places.ts";
import type { Series } from "./series.ts";
import { LINE_SPACING, textBlock } from "./text.ts";
import type { FullFont } from "./text.ts";
import { cellEdges, listOf } from "./values.ts";

/** A place that must be seen. */
export interface Reach {
  /** On the axis's linear scale. */
  readonly at: number;
  /** Pixels around it that must be seen too. */
  readonly before: number;
  readonly after: number;
  /** On which sides some white belongs: a twentieth of the axis. */
  readonly airy: "around" | "before" | "after" | "nowhere";
}

/** The places to be seen on an axis. */
export function reachesOf(
  axis: AxisKind,
  series: readonly Series[],
  layout: Layout,
  font: FullFont,
): Reach[] {
  const here = series.filter(({ x, y }) => x.id === axis.id || y.id === axis.id);
  const bars = here.filter((each): each is Series<Bar> => each.trace.type === "bar");
  const all: Reach[] = [
    ...here.flatMap((each) => {
      if (each.trace.type === "heatmap") {
        const ends = cellEdges(each.trace)[axis.letter];
        return [tight(ends[0]), tight(ends.at(-1)!)];
      }
      return each.trace.type === "scatter" ? scatterReaches(each.trace, axis) : [];
    }),
    ...subplots(bars).flatMap((group) => barReaches(group, axis, layout, font)),
    ...(layout.shapes ?? []).flatMap((shape): Reach[] => {
      const ref = shape[`${axis.letter}ref`] ?? axis.letter;
      if (ref !== axis.id) return [];
      const pad = (shape.line?.width ?? 2) / 2;
      return [shape[`${axis.letter}0`], shape[`${axis.letter}1`]]
        .map((value): Reach => ({
          at: axis.linear(value),
          before: pad,
          after: pad,
          airy: "nowhere",
        }));
    }),
    ...(layout.annotations ?? []).flatMap((annotation): Reach[] => {
      const ref = annotation[`${axis.letter}ref`] ?? axis.letter;
      if (ref !== axis.id) return [];
      const block = textBlock(annotation.text, { ...font, ...annotation.font });
      const across = axis.letter === "x";
      const size = (across ? block.width : block.height) + 4;
      const anchor = across ? annotation.xanchor : annotation.yanchor;
      const part = { left: 0, bottom: 0, center: 0.5, middle: 0.5, right: 1, top: 1 }[
        anchor ?? "center"
      ];
      const shift = (across ? annotation.xshift : annotation.yshift) ?? 0;
      return [{
        at: annotation[axis.letter], // on a log axis a power of ten already
        before: part * size - shift,
        after: (1 - part) * size + shift,
        airy: "nowhere",
      }];
    }),
  ];
  return all.filter(({ at }) => Number.isFinite(at));
}

/** Series by the pair of their axes. */
export function subplots<S extends Series>(series: readonly S[]): S[][] {
  const pairs = Map.groupBy(series, ({ x, y }) => `${x.id} ${y.id}`);
  return [...pairs.values()];
}

function tight(at: number): Reach {
  return { at, before: 0, after: 0, airy: "nowhere" };
}

function scatterReaches(trace: Scatter, axis: AxisKind): Reach[] {
  const xs = listOf(trace.x);
  const ys = listOf(trace.y);
  const values = axis.letter === "x" ? xs : ys;
  const hasMarkers = trace.mode.includes("markers");
  const filled = trace.fill !== undefined;
  const airy = axis.letter === "y" || (!filled && (hasMarkers || trace.mode.includes("text")));
  const size = trace.marker?.size ?? 6;
  const reaches = values.map((value, i): Reach => {
    const own = typeof size === "number" ? size : size[i] ?? 6;
    const pad = hasMarkers && airy ? Math.max(own / 1.6, 3) : 0;
    return { at: axis.linear(value), before: pad, after: pad, airy: airy ? "around" : "nowhere" };
  });
  const closed = xs.length > 1 && xs[0] === xs.at(-1) && ys[0] === ys.at(-1);
  return trace.fill === "tozeroy" && axis.letter === "y" && !closed
    ? fromZero(reaches, axis)
    : reaches;
}

/** The same and zero, without white beyond it. */
function fromZero(reaches: readonly Reach[], axis: AxisKind): Reach[] {
  if (axis.log) return [...reaches];
  const values = reaches.map(({ at }) => at).filter(Number.isFinite);
  const airy = values.every((value) => value >= 0)
    ? "after"
    : values.every((value) => value <= 0)
    ? "before"
    : "around";
  return [tight(0), ...reaches.map((reach) => ({ ...reach, airy }) as const)];
}

function barReaches(
  bars: readonly Series<Bar>[],
  axis: AxisKind,
  layout: Layout,
  font: FullFont,
): Reach[] {
  return placeBars(bars, layout).flatMap((places, i) => {
    const alongs = bars[i].trace.orientation === "h" ? "y" : "x";
    if (axis.letter === alongs) return places.flatMap(({ room }) => room.map(tight));
    const airy = (at: number): Reach => ({ at, before: 0, after: 0, airy: "around" });
    const room = wordRoom(bars[i].trace, font);
    const reaches = places.map(({ base, top }) => ({
      ...airy(top),
      [top < base ? "before" : "after"]: room,
    }));
    return bars[i].trace.base
      ? [...reaches, ...places.map(({ base }) => airy(base))]
      : fromZero(reaches, axis);
  });
}

/** What words above bars need. */
function wordRoom({ orientation, text, textposition, textfont }: Bar, font: FullFont): number {
  if (orientation === "h" || text === undefined || textposition !== "outside") return 0;
  const lines = Math.max(...text.map((each) => each.split("<br>").length));
  return lines * LINE_SPACING * (textfont?.size ?? font.size) + 3;
}

/** Ends of an axis that is so many pixels long. */
export function rangeOf(reaches: readonly Reach[], length: number): [number, number] | undefined {
  if (reaches.length === 0) return undefined;
  let low = Infinity;
  let high = -Infinity;
  for (const { at } of reaches) {
    low = Math.min(low, at);
    high = Math.max(high, at);
  }
  if (low === high) return [low - 1, high + 1];
  const [least, most] = [low, high];
  const white = 0.05 * length;
  // How much a pixel is depends on the ends, and they on it: a few rounds settle it.
  for (let round = 0; round < 12; round++) {
    const pixel = (high - low) / length;
    [low, high] = [least, most];
    for (const { at, before, after, airy } of reaches) {
      const below = before + (airy === "around" || airy === "before" ? white : 0);
      const above = after + (airy === "around" || airy === "after" ? white : 0);
      low = Math.min(low, at - pixel * Math.min(below, 0.45 * length));
      high = Math.max(high, at + pixel * Math.min(above, 0.45 * length));
    }
  }
  return [low, high];
}
