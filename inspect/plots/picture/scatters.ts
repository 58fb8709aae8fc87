/** Lines, points, fills, and the words beside points. */
import type { Scatter } from "../figure.ts";
import type { PlacedAxis } from "./axis.ts";
import { colorsOf, css, halved } from "./colors.ts";
import { dashes, marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import { LINE_SPACING, textBlock, textRows } from "./text.ts";
import type { FullFont } from "./text.ts";
import { listOf } from "./values.ts";

/** A trace with the pixels of its points; NaN where there is none. */
export interface PlacedScatter {
  readonly trace: Scatter;
  readonly color: string;
  readonly x: PlacedAxis;
  readonly y: PlacedAxis;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** Places the points. */
export function placeScatter(
  { trace, color }: { readonly trace: Scatter; readonly color: string },
  x: PlacedAxis,
  y: PlacedAxis,
): PlacedScatter {
  const ys = listOf(trace.y);
  const points = listOf(trace.x).map((value, i) => ({ x: x.at(value), y: y.at(ys[i] ?? NaN) }));
  return { trace, color, x, y, points };
}

/** Symbols with a radius of 1, as Plotly draws them; Vega doubles it. */
const SYMBOLS: Readonly<Record<string, string>> = {
  circle: "circle",
  square: "square",
  diamond: "M1.3,0L0,1.3L-1.3,0L0,-1.3Z",
  "triangle-up": "M-1.155,0.5L1.155,0.5L0,-1Z",
  x: "M0,0.707L0.707,1.414L1.414,0.707L0.707,0L1.414,-0.707L0.707,-1.414L0,-0.707" +
    "L-0.707,-1.414L-1.414,-0.707L-0.707,0L-1.414,0.707L-0.707,1.414Z",
};

/** Symbol of a point, for the picture and for the legend. */
export function symbolRow(
  { marker, opacity = 1 }: Scatter,
  color: string,
  i: number,
  { x, y, most = Infinity }: { x: number; y: number; most?: number },
): Row {
  const size = Math.min(each(marker?.size, i) ?? 6, most);
  const line = marker?.line;
  // Points of many sizes lie on each other: each has a rim and lets others through.
  const bubbles = typeof marker?.size === "object";
  return {
    x,
    y,
    size: size * size,
    shape: SYMBOLS[marker?.symbol ?? "circle"],
    fill: color,
    stroke: line?.color ?? (bubbles ? "#fff" : "#444"),
    strokeWidth: line?.width ?? (bubbles ? 1 : 0),
    opacity: opacity * (marker?.opacity ?? (bubbles ? 0.7 : 1)),
  };
}

function each<T>(value: T | readonly T[] | undefined, i: number): T | undefined {
  return Array.isArray(value) ? value[i] : value as T | undefined;
}

/** A point's colour. */
export function pointColors(
  { trace, color }: { trace: Scatter; color: string },
): (i: number) => string {
  const { marker, line } = trace;
  const own = marker?.color;
  if (own === undefined) return () => line?.color ?? color;
  if (typeof own === "string") return () => own;
  const values = listOf(own);
  const numbers = values.filter((value) => typeof value === "number" && Number.isFinite(value));
  const low = marker?.cmin ?? Math.min(...numbers as number[]);
  const high = marker?.cmax ?? Math.max(...numbers as number[]);
  const scaled = marker?.colorscale && colorsOf(marker.colorscale, low, high);
  return (i) => {
    const value = values[i];
    if (typeof value === "string") return value;
    return scaled && Number.isFinite(value) ? css(scaled(value)) : color;
  };
}

/** Colour of a trace's line. */
export function lineColor({ trace, color }: { trace: Scatter; color: string }): string {
  const { marker } = trace;
  return trace.line?.color ?? (typeof marker?.color === "string" ? marker.color : color);
}

const INTERPOLATE = { linear: "linear", hv: "step-after", spline: "catmull-rom" };

/**
 * What is drawn inside the plot.
 *
 * @param previous the trace before it on the same axes, to which it may be filled
 */
export function scatterMarks(placed: PlacedScatter, previous: PlacedScatter | undefined): Mark[] {
  const { trace, points } = placed;
  return [
    ...fillMarks(placed, previous),
    ...(trace.mode.includes("lines") ? lineMarks(placed) : []),
    ...(trace.mode.includes("markers") ? pointMarks(placed) : []),
  ];

  function pointMarks(each: PlacedScatter): Mark[] {
    const color = pointColors(each);
    return marks(
      "symbol",
      points.flatMap((point, i) => isPoint(point) ? [symbolRow(trace, color(i), i, point)] : []),
    );
  }
}

function isPoint({ x, y }: { x: number; y: number }): boolean {
  return Number.isFinite(x) && Number.isFinite(y);
}

function lineMarks(placed: PlacedScatter): Mark[] {
  const { trace } = placed;
  const { width = 2, dash } = trace.line ?? {};
  return marks("line", curve(placed), {
    stroke: lineColor(placed),
    strokeWidth: width,
    strokeDash: dashes(dash, width),
    strokeJoin: "round",
    interpolate: INTERPOLATE[trace.line?.shape ?? "linear"],
    opacity: trace.opacity ?? 1,
  });
}

/** The points of a line, with its gaps. */
function curve({ trace, points }: PlacedScatter): Row[] {
  const kept = trace.connectgaps ? points.filter(isPoint) : points;
  return kept.map((point) =>
    isPoint(point) ? { ...point, defined: true } : { x: 0, y: 0, defined: false }
  );
}

/** The area down to zero, or to the previous trace, which has the same places. */
function fillMarks(placed: PlacedScatter, previous: PlacedScatter | undefined): Mark[] {
  const { trace, y } = placed;
  if (trace.fill === undefined) return [];
  const zero = y.kind.log ? y.end : y.at(0);
  const other = trace.fill === "tonexty" && previous ? curve(previous) : [];
  const rows = curve(placed).map((row, i) => {
    const below = other[i] ?? { y: zero, defined: true };
    return { ...row, y2: below.y, defined: row.defined && below.defined };
  });
  return marks("area", rows, {
    fill: trace.fillcolor ?? halved(lineColor(placed)),
    interpolate: INTERPOLATE[trace.line?.shape ?? "linear"],
    opacity: trace.opacity ?? 1,
  });
}

/** The words of a trace's points that are seen. */
export function pointWords({ trace, points, x, y }: PlacedScatter, font: FullFont): Row[] {
  if (!trace.mode.includes("text") || trace.text === undefined) return [];
  const [vertical, horizontal] = (trace.textposition ?? "middle center").split(" ");
  const full = { ...font, ...trace.textfont };
  const up = { top: -1, middle: 0, bottom: 1 }[vertical]!;
  const side = { left: -1, center: 0, right: 1 }[horizontal]!;
  return points.flatMap((point, i) => {
    const text = trace.text![i];
    if (!text || !isPoint(point) || !x.shows(point.x) || !y.shows(point.y)) return [];
    const block = textBlock(text, full);
    const radius = trace.mode.includes("markers")
      ? (each(trace.marker?.size, i) ?? 6) / 1.6 + 1
      : 0;
    const lines = (block.lines.length - 1) * LINE_SPACING + 1;
    return textRows(block, {
      x: point.x + side * radius,
      y: point.y + 0.75 * full.size + up * radius + (up - 1) * lines * full.size / 2,
      align: side < 0 ? "right" : side > 0 ? "left" : "center",
      opacity: trace.opacity,
    });
  });
}
