/**
 * Figures: plain Plotly `data` and `layout`, which show themselves in Jupyter. The types are the part of Plotly that Lamina's
 * figures use, and that the static picture can draw too: what type-checks has both.
 */
import { displayBundle } from "./display.ts";

/** Numbers as Plotly takes them: a list with gaps, or many packed by `packed`. */
export type Numbers = readonly (number | null)[] | PackedNumbers;

/** A matrix [rows, columns], the same two ways. */
export type Matrix = readonly (readonly (number | null)[])[] | PackedNumbers;

/** Plotly's typed arrays: little-endian bytes in base64. */
export interface PackedNumbers {
  /** Type of a number. */
  readonly dtype: "f4" | "u1";
  /** The bytes. */
  readonly bdata: string;
  /** `"rows, columns"` of a matrix. */
  readonly shape?: string;
}

/** Places of a colour scale from 0 to 1, and their colours (`#rrggbb`). */
export type Colorscale = readonly (readonly [place: number, color: string])[];

/** Names of an axis of a figure: `x`, `x2`, … */
export type AxisName<Letter extends "x" | "y"> = Letter | `${Letter}${number}`;

/** A font; what is left out is the theme's. */
export interface Font {
  /** In pixels. */
  readonly size?: number;
  /** `#rrggbb`. */
  readonly color?: string;
  /** As in CSS. */
  readonly family?: string;
}

/** What every series has. */
export interface TraceBase {
  /** In the legend and the hover. */
  readonly name?: string;
  /** `x` without it. */
  readonly xaxis?: AxisName<"x">;
  /** `y` without it. */
  readonly yaxis?: AxisName<"y">;
  /** False hides it, its legend entry too; "legendonly" keeps the entry. */
  readonly visible?: boolean | "legendonly";
  /** Whether it has an entry. */
  readonly showlegend?: boolean;
  /** Entries of a group are switched together. */
  readonly legendgroup?: string;
  /** From 0 to 1. */
  readonly opacity?: number;
  /** Facts for the hover's template, per point. */
  readonly customdata?: unknown;
  /** Words of the hover, with `%{x}`, `%{y}`, `%{z:.4f}`, `%{customdata}`. */
  readonly hovertemplate?: string;
  /** No hover: `skip` without an event, `none` with one. */
  readonly hoverinfo?: "skip" | "none";
}

/** A matrix as colours: `z[row][column]` at `y[row]`, `x[column]`. */
export interface Heatmap extends TraceBase {
  /** Plotly’s name. */
  readonly type: "heatmap";
  /** The numbers. */
  readonly z: Matrix;
  /** Centres of the columns; 0, 1, … without it. */
  readonly x?: readonly number[];
  /** Centres of the rows; 0, 1, … without it. */
  readonly y?: readonly number[];
  /** Colours from `zmin` to `zmax`. */
  readonly colorscale: Colorscale;
  /** The number of the first colour. */
  readonly zmin: number;
  /** The number of the last colour. */
  readonly zmax: number;
  /** False: without a colour bar. */
  readonly showscale?: boolean;
  /** Where and how the bar is drawn. */
  readonly colorbar?: Colorbar;
  /** Words in the cells (with `texttemplate: "%{text}"`) or in the hover. */
  readonly text?: readonly (readonly string[])[];
  /** Writes `text` into the cells. */
  readonly texttemplate?: "%{text}";
  /** Of the words in the cells. */
  readonly textfont?: Font;
  /** White space between cells, in pixels. */
  readonly xgap?: number;
  /** The same between rows. */
  readonly ygap?: number;
  /** False: cells without a number have no hover. */
  readonly hoverongaps?: boolean;
}

/** A colour scale's legend. */
export interface Colorbar {
  /** What the numbers are. */
  readonly title?: { readonly text: string; readonly side?: "right" | "top" };
  /** A part of the plot’s height. */
  readonly len?: number;
  /** In pixels. */
  readonly thickness?: number;
  /** Left edge, in parts of the plot’s width. */
  readonly x?: number;
  /** Middle, in parts of the plot’s height. */
  readonly y?: number;
  /** Numbers that are named. */
  readonly tickvals?: readonly number[];
  /** Their names. */
  readonly ticktext?: readonly string[];
}

/** Lines, points or words. */
export interface Scatter extends TraceBase {
  /** Plotly’s name. */
  readonly type: "scatter";
  /** What is drawn at each point, and between them. */
  readonly mode: "lines" | "markers" | "lines+markers" | "text" | "markers+text" | "lines+text";
  /** Places across. */
  readonly x: Numbers;
  /** Places up; a gap breaks the line. */
  readonly y: Numbers;
  /** The line: width in pixels; `hv` goes in steps. */
  readonly line?: {
    readonly color?: string;
    readonly width?: number;
    readonly dash?: "solid" | "dash" | "dot";
    readonly shape?: "linear" | "hv" | "spline";
  };
  /** The points: size in pixels; colours one for all, one each, or numbers on a scale. */
  readonly marker?: {
    readonly color?: string | readonly string[] | Numbers;
    readonly size?: number | readonly number[];
    readonly symbol?: "circle" | "square" | "diamond" | "x" | "triangle-up";
    readonly opacity?: number;
    readonly colorscale?: Colorscale;
    readonly cmin?: number;
    readonly cmax?: number;
    readonly showscale?: boolean;
    readonly colorbar?: Colorbar;
    readonly line?: { readonly color?: string; readonly width?: number };
  };
  /** Words at the points. */
  readonly text?: readonly string[];
  /** Where the words stand. */
  readonly textposition?:
    | "top center"
    | "bottom center"
    | "middle left"
    | "middle right"
    | "middle center";
  /** Of the words. */
  readonly textfont?: Font;
  /** Colours the area down to zero, or to the series before. */
  readonly fill?: "tozeroy" | "tonexty";
  /** Of that area. */
  readonly fillcolor?: string;
  /** True: the line goes over gaps. */
  readonly connectgaps?: boolean;
}

/** Bars, upright or lying. */
export interface Bar extends TraceBase {
  /** Plotly’s name. */
  readonly type: "bar";
  /** `h` for lying ones. */
  readonly orientation?: "h" | "v";
  /** Places, or lengths of lying bars. */
  readonly x: Numbers | readonly string[];
  /** Lengths, or places of lying bars. */
  readonly y: Numbers | readonly string[];
  /** Along the axis of the places. */
  readonly width?: number | readonly number[];
  /** Colours: one for all or one each, and the outline. */
  readonly marker?: {
    readonly color?: string | readonly string[];
    readonly line?: { readonly color?: string; readonly width?: number };
  };
  /** Words at the bars. */
  readonly text?: readonly string[];
  /** Where the words stand. */
  readonly textposition?: "inside" | "outside" | "auto" | "none";
  /** Of the words. */
  readonly textfont?: Font;
  /** False: words may stand beyond the axes. */
  readonly cliponaxis?: false;
  /** Where the bars begin; 0 without it. */
  readonly base?: Numbers;
}

/** One series of a figure. */
export type Trace = Heatmap | Scatter | Bar;

/** An axis. Tokens are ticks of a numeric axis (`tickvals`, `ticktext`), since the same token comes again. */
export interface Axis {
  /** Its name; `standoff` are pixels between it and the labels. */
  readonly title?: { readonly text: string; readonly standoff?: number; readonly font?: Font };
  /** Linear without it. */
  readonly type?: "linear" | "log" | "category";
  /** Of a log axis: powers of ten. */
  readonly range?: readonly [number, number];
  /** From the data; `reversed` has the smallest at the top or right. */
  readonly autorange?: boolean | "reversed";
  /** From 0 to 1, of the plot's area. */
  readonly domain?: readonly [number, number];
  /** The other axis that it stands at. */
  readonly anchor?: string;
  /** Where its labels are. */
  readonly side?: "top" | "bottom" | "left" | "right";
  /** Places that are named. */
  readonly tickvals?: readonly number[];
  /** Their names. */
  readonly ticktext?: readonly string[];
  /** Degrees, clockwise. */
  readonly tickangle?: number;
  /** Of the labels. */
  readonly tickfont?: Font;
  /** As d3-format has it: `.0%`. */
  readonly tickformat?: string;
  /** Between ticks; of a log axis in powers of ten. */
  readonly dtick?: number;
  /** False: no labels. */
  readonly showticklabels?: boolean;
  /** Small lines at the labels. */
  readonly ticks?: "" | "outside";
  /** Whether lines go through the plot. */
  readonly showgrid?: boolean;
  /** Of those lines. */
  readonly gridcolor?: string;
  /** Of the axis. */
  readonly linecolor?: string;
  /** Whether the axis is a line. */
  readonly showline?: boolean;
  /** Whether zero has a line. */
  readonly zeroline?: boolean;
  /** True: no zoom. */
  readonly fixedrange?: boolean;
  /** What gives way where a scale is fixed. */
  readonly constrain?: "domain" | "range";
  /** The axis whose pixels per unit it has. */
  readonly scaleanchor?: string;
  /** The axis whose range it follows. */
  readonly matches?: string;
  /** By `categoryarray`. */
  readonly categoryorder?: "array";
  /** Categories in order. */
  readonly categoryarray?: readonly string[];
}

/** Words on a figure. */
export interface Annotation {
  /** In Plotly’s HTML. */
  readonly text: string;
  /** Across, in units of `xref`. */
  readonly x: number;
  /** Up, in units of `yref`; of a log axis its logarithm. */
  readonly y: number;
  /** `paper` (from 0 to 1 of the plot's area), an axis, or the space of one: `x2 domain`. */
  readonly xref?: string;
  /** The same for `y`. */
  readonly yref?: string;
  /** Which part of the words stands at `x`. */
  readonly xanchor?: "left" | "center" | "right";
  /** Which part of them stands at `y`. */
  readonly yanchor?: "top" | "middle" | "bottom";
  /** Pixels to the right. */
  readonly xshift?: number;
  /** Pixels up. */
  readonly yshift?: number;
  /** Lamina’s figures have no arrows. */
  readonly showarrow: false;
  /** Of the words. */
  readonly font?: Font;
  /** Of several lines. */
  readonly align?: "left" | "center" | "right";
  /** Degrees, clockwise. */
  readonly textangle?: number;
}

/** A line or a box on a figure. */
export interface Shape {
  /** Which of the two. */
  readonly type: "line" | "rect";
  /** One end across. */
  readonly x0: number;
  /** The other end. */
  readonly x1: number;
  /** One end up. */
  readonly y0: number;
  /** The other end. */
  readonly y1: number;
  /** As of an annotation. */
  readonly xref?: string;
  /** The same for `y0` and `y1`. */
  readonly yref?: string;
  /** The line, or the box’s outline. */
  readonly line?: {
    readonly color?: string;
    readonly width?: number;
    readonly dash?: "solid" | "dash" | "dot";
  };
  /** Of a box. */
  readonly fillcolor?: string;
  /** From 0 to 1. */
  readonly opacity?: number;
  /** Before or behind the data. */
  readonly layer?: "above" | "below";
}

/** What a slider's step or a button does: Plotly's `restyle`, `relayout` or `update` and its arguments. */
export interface Control {
  /** On the button, or at the slider’s step. */
  readonly label: string;
  /** Plotly’s function. */
  readonly method: "restyle" | "relayout" | "update";
  /** Its arguments, less the figure. */
  readonly args: readonly unknown[];
}

/** Everything but the data. */
export interface Layout {
  /** Above the plot. */
  readonly title?: {
    readonly text: string;
    readonly subtitle?: { readonly text: string; readonly font?: Font };
    readonly x?: number;
    readonly xanchor?: "left" | "center";
    /** From 0 (bottom) to 1 of the whole figure, less the padding. */
    readonly y?: number;
    readonly yref?: "container";
    readonly yanchor?: "top";
    readonly pad?: { readonly t?: number };
    readonly font?: Font;
  };
  /** Of the whole figure, in pixels. */
  readonly width: number;
  /** Of the whole figure, in pixels. */
  readonly height: number;
  /** Pixels around the plot. */
  readonly margin?: {
    readonly l?: number;
    readonly r?: number;
    readonly t?: number;
    readonly b?: number;
  };
  /** Whether series are listed. */
  readonly showlegend?: boolean;
  /** Where the list is (in parts of the plot’s area), and what a click on it does. */
  readonly legend?: {
    readonly orientation?: "h" | "v";
    readonly x?: number;
    readonly y?: number;
    readonly xanchor?: "left" | "center" | "right";
    readonly yanchor?: "top" | "middle" | "bottom";
    readonly title?: { readonly text: string };
    readonly itemclick?: "toggle" | "toggleothers" | false;
    readonly itemdoubleclick?: "toggle" | "toggleothers" | false;
    readonly traceorder?: "normal" | "reversed";
  };
  /** How bars at one place share it. */
  readonly barmode?: "group" | "stack" | "overlay" | "relative";
  /** Between bars, as a part of their room. */
  readonly bargap?: number;
  /** Which points a hover names. */
  readonly hovermode?: "closest" | "x" | "x unified" | false;
  /** Words on it. */
  readonly annotations?: readonly Annotation[];
  /** Lines and boxes on it. */
  readonly shapes?: readonly Shape[];
  /** Steps through states of the figure. */
  readonly sliders?: readonly {
    readonly active?: number;
    readonly currentvalue?: {
      readonly prefix?: string;
      readonly visible?: boolean;
      readonly font?: Font;
    };
    readonly pad?: { readonly t?: number; readonly b?: number; readonly l?: number };
    /** In parts of the plot's width, or in pixels. */
    readonly len?: number;
    readonly lenmode?: "fraction" | "pixels";
    readonly x?: number;
    readonly y?: number;
    readonly ticklen?: number;
    readonly steps: readonly Control[];
  }[];
  /** Buttons and menus. */
  readonly updatemenus?: readonly {
    readonly type?: "buttons" | "dropdown";
    readonly direction?: "left" | "right" | "up" | "down";
    readonly x?: number;
    readonly y?: number;
    readonly xanchor?: "left" | "center" | "right";
    readonly yanchor?: "top" | "middle" | "bottom";
    readonly active?: number;
    readonly pad?: {
      readonly t?: number;
      readonly r?: number;
      readonly b?: number;
      readonly l?: number;
    };
    readonly buttons: readonly Control[];
  }[];
  /** Axes by name: `xaxis`, `yaxis2`, … */
  readonly [axis: `xaxis${string}` | `yaxis${string}`]: Axis | undefined;
  /** Of all words. */
  readonly font?: Font;
  /** Behind everything. */
  readonly paper_bgcolor?: string;
  /** Behind the plot. */
  readonly plot_bgcolor?: string;
  /** Colours of series that name none. */
  readonly colorway?: readonly string[];
  /** How hovers look. */
  readonly hoverlabel?: {
    readonly font?: Font;
    readonly align?: "left" | "auto";
    readonly namelength?: number;
  };
}

const CHARACTERS = { lt: "<", gt: ">", amp: "&" } as const;

/**
 * A figure. As the last value of a notebook's cell it shows itself: interactive where Plotly is, else as a picture that says the
 * same. `data` and `layout` are plain Plotly: `JSON.stringify(figure)` is what Plotly's own libraries read.
 *
 * ```ts
 * import { attentionMap, loadModel } from "../../mod.ts";
 * using model = await loadModel("tiny");
 * const run = await model.run("Once upon a time", { capture: ["blk.*.attn_probs"] });
 * const figure = attentionMap(run, { layer: 3, head: 2 });
 * await Deno.writeFile("attention.png", await figure.png());
 * ```
 */
export class Figure {
  /** Use one of the functions that make figures, or give your own Plotly data. */
  constructor(
    /** The series. */
    readonly data: readonly Trace[],
    /** Sizes, axes, titles. */
    readonly layout: Layout,
  ) {}

  /** The title and what stands under it, as one line of text. */
  get caption(): string {
    const { title } = this.layout;
    return [title?.text, title?.subtitle?.text].filter((text) => text)
      .join(": ").replace(/<[^>]*>/g, " ").replace(/\s+/g, " ").trim()
      .replace(/&(lt|gt|amp);/g, (_, name: "lt" | "gt" | "amp") => CHARACTERS[name]);
  }

  /** Plotly's own form. */
  toJSON(): { readonly data: readonly Trace[]; readonly layout: Layout } {
    return { data: this.data, layout: this.layout };
  }

  /**
   * The figure as it first appears, as an SVG text. The same figure gives the same text on every machine.
   */
  async svg(): Promise<string> {
    const { figureSvg } = await import("./picture/mod.ts");
    return await figureSvg(this);
  }

  /**
   * The same as a PNG.
   *
   * @param scale pixels per pixel of the layout
   */
  async png({ scale = 1.5 }: { readonly scale?: number } = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { figurePng } = await import("./picture/mod.ts");
    return await figurePng(this, scale);
  }

  /**
   * What Jupyter shows: interactive, as a picture, as text.
   *
   * @param options.picture false leaves the picture out, of a figure that will be drawn over at once
   */
  [Symbol.for("Jupyter.display")](
    options?: { readonly picture?: boolean },
  ): Promise<Record<string, unknown>> {
    return displayBundle(this, options);
  }
}
