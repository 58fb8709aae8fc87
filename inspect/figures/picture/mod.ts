/** A figure's static picture: Plotly draws it, as an SVG, and resvg makes pixels of that. The same on every machine. */
import { initWasm, Resvg } from "npm:@resvg/resvg-wasm@2.6.2";
import type { Figure } from "../drawing/figure.ts";
import { Fonts } from "./fonts.ts";
import { plotlySvg } from "./page.ts";
import { indexed } from "./palette.ts";
import { indexedPng } from "./png.ts";

/** A figure as an SVG text, `layout.width` by `layout.height`. */
export async function figureSvg(figure: Figure): Promise<string> {
  return (await drawn(figure)).svg;
}

/** Of hovers, which are not drawn. */
const UNSEEN = new Set(["customdata", "hovertemplate"]);
/** What XML has no way to say. */
// deno-lint-ignore no-control-regex
const UNSAID = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g;

async function drawn(figure: Figure): Promise<{ readonly svg: string; readonly fonts: Fonts }> {
  const json = JSON.stringify(figure, (key, value) => {
    if (UNSEEN.has(key)) return undefined;
    return typeof value === "string" ? value.replace(UNSAID, "") : value;
  });
  const fonts = await Fonts.of(json);
  return { svg: await plotlySvg(json, fonts), fonts };
}

const WASM = "npm:@resvg/resvg-wasm@2.6.2/index_bg.wasm";
let started: Promise<unknown> | undefined;

/**
 * A figure as a PNG.
 *
 * @param scale pixels per pixel of the layout
 */
export async function figurePng(figure: Figure, scale: number): Promise<Uint8Array<ArrayBuffer>> {
  const { svg, fonts } = await drawn(figure);
  await (started ??= initWasm(await fetch(import.meta.resolve(WASM))));
  const drawer = new Resvg(forResvg(svg), {
    background: "white",
    fitTo: { mode: "zoom", value: scale },
    font: {
      loadSystemFonts: false,
      fontBuffers: [...fonts.files],
      defaultFontFamily: "Inter",
      sansSerifFamily: "Inter",
      monospaceFamily: "DejaVu Sans Mono",
    },
  });
  const image = drawer.render();
  try {
    const few = indexed(image.pixels);
    return few ? indexedPng(few, image.width) : Uint8Array.from(image.asPng());
  } finally {
    // WebAssembly only ever takes more memory: what it holds goes back at once.
    image.free();
    drawer.free();
  }
}

/** What resvg knows under older names (spaces that stay, sharp cells), or not (references in quotes, empty values). */
function forResvg(svg: string): string {
  return svg.replaceAll("<text ", '<text xml:space="preserve" ')
    .replaceAll(/image-rendering: ?pixelated/g, "image-rendering:optimizeSpeed")
    .replaceAll("stroke-dasharray:;", "")
    .replaceAll(/url\((?:'|&quot;)(#[^'&)]+)(?:'|&quot;)\)/g, "url($1)");
}
