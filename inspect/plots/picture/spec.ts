/** From a figure to a Vega spec: everything in pixels of the picture, as Plotly would place it. */
import type { Bar, Figure, Heatmap, Scatter } from "../figure.ts";
import { anchorage, axisWords, gridRows, lineRows } from "./axis_marks.ts";
import { boxOf } from "./axis.ts";
import type { Box, PlacedAxis } from "./axis.ts";
import { placeAxes } from "./axes.ts";
import { barMarks } from "./bars.ts";
import { colorbarMarks, colorbarPush, colorbarsOf } from "./colorbars.ts";
import { controlRows, sliderPushes } from "./controls.ts";
import { subplots } from "./extents.ts";
import { cellWords, heatmapMarks } from "./heatmaps.ts";
import { legendMarks, legendPush } from "./legend.ts";
import { plotArea } from "./margins.ts";
import type { Push } from "./margins.ts";
import { clipped, marks } from "./marks.ts";
import type { Mark, Row } from "./marks.ts";
import { annotationRows, shapeBox, shapeMarks, titleRows } from "./notes.ts";
import type { Frame } from "./notes.ts";
import { placeScatter, pointWords, scatterMarks } from "./scatters.ts";
import { isShown, seriesOf } from "./series.ts";
import type { Series } from "./series.ts";
import type { FullFont } from "./text.ts";

/** A spec for Vega's parser. */
export interface Spec {
  readonly $schema: string;
  readonly width: number;
  readonly height: number;
  readonly padding: 0;
  readonly autosize: "none";
  readonly background: string;
  readonly marks: Mark[];
}

/** A figure as a Vega spec. */
export function figureSpec(figure: Figure): Spec {
  const { layout } = figure;
  const { width, height } = layout;
  const font: FullFont = { size: 12, color: "#444", family: "Inter, sans-serif", ...layout.font };
  const area = areaOf(figure, font);
  const series = seriesOf(figure);
  const frame: Frame = { area, axes: placeAxes(series, layout, area, font), font };
  const plots = subplots(series).map((group) => subplot(group, figure, frame));
  const axes = axisLayer(series, frame, layout);
  const whole: Box = { x: 0, y: 0, width, height };
  const shapes = (layer: "above" | "below") =>
    (layout.shapes ?? []).filter((shape) => (shape.layer ?? "above") === layer)
      .map((shape) => clipped(shapeBox(shape, frame, whole), shapeMarks(shape, frame)));
  const beside = [
    ...colorbarsOf(figure).map((bar) => colorbarMarks(bar, area, font)),
    legendMarks(figure, area, font),
  ];
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width,
    height,
    padding: 0,
    autosize: "none",
    background: layout.paper_bgcolor ?? "#fff",
    marks: [
      ...marks("rect", plots.map(({ box }) => ({ ...box, fill: layout.plot_bgcolor ?? "#fff" }))),
      ...shapes("below"),
      ...marks("rule", plots.flatMap(({ grid }) => grid)),
      ...plots.map(({ box, inside }) => clipped(box, inside)),
      ...marks("rule", axes.lines),
      ...marks("text", [...plots.flatMap(({ words }) => words), ...axes.words]),
      ...shapes("above"),
      ...beside.flatMap((each) => each.marks),
      ...marks("text", [
        ...beside.flatMap(({ words }) => words),
        ...(layout.annotations ?? []).flatMap((note) => annotationRows(note, frame)),
        ...controlRows(layout, frame),
        ...titleRows(layout, frame),
      ]),
    ],
  };
}

/** The plot's area. Legends and colour bars are as long as it is, and push it away: their first sizes are those without. */
function areaOf(figure: Figure, font: FullFont): Box {
  const first = plotArea(figure.layout, []);
  const pushes: (Push | undefined)[] = [
    ...colorbarsOf(figure).map((bar) => colorbarPush(bar, first, font)),
    legendPush(figure, first, font),
    ...sliderPushes(figure.layout, font),
  ];
  return plotArea(figure.layout, pushes.filter((push) => push !== undefined));
}

/** The traces of two axes: heatmaps, bars on them, lines and points on top, as in Plotly. */
function subplot(group: readonly Series[], { layout }: Figure, { axes, font }: Frame): {
  readonly box: Box;
  readonly grid: Row[];
  readonly inside: Mark[];
  readonly words: Row[];
} {
  const x = axes.get(group[0].x.id)!;
  const y = axes.get(group[0].y.id)!;
  const shown = group.filter(({ trace }) => isShown(trace));
  const heatmaps = shown.flatMap(({ trace }) => trace.type === "heatmap" ? [trace] : []);
  const bars = barMarks(
    shown.filter((each): each is Series<Bar> => each.trace.type === "bar"),
    x,
    y,
    layout,
    font,
  );
  const scatters = shown.filter((each): each is Series<Scatter> => each.trace.type === "scatter")
    .map((each) => placeScatter(each, x, y));
  const box = boxOf(x, y);
  return {
    box,
    grid: [x, y].flatMap((axis) => gridRows(axis, box, heatmaps.length > 0)),
    inside: [
      ...heatmaps.flatMap((trace: Heatmap) => heatmapMarks(trace, x, y)),
      ...bars.marks,
      ...scatters.flatMap((each, i) => scatterMarks(each, scatters[i - 1])),
    ],
    words: [
      ...heatmaps.flatMap((trace) => cellWords(trace, x, y, font)),
      ...bars.words,
      ...scatters.flatMap((each) => pointWords(each, font)),
    ],
  };
}

/** Lines and words of all axes, each once. */
function axisLayer(
  series: readonly Series[],
  { axes, font }: Frame,
  layout: Figure["layout"],
): { readonly lines: Row[]; readonly words: Row[] } {
  const placed = [...axes.values()].map((axis) => {
    const crossing = crossingAxis(axis, series, axes);
    return { axis, where: anchorage(axis, crossing) };
  });
  return {
    lines: placed.flatMap(({ axis, where }) => lineRows(axis, where)),
    words: placed.flatMap(({ axis, where }) => axisWords(axis, where, layout, font)),
  };
}

/** The axis at which another is drawn: its anchor, or the first that it shares a plot with. */
function crossingAxis(
  { kind, letter }: PlacedAxis,
  series: readonly Series[],
  axes: ReadonlyMap<string, PlacedAxis>,
): PlacedAxis {
  const anchor = kind.layout.anchor === undefined ? undefined : axes.get(kind.layout.anchor);
  if (anchor) return anchor;
  const other = letter === "x" ? "y" : "x";
  const ids = series.filter((each) => each[letter].id === kind.id).map((each) => each[other].id);
  return axes.get(ids[0])!;
}
