/** One look for all figures: colours, sizes, titles. */
import type { Annotation, Axis, Colorscale, Layout } from "./figure.ts";
import { html } from "./tokens.ts";

/** Letters, the same as in the static pictures where the reader's machine has them. */
export const FONT = "Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif";
/** Tokens: each character has its width, so that spaces can be counted. */
export const TOKEN_FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace";

export const INK = "#1f2933";
export const FAINT = "#6b7785";
export const GRID = "#e6e9ed";

/**
 * Series: Okabe and Ito's colours (2008), told apart by people with any colour vision. The yellow, too pale for lines on white,
 * comes last.
 */
export const PALETTE = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#3b3f46",
  "#b8a800",
] as const;

/** From nothing to much: one hue, from near white to dark, so that it also reads without colour. */
export const SEQUENTIAL: Colorscale = [
  [0, "#edf3f9"],
  [0.15, "#d7e5f3"],
  [0.35, "#93bfe0"],
  [0.55, "#4a90c6"],
  [0.75, "#1f62a0"],
  [1, "#0a2f63"],
];

/** Signed values, white at zero: orange-red above, blue below. */
export const DIVERGING: Colorscale = [
  [0, "#0b3c7d"],
  [0.2, "#3f7fbf"],
  [0.4, "#b5d1e8"],
  [0.5, "#fafafa"],
  [0.6, "#f7c9ad"],
  [0.8, "#d9713a"],
  [1, "#8c2d04"],
];

/** Range of a diverging scale: zero in its middle. */
export function centred(values: Iterable<number | null>): { zmin: number; zmax: number } {
  let most = 0;
  for (const value of values) {
    if (value !== null && Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  }
  return most === 0 ? { zmin: -1, zmax: 1 } : { zmin: -most, zmax: most };
}

/** A figure's own layout. */
interface OwnLayout extends Layout {
  readonly title: NonNullable<Layout["title"]>;
}

/**
 * The layout of one plot below its title.
 *
 * @param plot its height in pixels
 * @param own `margin` has what is beside and below it; above it there is the title, and `margin.t` more pixels
 */
export function plotLayout(plot: number, own: Omit<OwnLayout, "height">): Layout {
  const { t = 0, b = 50, ...sides } = own.margin ?? {};
  const top = topMargin(own.title, own.width) + t;
  return layout({
    ...own,
    height: top + plot + b,
    margin: { ...sides, t: top, b },
  } as OwnLayout);
}

/** What every layout has; the figure's own comes over it. */
export function layout(own: OwnLayout): Layout {
  const lines = noteLines(own.title, own.width);
  return {
    font: { family: FONT, size: 12, color: INK },
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    colorway: PALETTE,
    hovermode: "closest",
    hoverlabel: { font: { family: TOKEN_FONT, size: 12 }, align: "left", namelength: -1 },
    ...own,
    title: {
      x: TITLE_LEFT / own.width,
      xanchor: "left",
      y: 1,
      yref: "container",
      yanchor: "top",
      pad: { t: 16 },
      font: { size: 15, color: INK },
      ...own.title,
      ...(lines.length > 0 ? { subtitle: { text: lines.join("<br>") } } : {}),
    },
    margin: { l: 70, r: 30, t: topMargin(own.title, own.width), b: 60, ...own.margin },
  };
}

const TITLE_LEFT = 14;

/** Pixels above the plot for a title in a figure of a width, whose notes take as many lines as they need. */
export function topMargin(title: NonNullable<Layout["title"]>, width: number): number {
  return 58 + 16 * noteLines(title, width).length;
}

/** Notes, broken where they are wider than the figure. */
function noteLines({ subtitle }: NonNullable<Layout["title"]>, width: number): string[] {
  const most = (width - 2 * TITLE_LEFT) / 6.4; // pixels of a letter
  const lines: string[] = [];
  for (const word of subtitle?.text.split(/ +|<br>/) ?? []) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && longer.replace(/<[^>]*>/g, "").length <= most) {
      lines.splice(-1, 1, longer);
    } else lines.push(word);
  }
  return lines.map((line) => line.replace(/ ·$/, ""));
}

type Slider = NonNullable<Layout["sliders"]>[number];

/** Where words are tied to their place. */
type Anchor = `${"left" | "center" | "right"} ${"top" | "middle" | "bottom"}`;

/**
 * Words on a figure.
 *
 * @param at x and y
 * @param refs of which axes they are, or of `paper`
 */
export function words(
  text: string,
  [x, y]: readonly [x: number, y: number],
  [xref, yref]: readonly [x: string, y: string],
  anchor: Anchor,
  own: Partial<Annotation> = {},
): Annotation {
  const [xanchor, yanchor] = anchor.split(" ") as ["left", "top"];
  return { text, x, y, xref, yref, xanchor, yanchor, showarrow: false, ...own };
}

/** A slider below a plot. */
export function slider(prefix: string, own: Slider): Slider {
  return { active: 0, x: 0, currentvalue: { prefix, font: { size: 13, color: INK } }, ...own };
}

/** An axis that only places things. */
export const HIDDEN: Axis = {
  showticklabels: false,
  showgrid: false,
  zeroline: false,
  ticks: "",
  fixedrange: true,
};

/** An axis of numbers. */
export function axis(own: Axis = {}): Axis & Record<string, unknown> {
  return {
    showgrid: true,
    zeroline: false,
    ticks: "",
    ...own,
    gridcolor: GRID,
    linecolor: FAINT,
  };
}

/** Whose numbers a figure shows; what is not known or not one thing is left out. */
export interface FigureSubject {
  readonly model?: string;
  /** Of several sequences, which. */
  readonly sequence?: number;
  readonly layer?: number;
  readonly head?: number;
  /** Anything else that says where: `position 3`, `blk.3.out`. */
  readonly at?: string;
}

/**
 * A figure's title: whose numbers, then what they are: `tiny · layer 3 · head 2: attention`. Below it, notes: how the numbers
 * were made, what is not shown and how to see it.
 */
export function titled(
  what: string,
  place: FigureSubject = {},
  notes: readonly (string | undefined)[] = [],
): NonNullable<Layout["title"]> {
  const { model, sequence, layer, head, at } = place;
  const named = (name: string, index?: number) => index === undefined ? "" : `${name} ${index}`;
  const where = [
    model,
    named("sequence", sequence),
    named("layer", layer),
    named("head", head),
    at,
  ].filter((part) => part).map((part) => html(part!));
  const note = notes.filter((note) => note).join(" · ");
  return {
    text: where.length === 0 ? what : `${where.join(" · ")}: ${what}`,
    ...(note === "" ? {} : { subtitle: { text: note } }),
  };
}

/** A title with one more note. */
export function noted(
  title: NonNullable<Layout["title"]>,
  note?: string,
): NonNullable<Layout["title"]> {
  const all = [title.subtitle?.text, note].filter((text) => text).join(" · ");
  return all === "" ? title : { ...title, subtitle: { text: all } };
}

/** Ticks of a short colour bar from zero, or from as far below it: zero and a round number. */
export function fewTicks({ zmin, zmax }: { readonly zmin: number; readonly zmax: number }) {
  const power = 10 ** Math.floor(Math.log10(zmax) + 1e-9);
  const round = power * ([5, 2].find((each) => each * power <= zmax) ?? 1);
  const tickvals = [...(zmin < 0 ? [-round] : []), 0, round];
  return { tickvals, ticktext: tickvals.map(tickText) };
}

/** `−0.5`, `2e−6` */
function tickText(value: number): string {
  const size = Math.abs(value);
  const rounded = Number(value.toPrecision(3));
  const text = size === 0 || size >= 0.01 && size < 1e4
    ? `${rounded}`
    : rounded.toExponential().replace("+", "");
  return text.replaceAll("-", "−");
}
