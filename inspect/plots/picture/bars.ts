/** Bars and the words on them. */
import type { Bar, Layout } from "../figure.ts";
import type { PlacedAxis } from "./axis.ts";
import { placeBars } from "./bar_places.ts";
import { inkOn, parseColor } from "./colors.ts";
import { marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import type { Series } from "./series.ts";
import { MID, textBlock, textRows } from "./text.ts";
import type { FullFont } from "./text.ts";

/** Marks and words of the bar traces that share two axes. */
export function barMarks(
  series: readonly Series<Bar>[],
  x: PlacedAxis,
  y: PlacedAxis,
  layout: Layout,
  font: FullFont,
): { readonly marks: Mark[]; readonly words: Row[] } {
  const drawn = placeBars(series, layout).map((places, s) => {
    const { trace, color } = series[s];
    const lying = trace.orientation === "h";
    const [along, across] = lying ? [y, x] : [x, y];
    return places.flatMap(({ index, from, to, base, top }) => {
      const sides = [along.pixel(from), along.pixel(to)].sort((a, b) => a - b);
      // The ends, as far as the axis goes.
      const [foot, head] = [base, top].map((end) =>
        Math.min(Math.max(across.pixel(end), across.start), across.end)
      );
      if (![...sides, foot, head].every(Number.isFinite)) return [];
      const own = trace.marker?.color;
      const fill = (typeof own === "string" ? own : own?.[index]) ?? color;
      const [low, high] = [Math.min(foot, head), Math.max(foot, head)];
      const box = lying
        ? { x: low, y: sides[0], width: high - low, height: sides[1] - sides[0] }
        : { x: sides[0], y: low, width: sides[1] - sides[0], height: high - low };
      const row: Row = {
        ...box,
        fill,
        stroke: trace.marker?.line?.color ?? "#444",
        strokeWidth: trace.marker?.line?.width ?? 0,
        opacity: trace.opacity ?? 1,
      };
      return [{ row, words: barWords({ trace, index, fill, lying, foot, head, box, font }) }];
    });
  });
  return {
    marks: drawn.flatMap((bars) => marks("rect", bars.map(({ row }) => row))),
    words: drawn.flat().flatMap(({ words }) => words),
  };
}

const PAD = 3;

/** A bar's words: inside its end, or beyond it. */
function barWords({ trace, index, fill, lying, foot, head, box, font }: {
  trace: Bar;
  index: number;
  fill: string;
  lying: boolean;
  foot: number;
  head: number;
  box: { x: number; y: number; width: number; height: number };
  font: FullFont;
}): Row[] {
  const text = trace.text?.[index];
  const position = trace.textposition ?? "auto";
  if (!text || position === "none") return [];
  const full = { ...font, ...trace.textfont };
  const measured = textBlock(text, full);
  const fits = measured.width + 2 * PAD <= box.width && measured.height + 2 * PAD <= box.height + 4;
  const inside = position === "inside" || (position === "auto" && fits);
  const color = inside && !trace.textfont?.color ? inkOn(parseColor(fill)) : full.color;
  const block = textBlock(text, { ...full, color });
  const middle = MID * full.size - (measured.lines.length - 1) * 0.65 * full.size;
  if (lying) {
    const forwards = head >= foot;
    return textRows(block, {
      x: head + (forwards === inside ? -PAD : PAD),
      y: box.y + box.height / 2 + middle,
      align: forwards === inside ? "right" : "left",
    });
  }
  const upwards = head <= foot;
  return textRows(block, {
    x: box.x + box.width / 2,
    y: upwards === inside
      ? head + PAD + full.size
      : head - PAD - 0.2 * full.size - (measured.height - 1.3 * full.size),
    align: "center",
  });
}
