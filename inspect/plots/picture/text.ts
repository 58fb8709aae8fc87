/** Words: Plotly's small HTML, measured and placed. */
import { BOLD, emWidth } from "./fonts.ts";
import type { Row } from "./marks.ts";

/** A font without gaps. */
export interface FullFont {
  readonly size: number;
  readonly color: string;
  readonly family: string;
}

/** Distance of lines, in ems. */
export const LINE_SPACING = 1.3;
/** From the baseline to the top of capitals, and to their middle, in ems. */
export const CAP = 0.7;
export const MID = 0.35;

interface Run {
  readonly text: string;
  readonly bold: boolean;
  readonly italic: boolean;
  readonly color?: string;
  /** Above or below the line. */
  readonly script?: "sup" | "sub";
}

/** A text in lines, with sizes in pixels. */
export interface TextBlock {
  readonly lines: readonly { readonly runs: readonly Run[]; readonly width: number }[];
  readonly font: FullFont;
  readonly width: number;
  readonly height: number;
}

const SCRIPT_SIZE = 0.7;
const SCRIPT_SHIFT = { sup: -0.6, sub: 0.3 };

const ENTITIES: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  nbsp: "\u00a0",
  mu: "μ",
  times: "×",
  plusmn: "±",
  deg: "°",
};

/** Tags, entities, all else. */
const PIECES = /<(\/?)([a-z]+)([^<>]*)>|&(?:#(\d+)|#x([0-9a-f]+)|([a-z]+));|[^<&]+|[<&]/gi;

/** Lines of runs: `<b>`, `<i>`, `<sup>`, `<sub>`, `<br>`, colours of `<span>`; other tags are left out, as Plotly does. */
function parse(html: string): Run[][] {
  const lines: Run[][] = [[]];
  const open: { tag: string; color?: string }[] = [];
  for (
    const [piece, close, name, attributes, decimal, hexadecimal, entity] of html.matchAll(PIECES)
  ) {
    const tag = name?.toLowerCase();
    if (tag === "br") {
      lines.push([]);
    } else if (tag !== undefined && close) {
      const last = open.findLastIndex((each) => each.tag === tag);
      if (last >= 0) open.splice(last, 1);
    } else if (tag !== undefined) {
      open.push({ tag, color: attributes.match(/[^-\w]color:\s*([^;"']+)/i)?.[1].trim() });
    } else {
      const code = decimal ? Number(decimal) : hexadecimal ? parseInt(hexadecimal, 16) : undefined;
      const text = code !== undefined
        ? String.fromCodePoint(code)
        : entity
        ? ENTITIES[entity] ?? piece
        : piece;
      const has = (...tags: string[]) => open.some((each) => tags.includes(each.tag));
      lines.at(-1)!.push({
        text,
        bold: has("b", "strong"),
        italic: has("i", "em"),
        color: open.findLast((each) => each.color)?.color,
        script: has("sup") ? "sup" : has("sub") ? "sub" : undefined,
      });
    }
  }
  return lines.map(joined);
}

/** Neighbours that look the same, as one. */
function joined(runs: readonly Run[]): Run[] {
  const all: Run[] = [];
  for (const run of runs) {
    const last = all.at(-1);
    const same = last && last.bold === run.bold && last.italic === run.italic &&
      last.color === run.color && last.script === run.script;
    if (same) all[all.length - 1] = { ...last, text: last.text + run.text };
    else all.push(run);
  }
  return all;
}

function runWidth({ text, bold, script }: Run, { family, size }: FullFont): number {
  return emWidth(text, family, bold) * size * (script ? SCRIPT_SIZE : 1);
}

/** Of titles of axes, legends and colour bars, unless they have a font. */
export function titleFont(font: FullFont): FullFont {
  return { ...font, size: Math.round(1.2 * font.size) };
}

/** A text of Plotly's, measured. */
export function textBlock(html: string, font: FullFont): TextBlock {
  const lines = parse(html).map((runs) => ({
    runs,
    width: runs.reduce((sum, run) => sum + runWidth(run, font), 0),
  }));
  return {
    lines,
    font,
    width: Math.max(...lines.map(({ width }) => width)),
    height: lines.length * LINE_SPACING * font.size,
  };
}

/** How much of a text is left of where it stands. */
const PART = { left: 0, center: 0.5, right: 1 };

/** Where a text stands. */
export interface Place {
  readonly x: number;
  /** Baseline of the first line. */
  readonly y: number;
  readonly align: keyof typeof PART;
  /** Clockwise, in degrees, about (x, y). */
  readonly angle?: number;
  /** Moves the text after it was turned. */
  readonly dx?: number;
  readonly dy?: number;
  readonly opacity?: number;
}

/** The text's pieces as rows of text marks. */
export function textRows(block: TextBlock, { dx = 0, dy = 0, ...place }: Place): Row[] {
  const { font } = block;
  const part = PART[place.align];
  return block.lines.flatMap(({ runs, width }, line) => {
    let end = dx - part * width;
    return runs.flatMap((run) => {
      const start = end;
      end += runWidth(run, font);
      const text = run.text.trim();
      if (text === "") return [];
      // Vega drops spaces at the ends, SVG those beside others; Plotly keeps them.
      const cut = (spaces: string) => runWidth({ ...run, text: spaces }, font);
      const before = cut(run.text.match(/^\s*/)![0]);
      const after = cut(run.text.match(/\s*$/)![0]);
      const alone = runs.length === 1;
      return [{
        x: place.x,
        y: place.y,
        dx: alone ? dx + before - part * (before + after) : start + before,
        dy: dy + (line * LINE_SPACING + (run.script ? SCRIPT_SHIFT[run.script] : 0)) * font.size,
        angle: place.angle ?? 0,
        text: text.replace(/(?<=\s)\s/g, "\u00a0"),
        align: alone ? place.align : "left",
        baseline: "alphabetic",
        font: font.family,
        fontSize: font.size * (run.script ? SCRIPT_SIZE : 1),
        fontWeight: run.bold ? BOLD : 400,
        fontStyle: run.italic ? "italic" : "normal",
        fill: run.color ?? font.color,
        opacity: place.opacity ?? 1,
      }];
    });
  });
}
