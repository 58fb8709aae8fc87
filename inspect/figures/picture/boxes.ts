/** How large what Plotly draws is: the part of a browser's layout that it asks for. In pixels. */
import type { Fonts, TextFont } from "./fonts.ts";

/** The part of an SVG element that is read here. */
export interface SvgElement {
  readonly nodeType: number;
  readonly localName: string;
  readonly textContent: string;
  readonly childNodes: Iterable<SvgElement>;
  readonly children: Iterable<SvgElement>;
  readonly style: { getPropertyValue(name: string): string };
  getAttribute(name: string): string | null;
  querySelectorAll(selector: string): Iterable<SvgElement>;
}

/** Ends of a box. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** The box of an element in its parent's coordinates, less its own transform; undefined where it shows nothing. */
export function boxOf(element: SvgElement, fonts: Fonts): Box | undefined {
  switch (element.localName) {
    case "text":
      return textBox(element, fonts);
    case "rect":
    case "image": {
      const [x, y, width, height] = ["x", "y", "width", "height"].map((each) =>
        number(element, each)
      );
      return { left: x, top: y, right: x + width, bottom: y + height };
    }
    default:
      return union(
        Array.from(element.children, (child) => {
          const box = boxOf(child, fonts);
          return box && transformed(box, child.getAttribute("transform"));
        }),
      );
  }
}

const number = (element: SvgElement, name: string) => parseFloat(element.getAttribute(name) ?? "0");

function union(boxes: readonly (Box | undefined)[]): Box | undefined {
  const all = boxes.filter((box) => box !== undefined);
  if (all.length === 0) return undefined;
  return {
    left: Math.min(...all.map(({ left }) => left)),
    top: Math.min(...all.map(({ top }) => top)),
    right: Math.max(...all.map(({ right }) => right)),
    bottom: Math.max(...all.map(({ bottom }) => bottom)),
  };
}

/** The box around a box that was moved and turned: `translate(x,y)rotate(degrees,x,y)scale(factor)`. */
function transformed({ left, top, right, bottom }: Box, transform: string | null): Box {
  let corners = [[left, top], [right, top], [left, bottom], [right, bottom]];
  const steps = [...(transform ?? "").matchAll(/(\w+)\(([^)]*)\)/g)].reverse();
  for (const [, name, list] of steps) {
    const [a = 0, b = 0, c = 0] = list.split(/[\s,]+/).map(Number);
    corners = corners.map(([x, y]) => {
      if (name === "translate") return [x + a, y + b];
      if (name === "scale") return [x * a, y * (b || a)];
      const [cos, sin] = [Math.cos(a * Math.PI / 180), Math.sin(a * Math.PI / 180)];
      return [b + (x - b) * cos - (y - c) * sin, c + (x - b) * sin + (y - c) * cos];
    });
  }
  const [xs, ys] = [0, 1].map((i) => corners.map((corner) => corner[i]));
  return {
    left: Math.min(...xs),
    top: Math.min(...ys),
    right: Math.max(...xs),
    bottom: Math.max(...ys),
  };
}

/** How much of a text is left of where it stands. */
const PART: Readonly<Record<string, number>> = { start: 0, middle: 0.5, end: 1 };

/** A text's lines are `tspan.line`, or it is one. */
function textBox(text: SvgElement, fonts: Fonts): Box | undefined {
  const font = fontOf(text, { family: "", size: 12, bold: false });
  const anchor = text.style.getPropertyValue("text-anchor") || text.getAttribute("text-anchor");
  const { ascent, descent } = fonts.reach(font);
  const lines = [...text.querySelectorAll("tspan.line")];
  return union((lines.length > 0 ? lines : [text]).map((line) => {
    const width = widthOf(line, font, fonts);
    if (width === 0) return undefined;
    const left = number(line, "x") - (PART[anchor ?? ""] ?? 0) * width;
    const y = number(line, "y") + number(line, "dy") * font.size; // `dy` is in ems
    return { left, top: y - ascent, right: left + width, bottom: y + descent };
  }));
}

/** Of the runs of a line: `tspan` with other fonts. */
function widthOf(line: SvgElement, font: TextFont, fonts: Fonts): number {
  let width = 0;
  for (const node of line.childNodes) {
    width += node.nodeType === 1
      ? widthOf(node, fontOf(node, font), fonts)
      : fonts.width(node.textContent.replaceAll("\u200b", ""), font);
  }
  return width;
}

function fontOf({ style }: SvgElement, outer: TextFont): TextFont {
  const size = style.getPropertyValue("font-size");
  const weight = style.getPropertyValue("font-weight");
  return {
    family: style.getPropertyValue("font-family") || outer.family,
    size: !size ? outer.size : parseFloat(size) * (size.endsWith("%") ? outer.size / 100 : 1),
    bold: weight ? weight === "bold" || parseInt(weight) > 500 : outer.bold,
  };
}
