/** Heatmaps: matrices as images or as boxes, and the words in their cells. */
import type { Heatmap } from "../figure.ts";
import { encodeBase64 } from "../numbers.ts";
import type { PlacedAxis } from "./axis.ts";
import { colorsOf, css, inkOn } from "./colors.ts";
import { marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import { rgbaPng } from "./png.ts";
import { LINE_SPACING, textBlock, textRows } from "./text.ts";
import type { FullFont } from "./text.ts";
import { cellEdges, isNumber, matrixOf } from "./values.ts";

/** The cells. */
export function heatmapMarks(trace: Heatmap, x: PlacedAxis, y: PlacedAxis): Mark[] {
  const edges = cellEdges(trace);
  const xs = edges.x.map((edge) => x.pixel(edge));
  const ys = edges.y.map((edge) => y.pixel(edge));
  const gaps = Boolean(trace.xgap || trace.ygap);
  const opacity = trace.opacity ?? 1;
  return gaps || !isEven(xs) || !isEven(ys)
    ? marks("rect", boxes(trace, xs, ys).map((row) => ({ ...row, opacity })))
    // Cells are sharp, and as wide as they are.
    : marks("image", [{ ...image(trace, xs, ys), opacity }], { smooth: false, aspect: false });
}

function isEven(edges: readonly number[]): boolean {
  const step = (edges.at(-1)! - edges[0]) / (edges.length - 1);
  return edges.every((edge, i) => Math.abs(edge - edges[0] - i * step) < 0.01);
}

/** Shades of a colour scale in an image: more than a channel has. */
const SHADES = 1024;

/** All cells as one image, a pixel each. */
function image(trace: Heatmap, xs: readonly number[], ys: readonly number[]): Row {
  const rows = matrixOf(trace.z);
  const width = xs.length - 1;
  const height = ys.length - 1;
  const { zmin, zmax } = trace;
  const color = colorsOf(trace.colorscale, 0, SHADES);
  const shades = Uint8Array.from(
    Array.from({ length: SHADES + 1 }, (_, shade) => [...color(shade), 255]).flat(),
  );
  const whole = new Uint32Array(shades.buffer); // a pixel in one number
  const pixels = new Uint32Array(width * height); // transparent: gaps stay so
  const [leftwards, upwards] = [xs[0] > xs[width], ys[0] > ys[height]];
  rows.forEach((row, r) => {
    const line = (upwards ? height - 1 - r : r) * width;
    for (let c = 0; c < row.length; c++) {
      const value = row[c];
      if (!isNumber(value)) continue;
      const part = (value - zmin) / (zmax - zmin || 1);
      const shade = Math.round(Math.min(Math.max(part, 0), 1) * SHADES);
      pixels[line + (leftwards ? width - 1 - c : c)] = whole[shade];
    }
  });
  const png = rgbaPng(new Uint8Array(pixels.buffer), width);
  return {
    url: `data:image/png;base64,${encodeBase64(png)}`,
    x: Math.min(xs[0], xs[width]),
    y: Math.min(ys[0], ys[height]),
    width: Math.abs(xs[width] - xs[0]),
    height: Math.abs(ys[height] - ys[0]),
  };
}

/** One box per cell, smaller by the gaps. */
function boxes(trace: Heatmap, xs: readonly number[], ys: readonly number[]): Row[] {
  const color = colorsOf(trace.colorscale, trace.zmin, trace.zmax);
  const { xgap = 0, ygap = 0 } = trace;
  return matrixOf(trace.z).flatMap((row, r) =>
    Array.from(row).flatMap((value, c) =>
      isNumber(value)
        ? [{
          x: Math.min(xs[c], xs[c + 1]) + xgap / 2,
          y: Math.min(ys[r], ys[r + 1]) + ygap / 2,
          width: Math.max(Math.abs(xs[c + 1] - xs[c]) - xgap, 0),
          height: Math.max(Math.abs(ys[r + 1] - ys[r]) - ygap, 0),
          fill: css(color(value)),
        }]
        : []
    )
  );
}

/** Words in the cells that are seen, dark on light or light on dark unless a colour is given. */
export function cellWords(
  trace: Heatmap,
  x: PlacedAxis,
  y: PlacedAxis,
  font: FullFont,
): Row[] {
  const { text, texttemplate, textfont } = trace;
  if (text === undefined || texttemplate === undefined) return [];
  const edges = cellEdges(trace);
  const middle = (axis: PlacedAxis, ends: readonly number[], i: number) =>
    axis.pixel((ends[i] + ends[i + 1]) / 2);
  const color = colorsOf(trace.colorscale, trace.zmin, trace.zmax);
  const size = textfont?.size ?? fittingSize(trace, x, y, edges, font.size);
  if (!(size > 0)) return [];
  return matrixOf(trace.z).flatMap((row, r) => {
    const middleY = middle(y, edges.y, r);
    if (!y.shows(middleY)) return [];
    return Array.from(row).flatMap((value, c) => {
      const word = text[r]?.[c];
      const middleX = middle(x, edges.x, c);
      if (!word || !isNumber(value) || !x.shows(middleX)) return [];
      const block = textBlock(word, {
        ...font,
        ...textfont,
        size,
        color: textfont?.color ?? inkOn(color(value)),
      });
      const up = (block.lines.length - 1) * LINE_SPACING / 2 - 0.35;
      return textRows(block, { x: middleX, y: middleY - up * size, align: "center" });
    });
  });
}

/** Plotly's: the largest up to the figure's own with which the longest word fits, at half an em a letter and a bit. */
function fittingSize(
  { text, xgap = 0, ygap = 0 }: Heatmap,
  x: PlacedAxis,
  y: PlacedAxis,
  edges: { readonly x: readonly number[]; readonly y: readonly number[] },
  most: number,
): number {
  let letters = 1;
  let lines = 1;
  for (const word of text!.flat()) {
    const parts = word.split("<br>");
    lines = Math.max(lines, parts.length);
    letters = Math.max(letters, ...parts.map((part) => part.length));
  }
  const width = leastStep(edges.x.map((edge) => x.pixel(edge))) - xgap;
  const height = leastStep(edges.y.map((edge) => y.pixel(edge))) - ygap;
  return Math.min(
    Math.floor(width / letters / (LINE_SPACING / 2)),
    Math.floor(height / lines / LINE_SPACING),
    most,
  );
}

function leastStep(edges: readonly number[]): number {
  return Math.min(...edges.slice(1).map((edge, i) => Math.abs(edge - edges[i])));
}
