/** Sliders and menus: in a picture nobody can choose, so it says what is chosen, in the place of the control. */
import type { Layout } from "../figure.ts";
import type { Push } from "./margins.ts";
import type { Row } from "./marks.ts";
import type { Frame } from "./notes.ts";
import { LINE_SPACING, textBlock, textRows } from "./text.ts";
import type { FullFont } from "./text.ts";

/** Height of a line's letters, in ems. */
const LETTERS = 1.21;
/** White above a slider, in pixels. */
const ABOVE = 20;
/** From a slider's words to its ticks. */
const RAIL = 10 + 25;

/** The room that the sliders have in the figure, so that the plot is as large in the picture. */
export function sliderPushes({ sliders = [], width }: Layout, font: FullFont): Push[] {
  return sliders.map(
    ({ x = 0, y = 0, len = 1, lenmode = "fraction", pad, currentvalue, ticklen = 7 }) => {
      const words = currentvalue?.visible === false ? 0 : currentvalue?.font?.size ?? font.size;
      const height = (pad?.t ?? ABOVE) + Math.ceil(LETTERS * words) + RAIL + ticklen +
        Math.ceil(LETTERS * font.size) + (pad?.b ?? 0);
      const pixels = lenmode === "pixels";
      return {
        left: { at: x, size: 0 },
        right: { at: pixels ? x : x + len, size: pixels ? Math.min(len, width / 2) : 0 },
        top: { at: y, size: 0 },
        bottom: { at: y, size: height },
      };
    },
  );
}

/** What is chosen. */
export function controlRows(layout: Layout, { area, font }: Frame): Row[] {
  const sliders = (layout.sliders ?? []).flatMap((slider) => {
    const { active = 0, currentvalue, steps, x = 0, y = 0, pad } = slider;
    if (currentvalue?.visible === false) return [];
    const own = { ...font, ...currentvalue?.font };
    const block = textBlock((currentvalue?.prefix ?? "") + (steps[active]?.label ?? ""), own);
    return textRows(block, {
      x: area.x + x * area.width + (pad?.l ?? 0),
      y: area.y + (1 - y) * area.height + (pad?.t ?? ABOVE) + LINE_SPACING * own.size,
      align: "left",
    });
  });
  // Buttons do something once; only a list has a chosen entry.
  const menus = (layout.updatemenus ?? []).flatMap((menu) => {
    const { type = "dropdown", active = 0, buttons, x = -0.05, y = 1, pad } = menu;
    if (type === "buttons") return [];
    const block = textBlock(buttons[active]?.label ?? "", font);
    const down = { top: 1, middle: 0.5, bottom: 0 }[menu.yanchor ?? "top"];
    return textRows(block, {
      x: area.x + x * area.width + (pad?.l ?? 0) - (pad?.r ?? 0),
      y: area.y + (1 - y) * area.height + (pad?.t ?? 0) - (pad?.b ?? 0) +
        (down * LETTERS - 0.24) * font.size,
      align: menu.xanchor ?? "right",
    });
  });
  return [...sliders, ...menus];
}
