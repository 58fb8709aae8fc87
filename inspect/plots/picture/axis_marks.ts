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
  const labels = axis.letter === "x" ? xLabels(axis, where, font) : yLabels(axis, where, font);
  return [
    ...labels.flatMap(({ rows }) => rows),
    ...titleRows(axis, where, labels, figure, font),
  ];
}

/** The words of a tick. */
interface Label {
  readonly rows: Row[];
  /** Its tick, and how far it reaches from there along the axis; pixels. */
  readonly tick: number;
  readonly along: number;
  /** How far it reaches from the axis. */
  readonly depth: number;
}

/** From a line's baseline to the ends of its letters, in ems. */
const ASCENT = 0.97;
const DESCENT = 0.24;

/** The words of the ticks, measured. */
function labelBlocks(axis: PlacedAxis, font: FullFont): { tick: number; block: TextBlock }[] {
  const { layout } = axis.kind;
  if (layout.showticklabels === false) return [];
  const own = { ...font, ...layout.tickfont };
  return axis.ticks.map(({ at, text, scale = 1 }) => ({
    tick: axis.pixel(at),
    block: textBlock(text, { ...own, size: own.size * scale }),
  }));
}

/** Distance of labels from the axis's line. */
function standoff({ kind: { layout } }: PlacedAxis, font: FullFont): number {
  const size = layout.tickfont?.size ?? font.size;
  const ticks = layout.ticks === "outside";
  const line = layout.showline ?? layout.linecolor !== undefined;
  return (ticks ? TICK : 0) + (ticks || line ? 0.2 * size : 0) + 0.5;
}

function xLabels(axis: PlacedAxis, { side, line }: Anchorage, font: FullFont): Label[] {
  const blocks = labelBlocks(axis, font);
  const away = standoff(axis, font);
  const given = axis.kind.layout.tickangle;
  const angle = given ?? fittingAngle(axis, blocks);
  const down = side === "bottom" ? 1 : -1;
  const turn = Math.abs(angle) * Math.PI / 180;
  return blocks.map(({ tick, block }): Label => {
    const { size } = block.font;
    const more = (block.lines.length - 1) * LINE_SPACING * size;
    if (angle % 180 === 0) {
      const y = line + down * away + (down > 0 ? size : -0.2 * size - more);
      return {
        rows: textRows(block, { x: tick, y, align: "center" }),
        tick,
        along: block.width / 2,
        depth: away + more + size * (down > 0 ? 1 + DESCENT : 0.2 + ASCENT),
      };
    }
    // Words turn about a point half as high as they are; upright ones stand in the middle of their tick.
    const upright = given !== undefined && Math.abs(given) === 90;
    const base = !upright
      ? down > 0 ? 1 : -0.2
      : given === -90 && down > 0
      ? CAP
      : given === 90 && down < 0
      ? MID
      : 0.5;
    const pivot = down * away + (base - 0.5) * size;
    const lines = Math.abs(angle) > 60 ? more / 2 : down < 0 ? more : 0;
    return {
      rows: textRows(block, {
        x: tick + (upright ? Math.sign(given) * MID / 2 * size : 0),
        y: line + pivot,
        angle,
        align: angle * down < 0 ? "right" : "left",
        dy: size / 2 - lines,
      }),
      tick,
      along: block.width * Math.cos(turn) + block.height * Math.sin(turn) / 2,
      depth: Math.abs(pivot) + block.width * Math.sin(turn) + block.height * Math.cos(turn),
    };
  });
}

/** 0 where words have room beside each other, else turned by 30 or 90 degrees, as Plotly does. */
function fittingAngle(axis: PlacedAxis, blocks: { tick: number; block: TextBlock }[]): number {
  if (axis.ticks.some(({ scale }) => scale)) return 0;
  const sorted = blocks.toSorted((a, b) => a.tick - b.tick);
  const overlap = sorted.slice(1).some(({ tick, block }, i) =>
    tick - sorted[i].tick < (block.width + sorted[i].block.width) / 2 + 2
  );
  if (!overlap) return 0;
  const room = (sorted.at(-1)!.tick - sorted[0].tick) / (sorted.length - 1);
  const height = Math.max(
    ...blocks.map(({ block }) => 1.25 * block.lines.length * block.font.size),
  );
  return Math.cos(Math.PI / 6) <= room / Math.hypot(room, height) ? 30 : 90;
}

function yLabels(axis: PlacedAxis, { side, line }: Anchorage, font: FullFont): Label[] {
  const away = standoff(axis, font);
  const outwards = side === "right" ? 1 : -1;
  return labelBlocks(axis, font).map(({ tick, block }): Label => {
    const up = (block.lines.length - 1) * LINE_SPACING / 2;
    return {
      rows: textRows(block, {
        x: line + outwards * away,
        y: tick + (MID - up) * block.font.size,
        align: side === "right" ? "left" : "right",
      }),
      tick,
      along: block.height / 2,
      depth: away + block.width,
    };
  });
}

/** Along the axis, as far from it as the labels require. */
function titleRows(
  axis: PlacedAxis,
  { side, line }: Anchorage,
  labels: readonly Label[],
  { width, height }: Pick<Layout, "width" | "height">,
  font: FullFont,
): Row[] {
  const { title, showticklabels = true } = axis.kind.layout;
  if (!title?.text) return [];
  const block = textBlock(title.text, { ...titleFont(font), ...title.font });
  const { size } = block.font;
  const extra = (block.lines.length - 1) * LINE_SPACING * size;
  const middle = axis.start + axis.length / 2;
  const after = side === "bottom" || side === "right";
  const labelled = showticklabels ? 1 : 0;
  const usual = 10 + size * {
        bottom: 2 + labelled,
        top: 1.5 + labelled,
        left: 1.5 + labelled / 2,
        right: 2 + labelled / 2,
      }[side];
  const depth = (of: readonly Label[]) => Math.max(0, ...of.map((label) => label.depth));
  const near = labels.filter(({ tick, along }) =>
    Math.abs(tick - middle) < along + block.width / 2 + 2
  );
  // From the line to the first baseline.
  const away = title.standoff !== undefined
    ? depth(labels) + title.standoff + (after ? CAP * size : MID * size + extra)
    : Math.max(usual, depth(near) + 2 + (after ? ASCENT * size : DESCENT * size + extra));
  if (axis.letter === "x") {
    const y = side === "bottom"
      ? Math.min(line + away, height - extra - DESCENT * size)
      : Math.max(line - away, size);
    return textRows(block, { x: middle, y, align: "center" });
  }
  const x = side === "left" ? Math.max(line - away, size) : Math.min(line + away, width - 2);
  return textRows(block, { x, y: middle, align: "center", angle: -90 });
}
