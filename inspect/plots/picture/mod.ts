/** A figure's static picture: figure → Vega spec → SVG → PNG. The same on every machine. */
import { initWasm, Resvg } from "@resvg/resvg-wasm";
import wasm from "@resvg/resvg-wasm/index_bg.wasm" with { type: "bytes" };
import { parse, View } from "vega";
import type { Spec as VegaSpec } from "vega";
import type { Figure } from "../figure.ts";
import { FONT_FILES } from "./fonts.ts";
import { indexed } from "./palette.ts";
import { indexedPng, rgbaPng } from "./png.ts";
import { figureSpec } from "./spec.ts";

/** A figure as an SVG text, `layout.width` by `layout.height`. */
export async function figureSvg(figure: Figure): Promise<string> {
  const view = new View(parse(figureSpec(figure) as VegaSpec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
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
    // What the WebAssembly holds is not collected.
    image.free();
    drawer.free();
  }
}
