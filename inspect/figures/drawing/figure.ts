/** Figures: plain Plotly `data` and `layout`, which show themselves in Jupyter. */
import type { PackedNumbers } from "./numbers.ts";
import type * as Plotly from "npm:@types/plotly.js@3.0.14";
import { displayBundle } from "./display.ts";

/** What nobody writes into, all the way down. */
export type Frozen<T> = T extends (...args: never[]) => unknown ? T
  : { readonly [K in keyof T]: Frozen<T[K]> };

/** A part of Plotly's types, with what they have otherwise or not at all. */
export type FigurePart<T, Own = unknown> = Frozen<Omit<Partial<T>, keyof Own>> & Readonly<Own>;

/** Numbers as Plotly takes them: a list with gaps, or many packed by `packed`. */
export type Numbers = readonly (number | null)[] | PackedNumbers;

/** A matrix [rows, columns], the same two ways. */
export type Matrix = readonly (readonly (number | null)[])[] | PackedNumbers;

/** Places of a colour scale from 0 to 1, and their colours (`#rrggbb`). */
export type Colorscale = readonly (readonly [place: number, color: string])[];

/** Names of an axis of a figure: `x`, `x2`, … */
export type AxisName<Letter extends "x" | "y"> = Letter | `${Letter}${number}`;

/** A font; what is left out is the theme's. */
export type Font = FigurePart<Plotly.Font>;

/** What every series has. */
export interface Series {
  /** Its axis along x; `x` where left out. */
  xaxis?: AxisName<"x">;
  /** Its axis along y; `y` where left out. */
  yaxis?: AxisName<"y">;
  /** What {@linkcode Series.hovertemplate} may show. */
  customdata?: unknown;
  /** The text beside the pointer. */
  hovertemplate?: string;
}

/** A matrix as colours: `z[row][column]` at `y[row]`, `x[column]`. */
export type Heatmap = FigurePart<
  Plotly.PlotData,
  Series & {
    type: "heatmap";
    z: Matrix;
    x?: readonly number[];
    y?: readonly number[];
    colorscale: Colorscale;
    zmin: number;
    zmax: number;
    text?: readonly (readonly string[])[];
  }
>;

/** Lines, points or words. */
export type Scatter = FigurePart<
  Plotly.PlotData,
  Series & {
    type: "scatter";
    mode: "lines" | "markers" | "lines+markers" | "text" | "markers+text" | "lines+text";
    x: Numbers;
    y: Numbers;
    marker?: FigurePart<
      Plotly.PlotMarker,
      { color?: string | readonly string[] | Numbers; colorscale?: Colorscale }
    >;
  }
>;

/** Bars, upright or lying. */
export type Bar = FigurePart<
  Plotly.PlotData,
  Series & {
    type: "bar";
    x: Numbers | readonly string[];
    y: Numbers | readonly string[];
    base?: Numbers;
    cliponaxis?: boolean;
  }
>;

/** One series of a figure. */
export type Trace = Heatmap | Scatter | Bar;

/** An axis. Tokens are ticks of a numeric axis (`tickvals`, `ticktext`), since the same token comes again. */
export type Axis = FigurePart<Plotly.LayoutAxis, {
  tickvals?: readonly number[];
  range?: readonly [number, number];
  anchor?: string;
  scaleanchor?: string;
  matches?: string;
}>;

/** In units of what: `paper` (from 0 to 1 of the plot's area), an axis, or the space of one: `x2 domain`. */
export interface FigureRefs {
  /** Of x. */
  xref?: string;
  /** Of y. */
  yref?: string;
}

/** Words on a figure. Lamina’s figures have no arrows. */
export type Annotation = FigurePart<
  Plotly.Annotations,
  FigureRefs & {
    text: string;
    x: number;
    y: number;
    showarrow: false;
    textangle?: number;
  }
>;

/** A line or a box on a figure. */
export type Shape = FigurePart<
  Plotly.Shape,
  FigureRefs & { x0: number; x1: number; y0: number; y1: number }
>;

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
export type Layout =
  & FigurePart<Omit<Plotly.Layout, `${"x" | "y"}axis${string}`>, {
    width: number;
    height: number;
    title?: FigurePart<
      Exclude<Plotly.Layout["title"], string>,
      { text: string; subtitle?: { text: string; font?: Font } }
    >;
    annotations?: readonly Annotation[];
    shapes?: readonly Shape[];
    sliders?: readonly FigurePart<Plotly.Slider, { steps: readonly Control[] }>[];
    updatemenus?: readonly FigurePart<Plotly.UpdateMenu, { buttons: readonly Control[] }>[];
  }>
  & { readonly [axis: `${"x" | "y"}axis${string}`]: Axis | undefined };

const CHARACTERS = { lt: "<", gt: ">", amp: "&" } as const;

/**
 * A figure. As the last value of a notebook's cell it shows itself: interactive where Plotly is, else as a picture that says the
 * same. `data` and `layout` are plain Plotly: `JSON.stringify(figure)` is what Plotly's own libraries read.
 *
 * ```ts
 * import { attentionMap, loadModel } from "../../../mod.ts";
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
    const { figureSvg } = await import("../picture/mod.ts");
    return await figureSvg(this);
  }

  /**
   * The same as a PNG.
   *
   * @param scale pixels per pixel of the layout
   */
  async png({ scale = 1.5 }: { readonly scale?: number } = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { figurePng } = await import("../picture/mod.ts");
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
