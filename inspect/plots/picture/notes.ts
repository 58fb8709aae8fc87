/** What a layout puts on a figure: title, annotations, shapes. */
import type { Annotation, Layout, Shape } from "../figure.ts";
import type { Box, PlacedAxis } from "./axis.ts";
import { dashes, marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import { CAP, LINE_SPACING, textBlock, textRows } from "./text.ts";
import type { FullFont, TextBlock } from "./text.ts";

/** The parts of a picture to which a place may refer. */
export interface Frame {
  readonly area: Box;
  readonly axes: ReadonlyMap<string, PlacedAxis>;
  readonly font: FullFont;
}

/** Pixel of a place that refers to the plot's area, an axis, or the space of one; whether it is in the axis's own units. */
function pixelOf(
  letter: "x" | "y",
  value: number,
  ref: string | undefined,
  { area, axes }: Frame,
  isPower = false,
): { readonly pixel: number; readonly axis?: PlacedAxis } {
  const [id, isDomain] = (ref ?? letter).split(" ");
  const axis = axes.get(id);
  // On a log axis a shape's place is a value, a note's a power of ten: so Plotly has it.
  if (axis && !isDomain) return { pixel: isPower ? axis.pixel(value) : axis.at(value), axis };
  const [start, length] = axis
    ? [axis.start, axis.length]
    : letter === "x"
    ? [area.x, area.width]
    : [area.y, area.height];
  return { pixel: start + length * (letter === "x" ? value : 1 - value) };
}

/** The title, with its second line. */
export function titleRows({ title, width, height }: Layout, { area, font }: Frame): Row[] {
  if (!title?.text) return [];
  const own = { ...font, size: Math.round(1.4 * font.size), ...title.font };
  const block = textBlock(title.text, own);
  const { x = 0.5, xanchor = x < 1 / 3 ? "left" : x > 2 / 3 ? "right" : "center" } = title;
  const place = { x: width * x, align: xanchor } as const;
  // Where the first line stands: in the middle of the margin, or as far from the top as is said.
  const baseline = title.y === undefined
    ? area.y / 2
    : height * (1 - title.y) + (title.yanchor === "top" ? title.pad?.t ?? 0 : 0);
  // Plotly gives a line, not lines, the rest of the way from its top.
  const rest = ({ lines, font }: TextBlock) =>
    title.yanchor === "top" && lines.length === 1 ? CAP * font.size : 0;
  const below = title.subtitle?.text
    ? textBlock(title.subtitle.text, {
      ...own,
      size: Math.round(0.7 * own.size),
      ...title.subtitle.font,
    })
    : undefined;
  const first = baseline + rest(block);
  const bottom = first + ((block.lines.length - 1) * LINE_SPACING + 0.24) * own.size;
  return [
    ...textRows(block, { ...place, y: first }),
    ...(below
      ? textRows(below, { ...place, y: bottom + 1.6 * below.font.size + rest(below) })
      : []),
  ];
}

/** Around an annotation's words: Plotly's border and its distance. */
const BORDER = 2;

/** An annotation's words. */
export function annotationRows(note: Annotation, frame: Frame): Row[] {
  const block = textBlock(note.text, { ...frame.font, ...note.font });
  const x = pixelOf("x", note.x, note.xref, frame, true);
  const y = pixelOf("y", note.y, note.yref, frame, true);
  if (x.axis?.shows(x.pixel) === false || y.axis?.shows(y.pixel) === false) return [];
  // Beside a plot's area words stand inwards unless told otherwise; on an axis they are centred.
  const automatic = (at: number, free: boolean) =>
    free ? at < 1 / 3 ? 0.5 : at > 2 / 3 ? -0.5 : 0 : 0;
  const across = note.xanchor === undefined
    ? automatic(note.x, x.axis === undefined)
    : { left: 0.5, center: 0, right: -0.5 }[note.xanchor];
  const down = note.yanchor === undefined
    ? automatic(1 - note.y, y.axis === undefined)
    : { top: 0.5, middle: 0, bottom: -0.5 }[note.yanchor];
  const turn = (note.textangle ?? 0) * Math.PI / 180;
  const [cos, sin] = [Math.abs(Math.cos(turn)), Math.abs(Math.sin(turn))];
  const [width, height] = [block.width + 2 * BORDER, block.height + 2 * BORDER];
  // The middle of the box, about which it turns.
  const middleX = x.pixel + across * (width * cos + height * sin) + (note.xshift ?? 0);
  const middleY = y.pixel + down * (width * sin + height * cos) - (note.yshift ?? 0);
  const align = note.align ?? "center";
  return textRows(block, {
    x: middleX,
    y: middleY,
    align,
    angle: note.textangle,
    dx: { left: -0.5, center: 0, right: 0.5 }[align] * block.width,
    dy: -block.height / 2 + 0.99 * block.font.size,
  });
}

/** A shape's mark. */
export function shapeMarks(shape: Shape, frame: Frame): Mark[] {
  const { line } = shape;
  const [x, x2] = [shape.x0, shape.x1].map((value) => pixelOf("x", value, shape.xref, frame));
  const [y, y2] = [shape.y0, shape.y1].map((value) => pixelOf("y", value, shape.yref, frame));
  const ends = { x: x.pixel, x2: x2.pixel, y: y.pixel, y2: y2.pixel };
  if (!Object.values(ends).every(Number.isFinite)) return [];
  const width = line?.width ?? 2;
  const style = {
    stroke: line?.color ?? "#444",
    strokeWidth: width,
    opacity: shape.opacity ?? 1,
  };
  return shape.type === "line"
    ? marks("rule", [{ ...ends, ...style }], { strokeDash: dashes(line?.dash, width) })
    : marks("rect", [{
      x: Math.min(ends.x, ends.x2),
      y: Math.min(ends.y, ends.y2),
      width: Math.abs(ends.x2 - ends.x),
      height: Math.abs(ends.y2 - ends.y),
      fill: shape.fillcolor ?? "transparent",
      ...style,
    }], { strokeDash: dashes(line?.dash, width) });
}

/** The part of a picture in which a shape shows: the plots of the axes that it refers to. */
export function shapeBox(
  { xref = "x", yref = "y" }: Shape,
  { area, axes }: Frame,
  whole: Box,
): Box {
  const x = axes.get(xref);
  const y = axes.get(yref);
  return {
    x: x?.start ?? (xref === "paper" && y ? area.x : whole.x),
    width: x?.length ?? (xref === "paper" && y ? area.width : whole.width),
    y: y?.start ?? (yref === "paper" && x ? area.y : whole.y),
    height: y?.length ?? (yref === "paper" && x ? area.height : whole.height),
  };
}
