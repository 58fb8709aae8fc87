/**
 * Figures: plain Plotly `data` and `layout`, which show themselves in Jupyter. The types are the part of Plotly that Lamina's
 * figures use, and that the static picture can draw too: what type-checks has both.
 */
import { displayBundle } from "./display.ts";

/** Numbers as Plotly takes them: a list with gaps, or many packed by {@linkcode packed}. */
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
  readonly size?: number;
  readonly color?: string;
  readonly family?: string;
}

interface TraceBase {
  readonly name?: string;
  readonly xaxis?: AxisName<"x">;
  readonly yaxis?: AxisName<"y">;
  /** False hides it, its legend entry too; "legendonly" keeps the entry. */
  readonly visible?: boolean | "legendonly";
  readonly showlegend?: boolean;
  readonly legendgroup?: string;
  readonly opacity?: number;
  /** Facts for the hover's template, per point. */
  readonly customdata?: unknown;
  readonly hovertemplate?: string;
  readonly hoverinfo?: "skip" | "none";
}

/** A matrix as colours: `z[row][column]` at `y[row]`, `x[column]`. */
export interface Heatmap extends TraceBase {
  readonly type: "heatmap";
  readonly z: Matrix;
  /** Centres of the columns; 0, 1, … without it. */
  readonly x?: readonly number[];
  readonly y?: readonly number[];
  readonly colorscale: Colorscale;
  readonly zmin: number;
  readonly zmax: number;
  readonly showscale?: boolean;
  readonly colorbar?: Colorbar;
  /** Words in the cells (with `texttemplate: "%{text}"`) or in the hover. */
  readonly text?: readonly (readonly string[])[];
  readonly texttemplate?: "%{text}";
  readonly textfont?: Font;
  /** White space between cells, in pixels. */
  readonly xgap?: number;
  readonly ygap?: number;
  /** False: cells without a number have no hover. */
  readonly hoverongaps?: boolean;
}

/** A colour scale's legend. */
export interface Colorbar {
  readonly title?: { readonly text: string; readonly side?: "right" | "top" };
  readonly len?: number;
  readonly thickness?: number;
  readonly x?: number;
  readonly y?: number;
  readonly tickvals?: readonly number[];
  readonly ticktext?: readonly string[];
}

/** Lines, points or words. */
export interface Scatter extends TraceBase {
  readonly type: "scatter";
  readonly mode: "lines" | "markers" | "lines+markers" | "text" | "markers+text" | "lines+text";
  readonly x: Numbers;
  readonly y: Numbers;
  readonly line?: {
    readonly color?: string;
    readonly width?: number;
    readonly dash?: "solid" | "dash" | "dot";
    readonly shape?: "linear" | "hv" | "spline";
  };
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
  readonly text?: readonly string[];
  readonly textposition?:
    | "top center"
    | "bottom center"
    | "middle left"
    | "middle right"
    | "middle center";
  readonly textfont?: Font;
  readonly fill?: "tozeroy" | "tonexty";
  readonly fillcolor?: string;
  readonly connectgaps?: boolean;
}

/** Bars, upright or lying. */
export interface Bar extends TraceBase {
  readonly type: "bar";
  readonly orientation?: "h" | "v";
  readonly x: Numbers | readonly string[];
  readonly y: Numbers | readonly string[];
  readonly width?: number | readonly number[];
  readonly marker?: {
    readonly color?: string | readonly string[];
    readonly line?: { readonly color?: string; readonly width?: number };
  };
  readonly text?: readonly string[];
  readonly textposition?: "inside" | "outside" | "auto" | "none";
  readonly textfont?: Font;
  readonly base?: Numbers;
}

/** One series of a figure. */
export type Trace = Heatmap | Scatter | Bar;

/** An axis. Tokens are ticks of a numeric axis (`tickvals`, `ticktext`), since the same token comes again. */
export interface Axis {
  readonly title?: { readonly text: string; readonly standoff?: number; readonly font?: Font };
  readonly type?: "linear" | "log" | "category";
  /** Of a log axis: powers of ten. */
  readonly range?: readonly [number, number];
  readonly autorange?: boolean | "reversed";
  /** From 0 to 1, of the plot's area. */
  readonly domain?: readonly [number, number];
  readonly anchor?: string;
  readonly side?: "top" | "bottom" | "left" | "right";
  readonly tickvals?: readonly number[];
  readonly ticktext?: readonly string[];
  readonly tickangle?: number;
  readonly tickfont?: Font;
  readonly tickformat?: string;
  readonly dtick?: number;
  readonly showticklabels?: boolean;
  readonly ticks?: "" | "outside";
  readonly showgrid?: boolean;
  readonly gridcolor?: string;
  readonly linecolor?: string;
  readonly showline?: boolean;
  readonly zeroline?: boolean;
  readonly fixedrange?: boolean;
  readonly constrain?: "domain" | "range";
  readonly scaleanchor?: string;
  readonly matches?: string;
  readonly categoryorder?: "array";
  readonly categoryarray?: readonly string[];
}

/** Words on a figure. */
export interface Annotation {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  /** `paper` (from 0 to 1 of the plot's area), an axis, or the space of one: `x2 domain`. */
  readonly xref?: string;
  readonly yref?: string;
  readonly xanchor?: "left" | "center" | "right";
  readonly yanchor?: "top" | "middle" | "bottom";
  readonly xshift?: number;
  readonly yshift?: number;
  readonly showarrow: false;
  readonly font?: Font;
  readonly align?: "left" | "center" | "right";
  readonly textangle?: number;
}

/** A line or a box on a figure. */
export interface Shape {
  readonly type: "line" | "rect";
  readonly x0: number;
  readonly x1: number;
  readonly y0: number;
  readonly y1: number;
  readonly xref?: string;
  readonly yref?: string;
  readonly line?: {
    readonly color?: string;
    readonly width?: number;
    readonly dash?: "solid" | "dash" | "dot";
  };
  readonly fillcolor?: string;
  readonly opacity?: number;
  readonly layer?: "above" | "below";
}

/** What a slider's step or a button does: Plotly's `restyle`, `relayout` or `update` and its arguments. */
export interface Control {
  readonly label: string;
  readonly method: "restyle" | "relayout" | "update";
  readonly args: readonly unknown[];
}

/** Everything but the data. */
export interface Layout {
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
  readonly width: number;
  readonly height: number;
  readonly margin?: {
    readonly l?: number;
    readonly r?: number;
    readonly t?: number;
    readonly b?: number;
  };
  readonly showlegend?: boolean;
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
  readonly barmode?: "group" | "stack" | "overlay" | "relative";
  readonly bargap?: number;
  readonly hovermode?: "closest" | "x" | "x unified" | false;
  readonly annotations?: readonly Annotation[];
  readonly shapes?: readonly Shape[];
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
  readonly font?: Font;
  readonly paper_bgcolor?: string;
  readonly plot_bgcolor?: string;
  readonly colorway?: readonly string[];
  readonly hoverlabel?: {
    readonly font?: Font;
    readonly align?: "left" | "auto";
    readonly namelength?: number;
  };
}

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
      .join(": ").replace(/<[^>]*>/g, " ").replace(/\s+/g, " ").trim();
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
