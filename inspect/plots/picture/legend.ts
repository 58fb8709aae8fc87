/** The names of the traces. */
import type { Figure, Layout, Trace } from "../figure.ts";
import type { Box } from "./axis.ts";
import { halved } from "./colors.ts";
import { dashes, marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import type { Push } from "./margins.ts";
import { lineColor, pointColors, symbolRow } from "./scatters.ts";
import { seriesOf } from "./series.ts";
import type { Series } from "./series.ts";
import { LINE_SPACING, textBlock, textRows, titleFont } from "./text.ts";
import type { FullFont, TextBlock } from "./text.ts";

const GAP = 5;
/** From an entry's left to its words, past its sample. */
const SAMPLE = 40;
/** Between groups. */
const GROUP_GAP = 10;

interface Entry {
  readonly series: Series;
  readonly block: TextBlock;
  /** Corner, from the legend's. */
  readonly x: number;
  readonly y: number;
  readonly height: number;
}

interface Legend {
  readonly entries: readonly Entry[];
  readonly title: TextBlock | undefined;
  readonly width: number;
  readonly height: number;
}

function isListed(trace: Trace): boolean {
  return trace.visible !== false && trace.showlegend !== false &&
    (trace.type !== "heatmap" || trace.showlegend === true);
}

/** Entries in their places; undefined for a figure without a legend. */
function entriesOf(figure: Figure, area: Box, font: FullFont): Legend | undefined {
  const { layout } = figure;
  const listed = seriesOf(figure).filter(({ trace }) => isListed(trace));
  const shown = layout.showlegend ??
    (listed.length > 1 || listed.some(({ trace }) => trace.showlegend));
  if (!shown || listed.length === 0) return undefined;
  const { orientation = "v", traceorder, title: heading } = layout.legend ?? {};
  // What lies on something else is named above it.
  const stacked = listed.some(({ trace }) =>
    (trace.type === "bar" && layout.barmode === "stack") ||
    (trace.type === "scatter" && trace.fill === "tonexty")
  );
  if ((traceorder ?? (stacked ? "reversed" : "normal")) === "reversed") listed.reverse();
  const groups = [
    ...Map.groupBy(
      listed,
      ({ trace }, i) => trace.legendgroup ?? (traceGroups(listed) ? `#${i}` : ""),
    ).values(),
  ];
  const blocks = new Map(
    listed.map((series) => [series, textBlock(series.trace.name ?? "", font)]),
  );
  const title = heading?.text ? textBlock(heading.text, titleFont(font)) : undefined;
  const [left, top] = title === undefined
    ? [0, 0]
    : orientation === "v"
    ? [0, title.height]
    : [title.width + 2 * GAP, 0];
  const entries: Entry[] = [];
  const height = (block: TextBlock) => Math.max(block.height, 16) + 3;
  let x = left;
  let y = top + GAP;
  if (orientation === "v") {
    groups.forEach((group, g) => {
      if (g > 0 && traceGroups(listed)) y += GROUP_GAP;
      for (const series of group) {
        const block = blocks.get(series)!;
        entries.push({ series, block, x, y, height: height(block) });
        y += height(block);
      }
    });
    const words = Math.max(...entries.map(({ block }) => block.width));
    return {
      entries,
      title,
      width: Math.ceil(Math.max(words + SAMPLE + GAP, (title?.width ?? 0) + 4)),
      height: Math.ceil(y + GAP),
    };
  }
  const inOrder = groups.flat();
  const widths = inOrder.map((series) => SAMPLE + blocks.get(series)!.width);
  const oneRow = left + widths.reduce((sum, width) => sum + width + GAP, 0) < area.width;
  const widest = Math.max(...widths);
  let right = 0;
  inOrder.forEach((series, i) => {
    const block = blocks.get(series)!;
    const step = (oneRow ? widths[i] : widest) + GAP;
    if (x > left && x + step - GAP >= area.width) {
      x = left;
      y += height(block);
    }
    entries.push({ series, block, x, y, height: height(block) });
    right = Math.max(right, x + widths[i] + GAP);
    x += step;
  });
  return {
    entries,
    title,
    width: Math.ceil(right),
    height: Math.ceil(y + entries.at(-1)!.height + GAP),
  };
}

function traceGroups(listed: readonly Series[]): boolean {
  return listed.some(({ trace }) => trace.legendgroup);
}

/** Where a legend's point of reference is: in the plot's area, and in itself. */
function reference({ legend = {} }: Layout) {
  const lying = legend.orientation === "h";
  const { x = lying ? 0 : 1.02, y = lying ? -0.1 : 1 } = legend;
  const across = { left: 0, center: 0.5, right: 1 }[legend.xanchor ?? "left"];
  const anchor = legend.yanchor ??
    (lying && legend.y === undefined ? "top" : y > 2 / 3 ? "top" : y < 1 / 3 ? "bottom" : "middle");
  return { x, y, across, down: { top: 0, middle: 0.5, bottom: 1 }[anchor] };
}

/** What the legend needs beside the plot. */
export function legendPush(figure: Figure, area: Box, font: FullFont): Push | undefined {
  const legend = entriesOf(figure, area, font);
  if (legend === undefined) return undefined;
  const { x, y, across, down } = reference(figure.layout);
  return {
    left: { at: x, size: across * legend.width },
    right: { at: x, size: (1 - across) * legend.width },
    top: { at: y, size: down * legend.height },
    bottom: { at: y, size: (1 - down) * legend.height },
  };
}

/** The legend. */
export function legendMarks(
  figure: Figure,
  area: Box,
  font: FullFont,
): { readonly marks: Mark[]; readonly words: Row[] } {
  const legend = entriesOf(figure, area, font);
  if (legend === undefined) return { marks: [], words: [] };
  const { layout } = figure;
  const { x, y, across, down } = reference(layout);
  const left = Math.min(
    Math.max(area.x + x * area.width - across * legend.width, 0),
    Math.max(layout.width - legend.width, 0),
  );
  const top = Math.min(
    Math.max(area.y + (1 - y) * area.height - down * legend.height, 0),
    Math.max(layout.height - legend.height, 0),
  );
  const { title } = legend;
  const words = title === undefined ? [] : textRows(title, {
    x: left + 2,
    y: top + title.font.size * LINE_SPACING,
    align: "left",
  });
  return {
    marks: [
      ...marks("rect", [{
        x: left,
        y: top,
        width: legend.width,
        height: legend.height,
        fill: layout.paper_bgcolor ?? "#fff",
      }]),
      ...legend.entries.flatMap((entry) => sample(entry, left + entry.x, top + entry.y)),
    ],
    words: [
      ...words,
      ...legend.entries.flatMap(({ series, block, height, ...corner }) =>
        textRows(block, {
          x: left + corner.x + SAMPLE,
          y: top + corner.y + height / 2 -
            LINE_SPACING * block.font.size * ((block.lines.length - 1) / 2 - 0.3),
          align: "left",
          opacity: series.trace.visible === "legendonly" ? 0.5 : 1,
        })
      ),
    ],
  };
}

/** A piece of what a trace looks like. */
function sample({ series, height }: Entry, left: number, top: number): Mark[] {
  const { trace, color } = series;
  const opacity = (trace.opacity ?? 1) * (trace.visible === "legendonly" ? 0.5 : 1);
  const middle = { x: left + 20, y: top + height / 2 };
  if (trace.type !== "scatter") {
    const own = trace.type === "bar" ? trace.marker?.color : undefined;
    const fill = (typeof own === "string" ? own : own?.[0]) ?? color;
    return marks("rect", [{
      x: middle.x - 6,
      y: middle.y - 6,
      width: 12,
      height: 12,
      fill,
      opacity,
    }]);
  }
  const own = { trace, color };
  const { width = 2, dash } = trace.line ?? {};
  const filled = trace.fill !== undefined;
  const y = middle.y - (filled && !trace.mode.includes("markers") ? 2 : 0);
  return [
    ...marks(
      "rect",
      filled
        ? [{
          x: left + 5,
          width: 30,
          y,
          height: 6,
          fill: trace.fillcolor ?? halved(lineColor(own)),
          opacity,
        }]
        : [],
    ),
    ...(trace.mode.includes("lines")
      ? marks("rule", [{
        x: left + 5,
        x2: left + 35,
        y,
        stroke: lineColor(own),
        strokeWidth: Math.min(width, 10),
        opacity,
      }], { strokeDash: dashes(dash, width) })
      : []),
    ...(trace.mode.includes("markers")
      ? marks("symbol", [symbolRow(trace, pointColors(own)(0), 0, { ...middle, most: 16 })])
      : []),
  ];
}
