/** What quantization costs the predictions, in pictures. */
import type { Table } from "../../tables/mod.ts";
import { type Annotation, type Axis, Figure, type Scatter } from "../drawing/figure.ts";
import { logAxis } from "../drawing/log_axis.ts";
import { short } from "../drawing/numbers.ts";
import { allOf, type PlotRows, plotRows } from "../drawing/table_rows.ts";
import { colourOf } from "../coloured_text.ts";
import {
  axis,
  FAINT,
  INK,
  PALETTE,
  plotLayout,
  SEQUENTIAL,
  titled,
  words,
} from "../drawing/theme.ts";
import { html } from "../drawing/tokens.ts";

const WIDTH = 760;

/**
 * What each type costs against its bits per weight: the Kullback–Leibler divergence of its predictions from the model's own (mean and largest), and
 * the perplexity of the text, in which chance has a part: a worse model can foretell one text better. Types that do not run are
 * named below the title.
 *
 * @param table of `quantizationLadder()`: `ladder.table()`
 * @throws {TypeError | RangeError} for another table, an empty one, and one of types that do not run
 */
export function quantizationDivergence(table: Table): Figure {
  const columns = ["type", "runs", "bits_per_weight", "kl", "kl_max", "perplexity", "note"];
  const rows = plotRows(table, "a quantization ladder", columns, "quantizationLadder()");
  const all = allOf(rows).filter((row) => rows.text("type", row) !== "base");
  const own = all.filter((row) => rows.has("kl", row));
  if (own.length === 0) {
    throw new RangeError("Cannot draw a quantization ladder: none of its types runs here");
  }
  const base = allOf(rows).find((row) => rows.text("type", row) === "base");
  const number = (column: string) => (row: number) => rows.number(column, row);
  const bits = number("bits_per_weight");
  const kl = logAxis(own.flatMap((row) => [number("kl")(row), number("kl_max")(row)]));
  const perplexities = [...own, ...base === undefined ? [] : [base]].map(number("perplexity"));
  const name = (row: number) => html(rows.text("type", row));
  const panel = { height: 230, gap: 26 };
  const plot = 2 * panel.height + panel.gap;
  const title = titled("what each type costs", { model: rows.note("model") }, [
    rows.note("tokens") === undefined
      ? undefined
      : `predictions over a text of ${rows.note("tokens")} tokens`,
    ...missing(rows, all),
  ]);
  const widest = own.map(bits).reduce((a, b) => Math.max(a, b));
  const [low, high] = [own.map(bits).reduce((a, b) => Math.min(a, b)), widest];
  const x = {
    type: "log" as const,
    range: [Math.log10(low / 1.12), Math.log10(high * 1.12)] as const,
  };
  const ticks = [1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32]
    .filter((tick) => tick >= low / 1.12 && tick <= high * 1.12);
  const [worst, best] = [Math.max(...perplexities), Math.min(...perplexities)];
  const pad = 0.12 * (worst - best || 1);
  const y = { range: [best - pad, worst + 2 * pad] as const };
  const [blue, orange] = PALETTE;
  const points = (name: string, yaxis: "y" | "y2", more: Partial<Scatter>): Scatter => ({
    ...{ type: "scatter", mode: "markers", name, xaxis: "x", yaxis },
    x: own.map((row) => short(bits(row))),
    y: [],
    customdata: own.map((row) =>
      [
        `<b>${html(rows.text("type", row))}</b>, ${bits(row).toPrecision(3)} bits per weight`,
        `divergence ${number("kl")(row).toPrecision(3)} nats, at most ${
          number("kl_max")(row).toPrecision(3)
        }`,
        `perplexity ${number("perplexity")(row).toPrecision(4)}`,
      ].join("<br>")
    ),
    hovertemplate: "%{customdata}<extra></extra>",
    ...more,
  });
  const pixel = (axis: { readonly range?: readonly [number, number] }, pixels: number) => {
    const [from, to] = axis.range!;
    return (value: number) => (value - from) / (to - from) * pixels;
  };
  const across = pixel(x, WIDTH - 76 - 30);
  const labels = (
    yaxis: "y" | "y2",
    place: (row: number) => number,
    scale: Pick<Axis, "range">,
  ) => {
    const up = pixel(scale, panel.height);
    return placeLabels(own.map((row) => ({
      text: name(row),
      at: [Math.log10(bits(row)), place(row)] as const,
      pixel: [across(Math.log10(bits(row))), up(place(row))] as const,
    }))).map((label): Annotation => ({ ...label, xref: "x", yref: yaxis }));
  };
  const means = (row: number) => kl.place(number("kl")(row));
  return new Figure(
    [
      points("largest divergence", "y", {
        y: own.map((row) => short(kl.place(number("kl_max")(row)))),
        marker: { color: "#b5d1e8", size: 7, symbol: "diamond" },
      }),
      points("mean divergence", "y", {
        y: own.map((row) => short(means(row))),
        marker: { color: blue, size: 9 },
      }),
      points("perplexity", "y2", {
        y: own.map((row) => short(number("perplexity")(row))),
        marker: { color: orange, size: 9 },
        showlegend: false,
      }),
    ],
    plotLayout(plot, {
      title,
      width: WIDTH,
      margin: { l: 76, r: 30, t: 26, b: 56 },
      xaxis: axis({
        ...x,
        tickvals: ticks,
        ticktext: ticks.map(String),
        title: { text: "bits per weight" },
        anchor: "y2",
      }),
      yaxis: axis({
        ...kl.axis,
        domain: [1 - panel.height / plot, 1],
        anchor: "x",
        title: { text: "divergence in nats" },
      }),
      yaxis2: axis({
        ...y,
        domain: [0, panel.height / plot],
        anchor: "x",
        title: { text: "perplexity" },
      }),
      shapes: base === undefined ? [] : [{
        type: "line",
        ...{ x0: 0, x1: 1, xref: "paper", yref: "y2", layer: "below" },
        ...{ y0: rows.number("perplexity", base), y1: rows.number("perplexity", base) },
        line: { color: FAINT, width: 1, dash: "dash" },
      }],
      annotations: [
        ...labels("y", (row) => Math.log10(means(row)), kl.axis),
        ...labels("y2", number("perplexity"), y),
        ...(base === undefined ? [] : [baseNote(rows.number("perplexity", base))]),
      ],
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom" },
    }),
  );
}

function baseNote(perplexity: number): Annotation {
  const font = { size: 11, color: FAINT };
  return words("the model as it is", [0, perplexity], ["paper", "y2"], "left bottom", { font });
}

interface Labelled {
  readonly text: string;
  /** On the axes. */
  readonly at: readonly [number, number];
  /** In the panel. */
  readonly pixel: readonly [number, number];
}

/** Names beside points: above, else below, right or left, where neither another name nor another point is. */
function placeLabels(points: readonly Labelled[]) {
  const sides = [
    { xanchor: "center", yanchor: "bottom", yshift: 6, dx: 0, dy: 14 },
    { xanchor: "center", yanchor: "top", yshift: -6, dx: 0, dy: -14 },
    { xanchor: "left", yanchor: "middle", xshift: 8, dx: 1, dy: 0 },
    { xanchor: "right", yanchor: "middle", xshift: -8, dx: -1, dy: 0 },
  ] as const;
  const taken = points.map(({ pixel: [x, y] }) => ({ x, y, width: 10, height: 10 }));
  return points.map(({ text, at, pixel }, i) => {
    const width = 6.6 * text.length;
    const boxes = sides.map(({ dx, dy }) => ({
      x: pixel[0] + dx * (width / 2 + 8),
      y: pixel[1] + dy,
      width,
      height: 14,
    }));
    const hits = boxes.map((box) =>
      taken.filter((other, j) =>
        j !== i && Math.abs(box.x - other.x) < (box.width + other.width) / 2 &&
        Math.abs(box.y - other.y) < (box.height + other.height) / 2
      ).length
    );
    const best = hits.indexOf(Math.min(...hits));
    taken.push(boxes[best]);
    const { dx: _, dy: __, ...side } = sides[best];
    const [x, y] = at;
    return { text, x, y, showarrow: false as const, font: { size: 11, color: INK }, ...side };
  });
}

/** Names the types that do not run. */
export function missing(rows: PlotRows, all: readonly number[]): string[] {
  return [
    ...new Set(all.filter((row) => rows.has("note", row)).map((row) => rows.text("note", row))),
  ]
    .map(html);
}

/** From light to dark: from the first to the last type. */
export function shade(i: number, count: number): string {
  return colourOf(SEQUENTIAL, count < 2 ? 0.7 : 0.3 + 0.7 * i / (count - 1));
}
