/** A text as coloured tokens. */
import { named, textPixels } from "./attention/cells.ts";
import {
  type Colorscale,
  Figure,
  type Heatmap,
  type Layout,
  type Shape,
} from "./drawing/figure.ts";
import { short } from "./drawing/numbers.ts";
import {
  centred,
  DIVERGING,
  HIDDEN,
  INK,
  noted,
  plotLayout,
  SEQUENTIAL,
  TOKEN_FONT,
  words,
} from "./drawing/theme.ts";
import { html, tokenLabel } from "./drawing/tokens.ts";

/** Tokens and a number for each. */
export interface ColouredText {
  readonly title: NonNullable<Layout["title"]>;
  readonly tokens: readonly string[];
  /** Positions of the tokens. */
  readonly positions: readonly number[];
  /** NaN is left white. */
  readonly values: ArrayLike<number>;
  /** What the numbers are. */
  readonly legend: string;
  readonly signed?: boolean;
  /** Ends of the scale; those of the numbers without it. */
  readonly range?: readonly [number, number];
  /** More for the hover of each token, in Plotly's HTML. */
  readonly more?: readonly string[];
}

/** A longer text is cut, and the figure says so. */
const MOST_TOKENS = 2000;
const WIDTH = 760;
const LINE = 26;
const FONT_SIZE = 12;
/** Pixels of the colour bar beside a long text: where one begins to read. */
const BAR = 220;

/**
 * The tokens as in a text, line by line, each in a box of its number's colour. Newlines in the text begin a new line here too. Of a
 * text of more than 2,000 tokens the first ones.
 */
export function colouredText(text: ColouredText): Figure {
  const { positions, values, legend, signed, more } = text;
  const tokens = text.tokens.slice(0, MOST_TOKENS);
  const title = noted(
    text.title,
    text.tokens.length > MOST_TOKENS
      ? `the first ${MOST_TOKENS} of ${text.tokens.length} tokens`
      : undefined,
  );
  const finite = Array.from(values).filter(Number.isFinite);
  const [low, high] = text.range ??
    (signed
      ? Object.values(centred(finite))
      : [0, finite.reduce((a, b) => Math.max(a, b), 0) || 1]);
  const colorscale: Colorscale = signed ? DIVERGING : SEQUENTIAL;

  // Where each token stands.
  const boxes: { x: number; width: number; line: number; label: string }[] = [];
  let [x, line] = [0, 0];
  for (const token of tokens) {
    const label = tokenLabel(token, 40);
    const width = Math.max(9, textPixels(label, FONT_SIZE) + 5);
    if (x > 0 && x + width > WIDTH) [x, line] = [0, line + 1];
    boxes.push({ x, width, line, label });
    x += width + 1;
    if (token.includes("\n")) [x, line] = [0, line + 1];
  }
  const lines = Math.max(...boxes.map(({ line }) => line)) + 1;

  const colour = (value: number) =>
    Number.isFinite(value) ? colourOf(colorscale, (value - low) / (high - low)) : "#ffffff";
  const shapes = boxes.map(({ x, width, line }, i): Shape => ({
    type: "rect",
    x0: x,
    x1: x + width,
    y0: line + 0.08,
    y1: line + 0.92,
    fillcolor: colour(values[i]),
    line: { width: 0 },
    layer: "below",
  }));
  const annotations = boxes.map(({ x, width, line, label }, i) => {
    const color = isDark(colour(values[i])) ? "#ffffff" : INK;
    const font = { size: FONT_SIZE, family: TOKEN_FONT, color };
    return words(html(label), [x + width / 2, line + 0.5], ["x", "y"], "center middle", { font });
  });
  const height = Math.max(lines * LINE, 90);
  const barPart = Math.min(1, BAR / height);
  const bar: Heatmap = {
    // Has the colour bar; its two cells lie just outside of the plot.
    type: "heatmap",
    z: [[low, high]],
    x: [0, 1],
    y: [-0.6],
    colorscale,
    zmin: low,
    zmax: high,
    colorbar: {
      thickness: 11,
      title: { text: html(legend), side: "top" },
      ...(barPart < 1 ? { len: barPart, y: 1 - barPart / 2 } : {}),
    },
    hoverinfo: "skip",
  };
  return new Figure(
    [bar, {
      type: "scatter",
      mode: "markers",
      x: boxes.map(({ x, width }) => x + width / 2),
      y: boxes.map(({ line }) => line + 0.5),
      marker: { size: 16, opacity: 0, color: INK },
      customdata: boxes.map((_, i) =>
        `${named(tokens[i], positions[i])}<br>${html(legend)}: ${short(values[i]) ?? "–"}${
          more ? `<br>${more[i]}` : ""
        }`
      ),
      hovertemplate: "%{customdata}<extra></extra>",
    }],
    plotLayout(height, {
      title,
      width: WIDTH + 130,
      margin: { l: 14, r: 116, b: 20 },
      xaxis: { range: [0, WIDTH], ...HIDDEN },
      yaxis: { range: [height / LINE, 0], ...HIDDEN },
      shapes,
      annotations,
      showlegend: false,
    }),
  );
}

/** The colour at a place of a scale, between its own ones in red, green and blue. */
export function colourOf(scale: Colorscale, place: number): string {
  const at = Math.min(1, Math.max(0, place));
  const upper = Math.max(1, scale.findIndex(([edge]) => edge >= at));
  const [[from, a], [to, b]] = [scale[upper - 1], scale[upper]];
  const share = (at - from) / (to - from);
  return "#" + [1, 3, 5].map((i) => {
    const [low, high] = [a, b].map((colour) => parseInt(colour.slice(i, i + 2), 16));
    return Math.round(low + (high - low) * share).toString(16).padStart(2, "0");
  }).join("");
}

/** Whether white letters read better on a colour. */
export function isDark(colour: string): boolean {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140;
}
