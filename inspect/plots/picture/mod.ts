/** A figure's static picture: figure → Vega spec → SVG → PNG. The same on every machine. */
import { crc32 } from "node:zlib";
import { initWasm, Resvg } from "npm:@resvg/resvg-wasm@2.6.2";
import wasm from "npm:@resvg/resvg-wasm@2.6.2/index_bg.wasm" with { type: "bytes" };
import { parse, View } from "npm:vega@6.4.0";
import type { Spec as VegaSpec } from "npm:vega@6.4.0";
import type { Figure } from "../figure.ts";
import { FONT_FILES } from "./fonts.ts";
import { indexed } from "./palette.ts";
import { indexedPng, rgbaPng } from "./png.ts";
import { figureSpec } from "./spec.ts";

/** A figure as an SVG text, `layout.width` by `layout.height`. */
export async function figureSvg(figure: Figure): Promise<string> {
  const view = new View(parse(figureSpec(figure) as VegaSpec), { renderer: "none" });
  try {
    return renamed(await view.toSVG());
  } finally {
    view.finalize();
  }
}

/**
 * Vega counts the clips and gradients of all pictures together. They get names that depend on the picture alone, and that no other
 * picture has, since several may stand in one page.
 */
function renamed(svg: string): string {
  const names = new Map<string, string>();
  const numbered = svg.replace(/(?<=\bid="|url\(#)(clip|gradient_)\d+/g, (name) => {
    if (!names.has(name)) names.set(name, `figure-${names.size}`);
    return names.get(name)!;
  });
  const own = crc32(numbered).toString(36);
  return numbered.replace(/(?<=\bid="|url\(#)figure-/g, `figure-${own}-`);
}

let started: Promise<unknown> | undefined;

/**
 * A figure as a PNG.
 *
 * @param scale pixels per pixel of the layout
 */
export async function figurePng(figure: Figure, scale: number): Promise<Uint8Array<ArrayBuffer>> {
  // resvg knows the older name for sharp cells, which Vega gives too, and takes the last one.
  const svg = (await figureSvg(figure)).replaceAll("image-rendering: pixelated;", "");
  await (started ??= initWasm(wasm));
  const drawer = new Resvg(svg, {
    fitTo: { mode: "zoom", value: scale },
    font: {
      loadSystemFonts: false,
      fontBuffers: [...FONT_FILES],
      defaultFontFamily: "Inter",
      sansSerifFamily: "Inter",
      monospaceFamily: "DejaVu Sans Mono",
    },
  });
  const image = drawer.render();
  try {
    const { pixels, width } = image;
    const few = indexed(pixels);
    return few ? indexedPng(few, width) : rgbaPng(pixels, width);
  } finally {
    // WebAssembly only ever takes more memory: what it holds goes back at once.
    image.free();
    drawer.free();
  }
}
