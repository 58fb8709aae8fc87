/** What is seen of an axis: grid, line, ticks, their words, its title. */
import type { Layout } from "../figure.ts";
import type { Box, PlacedAxis } from "./axis.ts";
import type { Row } from "./marks.ts";
import { CAP, LINE_SPACING, MID, textBlock, textRows, titleFont } from "./text.ts";
import type { FullFont, TextBlock } from "./text.ts";

const INK = "#444";
const GRID = "#eee";
/** Of an outside tick. */
const TICK = 5;

/** Where an axis is drawn: its side, and the pixel of its line. */
export interface Anchorage {
  readonly side: "top" | "bottom" | "left" | "right";
  readonly line: number;
}

/** At the edge of the axis that crosses it. */
export function anchorage(axis: PlacedAxis, crossing: PlacedAxis): Anchorage {
  const side = axis.kind.layout.side ?? (axis.letter === "x" ? "bottom" : "left");
  return { side, line: side === "bottom" || side === "right" ? crossing.end : crossing.start };
}

/** Lines across a subplot: at the ticks, and at zero. */
export function gridRows(axis: PlacedAxis, box: Box, hasHeatmap: boolean): Row[] {
  const { layout, log, categories } = axis.kind;
  const across = (at: number, stroke: string): Row => {
    const pixel = crisp(axis.pixel(at));
    return axis.letter === "x"
      ? { x: pixel, x2: pixel, y: box.y, y2: box.y + box.height, stroke, strokeWidth: 1 }
      : { x: box.x, x2: box.x + box.width, y: pixel, y2: pixel, stroke, strokeWidth: 1 };
  };
  const zero = layout.zeroline !== false && !log && !categories && !hasHeatmap &&
    Math.min(...axis.range) <= 0 && Math.max(...axis.range) >= 0;
  const grid = layout.showgrid === false ? [] : axis.ticks
    .filter(({ at }) => !(zero && at === 0))
    .map(({ at }) => across(at, layout.gridcolor ?? GRID));
  return zero ? [...grid, across(0, INK)] : grid;
}

/** A line one pixel wide is sharp in the middle of a pixel. */
function crisp(pixel: number): number {
  return Math.floor(pixel) + 0.5;
}

/** The axis's own line and its ticks. */
export function lineRows(axis: PlacedAxis, { side, line }: Anchorage): Row[] {
  const { layout } = axis.kind;
  const stroke = layout.linecolor ?? INK;
  const outwards = side === "bottom" || side === "right" ? 1 : -1;
  const rows: Row[] = [];
  const add = (from: number, to: number, other: number, otherEnd: number) => {
    rows.push(
      axis.letter === "x"
        ? { x: from, x2: to, y: other, y2: otherEnd, stroke, strokeWidth: 1 }
        : { x: other, x2: otherEnd, y: from, y2: to, stroke, strokeWidth: 1 },
    );
  };
  if (layout.showline ?? layout.linecolor !== undefined) {
    add(axis.start - 0.5, axis.end + 0.5, line, line);
  }
  if (layout.ticks === "outside") {
    for (const { at } of axis.ticks) {
      const pixel = axis.pixel(at);
      add(pixel, pixel, line, line + outwards * TICK);
    }
  }
  return rows;
}

/** The ticks' words and the title. */
export function axisWords(
  axis: PlacedAxis,
  where: Anchorage,
  figure: Pick<Layout, "width" | "height">,
  font: FullFont,
): Row[] {
  const { rows, depth } = axis.letter === "x"
    ? xLabels(axis, where, font)
    : yLabels(axis, where, font);
  return [...rows, ...titleRows(axis, where, depth, figure, font)];
}

interface Labels {
  readonly rows: Row[];
  /** How far they reach from the axis, in pixels. */
  readonly depth: number;
}

/** Blocks of the ticks' words. */
function labelBlocks(axis: PlacedAxis, font: FullFont): { pixel: number; block: TextBlock }[] {
  const { layout } = axis.kind;
  if (layout.showticklabels === false) return [];
  const own = { ...font, ...layout.tickfont };
  return axis.ticks.map(({ at, text, scale = 1 }) => ({
    pixel: axis.pixel(at),
    block: textBlock(text, { ...own, size: own.size * scale }),
  }));
}

/** Distance of labels from the axis's line. */
function standoff({ kind: { layout } }: PlacedAxis, size: number): number {
  const ticks = layout.ticks === "outside";
  const line = layout.showline ?? layout.linecolor !== undefined;
  return (ticks ? TICK : 0) + (ticks || line ? 0.2 * size : 0) + 0.5;
}

function xLabels(axis: PlacedAxis, { side, line }: Anchorage, font: FullFont): Labels {
  const blocks = labelBlocks(axis, font);
  if (blocks.length === 0) return { rows: [], depth: 0 };
  const size = Math.max(...blocks.map(({ block }) => block.font.size));
  const away = standoff(axis, size);
  const angle = axis.kind.layout.tickangle ?? fittingAngle(axis, blocks);
  const down = side === "bottom" ? 1 : -1;
  if (angle % 180 === 0) {
    const rows = blocks.flatMap(({ pixel, block }) => {
      const above = (block.lines.length - 1) * LINE_SPACING * block.font.size;
      const y = line + down * away + (down > 0 ? block.font.size : -0.2 * block.font.size - above);
      return textRows(block, { x: pixel, y, align: "center" });
    });
    return { rows, depth: away + Math.max(...blocks.map(({ block }) => block.height)) };
  }
  const turn = Math.abs(angle) * Math.PI / 180;
  const align = angle * down < 0 ? "right" : "left";
  const rows = blocks.flatMap(({ pixel, block }) => {
    const steep = Math.abs(angle) > 60;
    const lines = (block.lines.length - 1) * LINE_SPACING * block.font.size;
    const up = steep ? lines / 2 : side === "top" ? lines : 0;
    // About the point nearest to the tick: the end of the word, half as high as its letters.
    return textRows(block, {
      x: pixel,
      y: line + down * away,
      angle,
      align,
      dy: (steep ? MID : side === "top" ? 0.2 : CAP) * block.font.size - up,
    });
  });
  const depth = Math.max(
    ...blocks.map(({ block }) => block.width * Math.sin(turn) + block.height * Math.cos(turn)),
  );
  return { rows, depth: away + depth };
}

/** 0 where words have room beside each other, else turned by 30 or 90 degrees, as Plotly does. */
function fittingAngle(axis: PlacedAxis, blocks: { pixel: number; block: TextBlock }[]): number {
  if (axis.ticks.some(({ scale }) => scale)) return 0;
  const sorted = blocks.toSorted((a, b) => a.pixel - b.pixel);
  const overlap = sorted.slice(1).some(({ pixel, block }, i) =>
    pixel - sorted[i].pixel < (block.width + sorted[i].block.width) / 2 + 2
  );
  if (!overlap) return 0;
  const room = (sorted.at(-1)!.pixel - sorted[0].pixel) / (sorted.length - 1);
  const height = Math.max(...blocks.map(({ block }) => block.height));
  return Math.cos(Math.PI / 6) <= room / Math.hypot(room, height) ? 30 : 90;
}

function yLabels(axis: PlacedAxis, { side, line }: Anchorage, font: FullFont): Labels {
  const blocks = labelBlocks(axis, font);
  if (blocks.length === 0) return { rows: [], depth: 0 };
  const away = standoff(axis, Math.max(...blocks.map(({ block }) => block.font.size)));
  const outwards = side === "right" ? 1 : -1;
  const rows = blocks.flatMap(({ pixel, block }) => {
    const up = (block.lines.length - 1) * LINE_SPACING / 2;
    return textRows(block, {
      x: line + outwards * away,
      y: pixel + (MID - up) * block.font.size,
      align: side === "right" ? "left" : "right",
    });
  });
  return { rows, depth: away + Math.max(...blocks.map(({ block }) => block.width)) };
}

/** Beyond the labels, along the axis. */
function titleRows(
  axis: PlacedAxis,
  { side, line }: Anchorage,
  depth: number,
  { width, height }: Pick<Layout, "width" | "height">,
  font: FullFont,
): Row[] {
  const { title, showticklabels = true } = axis.kind.layout;
  if (!title?.text) return [];
  const block = textBlock(title.text, { ...titleFont(font), ...title.font });
  const { size } = block.font;
  const extra = (block.lines.length - 1) * LINE_SPACING * size;
  const after = side === "bottom" || side === "right";
  const labels = showticklabels ? 1 : 0;
  const usual = 10 + size * {
        bottom: 2 + labels,
        top: 1.5 + labels,
        left: 1.5 + labels / 2,
        right: 2 + labels / 2,
      }[side];
  // From the line to the first baseline, with the labels out of the way.
  const away = title.standoff !== undefined
    ? depth + title.standoff + (after ? CAP * size : MID * size + extra)
    : Math.max(usual, depth + 2 + (after ? 0.95 * size : 0.25 * size + extra));
  const middle = axis.start + axis.length / 2;
  if (axis.letter === "x") {
    const y = side === "bottom"
      ? Math.min(line + away, height - extra - 0.25 * size)
      : Math.max(line - away, size);
    return textRows(block, { x: middle, y, align: "center" });
  }
  const x = side === "left" ? Math.max(line - away, size) : Math.min(line + away, width - 2);
  return textRows(block, { x, y: middle, align: "center", angle: -90 });
}
