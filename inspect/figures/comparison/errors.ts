/** A comparison with a reference in pictures: which point of which layer is how far off. */
import { kindOf } from "../../../base/layer_names.ts";
import { STREAM_STARTS } from "../../points/stream.ts";
import type { Table } from "../../tables/mod.ts";
import { type Annotation, type Axis, Figure, type Scatter } from "../drawing/figure.ts";
import { logAxis } from "../drawing/log_axis.ts";
import { short } from "../drawing/numbers.ts";
import { allOf, type PlotRows, plotRows } from "../drawing/table_rows.ts";
import { axis, GRID, INK, PALETTE, plotLayout, titled } from "../drawing/theme.ts";
import { html } from "../drawing/tokens.ts";

const COLUMNS = [
  ...["case", "step", "layer", "point", "kind", "verdict", "rms", "error", "tolerance", "share"],
  ...["position", "index", "ours", "reference", "oracle_rms", "oracle_ratio", "passed"],
];

/** What {@linkcode parityErrors} is asked for. */
export interface ParityErrorsOptions {
  /** One layer, whose points are named along the axis; without it the whole model. */
  readonly layer?: number;
  /** One prompt: `prompt` or `long prompt`; without it the worst of all. */
  readonly case?: string;
  /** One pass: 0 for the prompt, n for that of the n-th generated token; without it the worst of all. */
  readonly step?: number;
}

const [BLUE, ORANGE] = PALETTE;
const GREY = "#9aa5b1";
/** Points that have room for their names. */
const MOST_NAMED = 48;
const WIDTH = 860;
const HEIGHT = { errors: 300, oracle: 150, gap: 34 };

/**
 * How much of its tolerance each point takes, in the order of the forward pass, layer by layer, on a logarithmic scale: the tolerance is the
 * line at 1, and what is above it failed. Each point is there by itself (what our kernels make of the reference's own
 * inputs), and as the sum of all before it. Where the 64-bit oracle ran, a second panel has the distance of both sides to it.
 *
 * @param table of `parity()`: `report.table()`
 * @throws {TypeError | RangeError} for another table, an empty one, and a layer, case or step that is not there
 */
export function parityErrors(table: Table, options: ParityErrorsOptions = {}): Figure {
  const rows = plotRows(table, "a comparison", COLUMNS, "parity(): report.table()");
  const own = chosen(rows, options);
  const places = placesOf(rows, own, options.layer);
  const share = (row: number) => {
    const value = rows.number("share", row);
    return Number.isNaN(value) ? Infinity : value;
  };
  const worst = [...Map.groupBy(own, (row) => `${rows.text("verdict", row)} ${pointOf(rows, row)}`)]
    .map(([, same]) => same.reduce((a, b) => share(b) > share(a) ? b : a));
  const failed = worst.filter((row) => !isPassed(rows, row))
    .sort((a, b) => places.of(a) - places.of(b));
  const closest = worst.reduce((a, b) => share(b) > share(a) ? b : a);
  const errors = logAxis(worst.map(share), [1]);
  const reference = rows.note("reference") ?? "the reference";
  const series = (name: string, of: readonly number[], more: Partial<Scatter>): Scatter[] =>
    of.length === 0 ? [] : [{
      type: "scatter",
      mode: "markers",
      name,
      x: of.map(places.of),
      y: of.map((row) => short(errors.place(share(row)))),
      customdata: of.map((row) => hover(rows, row, reference)),
      hovertemplate: "%{customdata}<extra></extra>",
      ...more,
    }];
  const of = (verdict: string, passed: boolean) =>
    worst.filter((row) => rows.text("verdict", row) === verdict && isPassed(rows, row) === passed);
  const oracle = oraclePanel(rows, own, places.of, reference);
  const data = [
    ...series("the run up to there (cumulative)", of("cumulative", true), {
      marker: { color: GREY, size: 5, symbol: "diamond" },
    }),
    ...series("outside of its tolerance", of("cumulative", false), {
      marker: { color: ORANGE, size: 7, symbol: "diamond" },
    }),
    ...series("one operation (local)", of("local", true), { marker: { color: BLUE, size: 6 } }),
    ...series("outside of its tolerance", of("local", false), {
      marker: { color: ORANGE, size: 8 },
      showlegend: of("cumulative", false).length === 0,
    }),
    ...(oracle?.data ?? []),
  ];
  const passes = new Set(own.map((row) => `${rows.text("case", row)} ${rows.text("step", row)}`));
  const title = titled(`error against ${html(reference)}`, {
    model: rows.note("model"),
    layer: options.layer,
  }, [
    failed.length === 0
      ? `all ${places.count} points are within their tolerances; ${
        html(pointOf(rows, closest))
      } takes most of it, ${Number((100 * share(closest)).toPrecision(2))} %`
      : `${
        new Set(failed.map(places.of)).size
      } of ${places.count} points are outside of their tolerances`,
    passes.size > 1
      ? `the worst of ${passes.size} passes (prompts and generated tokens)`
      : undefined,
  ]);
  // Five series take two lines of the legend.
  const above = oracle && failed.length > 0 ? 46 : 26;
  const plot = HEIGHT.errors + (oracle ? HEIGHT.gap + HEIGHT.oracle : 0);
  const split = oracle ? (HEIGHT.oracle + HEIGHT.gap) / plot : 0;
  return new Figure(
    data,
    plotLayout(plot, {
      title,
      width: WIDTH,
      margin: { l: 76, r: 30, t: above, b: places.named ? 130 : 54 },
      xaxis: axis({
        range: places.range,
        tickvals: places.ticks.map(([place]) => place),
        ticktext: places.ticks.map(([, text]) => text),
        showgrid: false,
        ...(places.named
          ? { tickangle: -90, tickfont: { size: 10 } }
          : { title: { text: "layer, and in it the points in the order of the pass" } }),
        anchor: oracle ? "y2" : "y",
      }),
      yaxis: axis({
        ...errors.axis,
        domain: [split, 1],
        title: { text: "error ÷ tolerance" },
        anchor: "x",
      }),
      ...(oracle
        ? {
          yaxis2: axis({
            ...oracle.axis,
            domain: [0, HEIGHT.oracle / plot],
            title: { text: "RMS to oracle" },
            anchor: "x",
          }),
        }
        : {}),
      shapes: [
        ...places.edges.map((x) => ({
          type: "line" as const,
          ...{ x0: x, x1: x, y0: 0, y1: 1, yref: "paper", layer: "below" as const },
          line: { color: GRID, width: 1 },
        })),
        {
          type: "line",
          ...{ x0: 0, x1: 1, xref: "paper", y0: 1, y1: 1, yref: "y" },
          line: { color: ORANGE, width: 1.5, dash: "dash" },
        },
      ],
      annotations: [
        note("tolerance", { x: 1, xref: "paper", y: 0, yref: "y", xanchor: "right" }, ORANGE),
        ...failed.slice(0, 1).map((row) =>
          firstNote(pointOf(rows, row), places.of(row), errors.place(share(row)), places)
        ),
      ],
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom" },
    }),
  );
}

/** Names the first point that failed. */
function firstNote(point: string, x: number, y: number, { range: [from, to] }: Places): Annotation {
  const left = (x - from) / (to - from) > 0.3;
  return note(`first: ${html(point)}`, {
    ...{ x, xref: "x", y: Math.log10(y), yref: "y", yanchor: "middle" },
    ...(left ? { xanchor: "right", xshift: -8 } : { xanchor: "left", xshift: 8 }),
  }, INK);
}

function isPassed(rows: PlotRows, row: number): boolean {
  return Boolean(rows.number("passed", row));
}

function note(text: string, at: Omit<Annotation, "text" | "showarrow">, color: string): Annotation {
  return { text, yanchor: "bottom", showarrow: false, font: { size: 11, color }, ...at };
}

/** Rows of the passes that are wanted. */
function chosen(rows: PlotRows, options: ParityErrorsOptions): number[] {
  let found = allOf(rows);
  for (const name of ["layer", "case", "step"] as const) {
    const wanted = options[name];
    if (wanted === undefined) continue;
    const there = [...new Set(found.map((row) => rows.text(name, row)).filter(Boolean))];
    found = found.filter((row) => rows.text(name, row) === `${wanted}`);
    if (found.length === 0) {
      throw new RangeError(`Cannot draw ${name} ${wanted}: the table has ${there.join(", ")}`);
    }
  }
  return found;
}

interface Places {
  /** Of a row, along the axis. */
  readonly of: (row: number) => number;
  /** Different points. */
  readonly count: number;
  readonly range: readonly [number, number];
  readonly ticks: readonly (readonly [place: number, text: string])[];
  /** Whether the ticks are points, not layers. */
  readonly named: boolean;
  /** Between the layers. */
  readonly edges: readonly number[];
}

/** A layer is one unit of the axis, in which its points stand one after the other. */
function placesOf(rows: PlotRows, own: readonly number[], layer?: number): Places {
  const kinds = { before: new Set<string>(), within: new Set<string>(), after: new Set<string>() };
  const layers = [
    ...new Set(own.filter((row) => rows.has("layer", row)).map((row) => rows.number("layer", row))),
  ].sort((a, b) => a - b);
  const bandOf = (row: number) =>
    rows.has("layer", row)
      ? "within"
      : STREAM_STARTS.includes(rows.text("kind", row))
      ? "before"
      : "after";
  for (const row of own) kinds[bandOf(row)].add(rows.text("kind", row));
  const order = {
    before: [...kinds.before],
    within: [...kinds.within],
    after: [...kinds.after],
  };
  // What stands outside of blocks is few, and takes as much room as in them.
  const unit = Math.max(1, order.within.length);
  const start = { before: -order.before.length / unit, within: 0, after: layers.length };
  const of = (row: number) => {
    const band = bandOf(row);
    const base = band === "within" ? layers.indexOf(rows.number("layer", row)) : start[band];
    return base + (order[band].indexOf(rows.text("kind", row)) + 0.5) / unit;
  };
  const ends = [start.before, layers.length + order.after.length / unit] as const;
  const points = [...new Map(own.map((row) => [of(row), pointOf(rows, row)]))];
  const named = points.length <= MOST_NAMED;
  const every = Math.ceil(layers.length / 32);
  return {
    of,
    count: points.length,
    range: [ends[0] - 0.3 / unit, ends[1] + 0.3 / unit],
    ticks: named
      ? points.map(([place, point]) =>
        [place, html(layer === undefined ? point : kindOf(point))] as const
      )
      : [
        ...layers.map((each, i) => [i + 0.5, `${each}`] as const).filter((_, i) => i % every === 0),
        ...(order.after.length > 0 && every === 1
          ? [[layers.length + order.after.length / unit / 2, "out"] as const]
          : []),
      ],
    named,
    edges: Array.from({ length: layers.length + 1 }, (_, i) => i),
  };
}

function pointOf(rows: PlotRows, row: number): string {
  return rows.text("point", row);
}

function hover(rows: PlotRows, row: number, reference: string): string {
  const number = (column: string, digits = 3) => rows.number(column, row).toPrecision(digits);
  const step = rows.number("step", row);
  const at = [
    rows.hasColumn("head") && rows.has("head", row) ? `head ${rows.text("head", row)}` : "",
    `position ${rows.text("position", row)}`,
    `index ${rows.text("index", row)}`,
  ].filter(Boolean).join(", ");
  return [
    `<b>${html(pointOf(rows, row))}</b>, ${rows.text("verdict", row)}: ${
      number("share")
    } of what is allowed`,
    `error ${number("error")}, tolerance ${number("tolerance")}`,
    `worst at ${at}: ours ${number("ours", 7)}, ${html(reference)} ${number("reference", 7)}`,
    `${html(rows.text("case", row))}, ${
      step === 0 ? "the prompt's pass" : `generated token ${step}`
    }`,
  ].join("<br>");
}

/** Our distance to the oracle, and the reference's; undefined where the oracle did not run. */
function oraclePanel(
  rows: PlotRows,
  own: readonly number[],
  placeOf: (row: number) => number,
  reference: string,
): { readonly data: Scatter[]; readonly axis: Pick<Axis, "type" | "range"> } | undefined {
  const known = own.filter((row) => rows.has("oracle_rms", row));
  if (known.length === 0) return undefined;
  const ours = (row: number) => rows.number("oracle_rms", row);
  const theirs = (row: number) => ours(row) / rows.number("oracle_ratio", row);
  const worst = [...Map.groupBy(known, (row) => pointOf(rows, row)).values()]
    .map((same) => same.reduce((a, b) => ours(b) > ours(a) ? b : a));
  const both = worst.filter((row) => rows.has("oracle_ratio", row));
  const { place, axis } = logAxis([...worst.map(ours), ...both.map(theirs)]);
  const series = (
    name: string,
    of: readonly number[],
    value: (row: number) => number,
    more: Scatter["marker"],
  ): Scatter => ({
    type: "scatter",
    mode: "markers",
    name,
    xaxis: "x",
    yaxis: "y2",
    x: of.map(placeOf),
    y: of.map((row) => short(place(value(row)))),
    customdata: of.map((row) => `<b>${html(pointOf(rows, row))}</b>: ${value(row).toPrecision(3)}`),
    marker: { size: 5, ...more },
    hovertemplate: `%{customdata}, ${name}<extra></extra>`,
  });
  return {
    data: [
      ...(both.length === 0 ? [] : [
        series(`${html(reference)} to the oracle`, both, theirs, {
          color: GREY,
          symbol: "square",
        }),
      ]),
      series("ours to the oracle", worst, ours, { color: BLUE, symbol: "square" }),
    ],
    axis,
  };
}
