/** Axes of tokens: one cell for each, or for neighbours that are pooled. */
import type { Annotation, Axis } from "../drawing/figure.ts";
import type { Pooling } from "../drawing/pool.ts";
import { FAINT, INK, TOKEN_FONT, words } from "../drawing/theme.ts";
import { html, tokenHtml, tokenLabel } from "../drawing/tokens.ts";

/** The cells along an axis of tokens. */
export interface TokenCells {
  /** Beside the axis. */
  readonly labels: readonly string[];
  /** In the hover: `"·time" (3)`. */
  readonly hovers: readonly string[];
}

/** Labels of tokens at positions, pooled. */
export function tokenCells(
  positions: readonly number[],
  token: (position: number) => string,
  { size, cells }: Pooling,
): TokenCells {
  const firsts = Array.from({ length: cells }, (_, cell) => cell * size);
  const hover = (position: number) => named(token(position), position);
  return {
    labels: firsts.map((first) => tokenLabel(token(positions[first]), 14)),
    hovers: firsts.map((first) => {
      const last = Math.min(first + size, positions.length) - 1;
      const from = hover(positions[first]);
      return last === first ? from : `${from} … ${hover(positions[last])}`;
    }),
  };
}

/** A token in a hover: `"·time" (3)`. */
export function named(token: string, position: number): string {
  return `"${tokenHtml(token, 24)}" (${position})`;
}

/** A pixel of room between neighbouring labels, and the smallest letters that can be read. */
const SMALLEST = 8;

/** How labels fit beside cells of some pixels. */
export interface LabelFit {
  readonly size: number;
  /** Every how many cells have one. */
  readonly every: number;
  /** Of the longest. */
  readonly pixels: number;
}

/** Fits labels to cells: smaller letters first, then fewer labels. */
export function fitLabels({ labels }: TokenCells, cellPixels: number): LabelFit {
  const size = Math.max(SMALLEST, Math.min(11, Math.floor(cellPixels * 0.8)));
  const every = Math.max(1, Math.ceil((size + 1) / cellPixels));
  const shown = labels.filter((_, cell) => cell % every === 0);
  return { size, every, pixels: Math.max(0, ...shown.map((label) => textPixels(label, size))) };
}

/** Pixels of a text in the font of tokens; wide characters (Chinese, emoji) take two. */
export function textPixels(text: string, size: number): number {
  const units = [...text].reduce((sum, c) => sum + (c.codePointAt(0)! >= 0x1100 ? 2 : 1), 0);
  return units * 0.61 * size;
}

/** Labels beside an axis, at the cells' places from `offset` on: those of rows at the left, of columns below or above. */
export function tokenLabels(
  side: "left" | "below" | "above",
  { labels }: TokenCells,
  { size, every }: LabelFit,
  offset = 0,
): Annotation[] {
  const font = { size, family: TOKEN_FONT, color: INK };
  const turned = { font, textangle: -90 };
  return labels.flatMap((label, cell) => {
    if (cell % every !== 0) return [];
    const [text, at] = [html(label), offset + cell];
    if (side === "left") return words(text, [0, at], ["paper", "y"], "right middle", { font });
    return side === "below"
      ? words(text, [at, 0], ["x", "paper"], "center top", turned)
      : words(text, [at, 1], ["x", "paper"], "center bottom", turned);
  });
}

/**
 * An axis of cells. Its ticks are not drawn ({@linkcode tokenLabels} are, of which some can be left out): Plotly takes the hover's
 * `%{x}` and `%{y}` from them.
 */
export function cellAxis(
  range: readonly [number, number],
  hovers: readonly (readonly [place: number, hover: string])[],
  title?: { readonly text: string; readonly standoff: number },
): Axis {
  return {
    range,
    tickvals: hovers.map(([place]) => place),
    ticktext: hovers.map(([, hover]) => hover),
    showticklabels: false,
    ticks: "",
    showgrid: false,
    zeroline: false,
    ...(title ? { title: { ...title, font: { size: 12, color: FAINT } } } : {}),
  };
}
