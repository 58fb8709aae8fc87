/** Colour scales' legends. */
import type { Colorbar, Colorscale, Figure } from "../figure.ts";
import type { Box } from "./axis.ts";
import { marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import type { Push } from "./margins.ts";
import { isShown } from "./series.ts";
import { MID, textBlock, textRows, titleFont } from "./text.ts";
import type { FullFont, TextBlock } from "./text.ts";
import { ticksOf } from "./ticks.ts";
import type { Tick } from "./ticks.ts";
import { isNumber, listOf, matrixOf } from "./values.ts";

/** A bar that is to be drawn. */
interface Bar {
  readonly colorbar: Colorbar;
  readonly colorscale: Colorscale;
  readonly low: number;
  readonly high: number;
}

/** White around the bar, in pixels. */
const PAD = 10;
/** From the bar to its labels. */
const LABELS = 3.4;

/** The bars of a figure's traces. */
export function colorbarsOf({ data }: Figure): Bar[] {
  return data.filter(isShown).flatMap((trace) => {
    if (trace.type === "heatmap") {
      const { colorscale, zmin: low, zmax: high, colorbar = {} } = trace;
      const empty = !matrixOf(trace.z).some((row) => Array.prototype.some.call(row, isNumber));
      return trace.showscale === false || empty ? [] : [{ colorbar, colorscale, low, high }];
    }
    const marker = trace.type === "scatter" ? trace.marker : undefined;
    if (!marker?.showscale || !marker.colorscale || typeof marker.color === "string") return [];
    const values = listOf(marker.color ?? []).map(Number).filter(Number.isFinite);
    return [{
      colorbar: marker.colorbar ?? {},
      colorscale: marker.colorscale,
      low: marker.cmin ?? Math.min(...values),
      high: marker.cmax ?? Math.max(...values),
    }];
  });
}

/** Where a bar is, and its words. */
function placeBar({ colorbar, low, high }: Bar, area: Box, font: FullFont) {
  const { len = 1, thickness = 30, x = 1.02, y = 0.5, title } = colorbar;
  const length = Math.round(len * area.height);
  const bottom = area.y + Math.round(area.height * (1 - y + len / 2)) - PAD;
  const top = bottom - length + 2 * PAD;
  const block = title?.text ? textBlock(title.text, titleFont(font)) : undefined;
  const onTop = block !== undefined && title?.side !== "right";
  const box: Box = {
    x: area.x + Math.round(x * area.width + PAD),
    y: onTop ? top + block.height + 5 : top,
    width: Math.round(thickness),
    height: bottom - top - (onTop ? block.height + 5 : 0),
  };
  const ticks = ticksOf({
    letter: "y",
    length: box.height,
    layout: { tickvals: colorbar.tickvals, ticktext: colorbar.ticktext },
    range: [low, high],
  }).map((tick: Tick) => ({ at: tick.at, block: textBlock(tick.text, font) }));
  const labels = Math.max(0, ...ticks.map(({ block }) => block.width));
  return { box, top, block, onTop, ticks, labels };
}

/** From the bar to the baseline of a title beside it, beyond its labels. */
function titleDistance({ font: { size } }: TextBlock, labels: number): number {
  return Math.max(10 + size, LABELS + labels + 2 + 0.97 * size);
}

/** What a bar needs beside the plot. */
export function colorbarPush(bar: Bar, area: Box, font: FullFont): Push {
  const { x = 1.02, y = 0.5, len = 1, thickness = 30 } = bar.colorbar;
  const { block, onTop, labels } = placeBar(bar, area, font);
  const words = block === undefined ? 0 : onTop ? block.width : thickness +
    titleDistance(block, labels) + 0.24 * block.font.size;
  const wide = Math.max(thickness + 1 + labels, words);
  return {
    left: { at: x, size: 0 },
    right: { at: x, size: wide + 2 * PAD },
    bottom: { at: y - len / 2, size: 0 },
    top: { at: y + len / 2, size: 0 },
  };
}

/** A bar with its frame, and its words. */
export function colorbarMarks(
  bar: Bar,
  area: Box,
  font: FullFont,
): { readonly marks: Mark[]; readonly words: Row[] } {
  const { box, top, block, onTop, ticks, labels } = placeBar(bar, area, font);
  const { low, high, colorscale } = bar;
  const words = ticks.flatMap(({ at, block }) =>
    textRows(block, {
      x: box.x + box.width + LABELS,
      y: box.y + box.height * (1 - (at - low) / (high - low)) + MID * block.font.size,
      align: "left",
    })
  );
  const title = block === undefined
    ? []
    : onTop
    ? textRows(block, { x: box.x, y: top + 3 + 0.75 * block.font.size, align: "left" })
    : textRows(block, {
      x: box.x + box.width + titleDistance(block, labels),
      y: box.y + box.height / 2,
      align: "center",
      angle: -90,
    });
  return {
    marks: [{
      type: "rect",
      encode: {
        enter: {
          ...Object.fromEntries(Object.entries(box).map(([side, value]) => [side, { value }])),
          fill: {
            value: {
              gradient: "linear",
              x1: 0,
              x2: 0,
              y1: 1,
              y2: 0,
              stops: colorscale.map(([offset, color]) => ({ offset, color })),
            },
          },
        },
      },
    }, ...marks("rect", [{ ...box, stroke: "#444", strokeWidth: 1 }])],
    words: [...words, ...title],
  };
}
