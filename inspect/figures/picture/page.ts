/** Plotly, in a document without a browser. */
import { crc32 } from "node:zlib";
import { DOMParser, parseHTML, SVGElement } from "npm:linkedom@0.18.15/worker";
import plotly from "npm:plotly.js-cartesian-dist-min@4.1.1/plotly-cartesian.min.js" with {
  type: "text",
};
import type { Figure } from "../drawing/figure.ts";
import { type Box, boxOf, type SvgElement } from "./boxes.ts";
import { Canvas } from "./canvas.ts";
import type { Fonts } from "./fonts.ts";

/** The part of Plotly that is used here. */
interface Plotly {
  toImage(
    figure: { readonly data: unknown; readonly layout: unknown; readonly config: unknown },
    options: Readonly<Record<string, unknown>>,
  ): Promise<string>;
}

/** The fonts of the figure that is being drawn, and where its random names begin: both are its own, whatever was drawn before. */
let fonts: Fonts;
let seed = 0;

let page: Plotly | undefined;
let drawing: Promise<unknown> = Promise.resolve();

/**
 * What Plotly's camera button gives: the figure as it first appears, as an SVG text. One is drawn after the other.
 *
 * @param json the figure: Plotly writes into what it is given, so it gets a copy
 */
export function plotlySvg(json: string, own: Fonts): Promise<string> {
  const next = drawing.then(() => {
    fonts = own;
    page ??= open();
    seed = crc32(json);
    const { data, layout } = JSON.parse(json) as Figure;
    const { width, height } = layout;
    return page.toImage({ data, layout: still(layout), config: {} }, {
      format: "svg",
      width,
      height,
      imageDataOnly: true,
    });
  });
  drawing = next.catch(() => undefined);
  return next;
}

const CLEAR = "rgba(0,0,0,0)";

/** In a picture nobody can choose: sliders and lists say what is chosen, with the room that they have in the figure. */
function still({ sliders, updatemenus, ...layout }: Figure["layout"]) {
  const unseen = { bgcolor: CLEAR, bordercolor: CLEAR, tickcolor: CLEAR };
  return {
    ...layout,
    sliders: sliders?.map(({ currentvalue, ...slider }) => ({
      ...slider,
      ...unseen,
      font: { color: CLEAR },
      currentvalue: { ...currentvalue, font: { ...layout.font, ...currentvalue?.font } },
    })),
    updatemenus: updatemenus?.map((menu) => ({
      ...menu,
      ...unseen,
      ...(menu.type === "buttons" ? { font: { color: CLEAR } } : {}),
    })),
  };
}

/** xorshift, of Marsaglia (2003): names of clips and gradients need to be no more random. */
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
}

/** Runs Plotly's script with a window of its own: the process's globals stay as they are. */
function open(): Plotly {
  const { document } = parseHTML("<!doctype html><html><body></body></html>") as unknown as {
    readonly document: { createElement(name: string): unknown };
  };
  const create = document.createElement.bind(document);
  Object.assign(document, {
    createElement: (name: string) => name === "canvas" ? new Canvas() : create(name),
  });
  const rectangle = function (this: SvgElement) {
    const { left, top, right, bottom }: Box = boxOf(this, fonts) ??
      { left: 0, top: 0, right: 0, bottom: 0 };
    return { x: left, y: top, left, top, right, bottom, width: right - left, height: bottom - top };
  };
  Object.defineProperties(SVGElement.prototype, {
    // In HTML's documents linkedom has it in capitals.
    nodeName: {
      get(this: SvgElement) {
        return this.localName;
      },
    },
    getBBox: { value: rectangle },
    getBoundingClientRect: { value: rectangle },
  });
  const globals = {
    document,
    DOMParser,
    XMLSerializer: class {
      // Plotly masks quotes in names of fonts, since a browser puts others around them.
      serializeToString = (element: unknown) => String(element).replaceAll("TOBESTRIPPED", "'");
    },
    CSS: { supports: () => true },
    Math: Object.assign(Object.create(Math), { random }),
    URL,
    navigator: { userAgent: "Lamina" },
    getComputedStyle: ({ style }: SvgElement) => style,
    // What is asked for its class is asked for transforms of the page, of which there are none.
    Element: class {},
    HTMLElement: class {},
    addEventListener: () => {},
    removeEventListener: () => {},
  };
  const window = { ...globals };
  Object.defineProperty(document, "defaultView", { value: window });
  const names = { ...globals, window, self: window, process: undefined };
  const module: { exports?: Plotly } = {};
  new Function("module", ...Object.keys(names), plotly)(
    Object.assign(module, { exports: {} }),
    ...Object.values(names),
  );
  return module.exports!;
}
