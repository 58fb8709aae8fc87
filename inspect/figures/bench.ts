/** How fast a model runs, in pictures. */
import type { Table } from "../tables/mod.ts";
import { type Annotation, Figure, type Scatter } from "./drawing/figure.ts";
import { short } from "./drawing/numbers.ts";
import { allOf, plotRows } from "./drawing/table_rows.ts";
import { axis, FAINT, INK, PALETTE, plotLayout, titled, words } from "./drawing/theme.ts";
import { html } from "./drawing/tokens.ts";

const WIDTH = 820;
const ROW = 24;

/** What is drawn, in this order from the top. */
const GROUPS = [
  { section: "against others", colour: PALETTE[0], scale: 1, name: "speed over another engine’s" },
  {
    section: "against the device",
    colour: PALETTE[2],
    scale: 0.01,
    name: "part of the device’s limit",
  },
  { section: "against itself", colour: PALETTE[1], scale: 1, name: "time over the plain run’s" },
] as const;

/**
 * The ratios of a bench on a logarithmic axis: medians with the spread of the rounds, and a bar's place as a tick. Right of 1 Lamina is faster
 * than another engine, or a run takes longer than the plain one.
 *
 * @param table of `task bench`: `bench.arrow`
 * @throws {TypeError | RangeError} for another table, and one without ratios
 */
export function benchRatios(table: Table): Figure {
  const columns = ["section", "what", "engine", "median", "low", "high", "at_least", "at_most"];
  const rows = plotRows(table, "a bench", columns, "task bench");
  const groups = GROUPS.map((group) => ({
    ...group,
    rows: allOf(rows).filter((row) => rows.text("section", row) === group.section),
  })).filter(({ rows }) => rows.length > 0);
  const all = groups.flatMap((group) => group.rows.map((row) => ({ row, group })));
  if (all.length === 0) throw new RangeError("Cannot draw a bench: the table has no ratios");
  const label = (row: number) => {
    const engine = rows.text("engine", row);
    return html(engine ? `${rows.text("what", row)}, to ${engine}` : rows.text("what", row));
  };
  // Each group begins with a line for its heading.
  const lines = groups.reduce((sum, { rows }) => sum + rows.length + 1, 0);
  const place = new Map<number, number>();
  const headings: Annotation[] = [];
  let line = lines - 1;
  for (const { rows: own, name, colour } of groups) {
    const look = { xshift: -3, font: { size: 13, color: colour } };
    headings.push(words(name, [0, line--], ["paper", "y"], "right middle", look));
    for (const row of own) place.set(row, line--);
  }
  const values = all.flatMap(({ row, group: { scale } }) =>
    ["low", "high", "at_least", "at_most"].filter((column) => rows.has(column, row))
      .map((column) => scale * rows.number(column, row))
  ).filter((value) => value > 0);
  const [low, high] = [Math.min(0.5, ...values), Math.max(2, ...values)];
  const small = [0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
  const ticks = [...small, 1, 2, 5, 10, 20, 50, 100, 300, 1000, 3000]
    .filter((tick) => tick >= low / 1.2 && tick <= high * 1.2);

  const data = groups.flatMap(({ rows: own, colour, scale, name }): Scatter[] => {
    const at = (column: string) => (row: number) => short(scale * rows.number(column, row));
    const barOf = (row: number) => rows.has("at_least", row) ? "at_least" : "at_most";
    const barred = own.filter((row) => rows.has(barOf(row), row));
    const gap = (value: (row: number) => number | null, second = value) =>
      own.flatMap((row) => [value(row), second(row), null]);
    return [
      {
        ...{ type: "scatter", mode: "lines", showlegend: false, hoverinfo: "skip" },
        x: gap(at("low"), at("high")),
        y: gap((row) => place.get(row)!),
        line: { color: colour, width: 3 },
      },
      {
        ...{ type: "scatter", mode: "markers", name },
        x: own.map(at("median")),
        y: own.map((row) => place.get(row)!),
        marker: { color: colour, size: 9 },
        customdata: own.map((row) =>
          `<b>${label(row)}</b><br>${at("median")(row)} (${at("low")(row)} to ${at("high")(row)})`
        ),
        hovertemplate: "%{customdata}<extra></extra>",
      },
      {
        ...{ type: "scatter", mode: "markers", showlegend: false },
        x: barred.map((row) => at(barOf(row))(row)),
        y: barred.map((row) => place.get(row)!),
        marker: { color: INK, size: 9, symbol: "diamond", opacity: 0.35 },
        customdata: barred.map((row) =>
          `${barOf(row) === "at_least" ? "at least" : "at most"} ${at(barOf(row))(row)}`
        ),
        hovertemplate: "%{customdata}<extra></extra>",
      },
    ];
  });
  const title = titled("how fast, in ratios", { model: rows.note("model") }, [
    rows.note("device") === undefined ? undefined : html(rows.note("device")!),
    "medians and spread of alternating rounds; a grey diamond is what is to be kept",
  ]);
  const longest = Math.max(...all.map(({ row }) => label(row).length));
  const left = Math.min(400, 24 + 6.6 * longest);
  const medians = all.map(({ row, group: { scale, section } }) => {
    const text = written(scale * rows.number("median", row), section === "against the device");
    const own = { xshift: 8, font: { size: 12, color: INK } };
    return words(text, [1, place.get(row)!], ["paper", "y"], "left middle", own);
  });
  return new Figure(
    data,
    plotLayout(ROW * lines, {
      title,
      width: WIDTH,
      margin: { l: left, r: 70, b: 56 },
      xaxis: axis({
        type: "log",
        range: [Math.log10(low / 1.3), Math.log10(high * 1.3)],
        tickvals: ticks,
        ticktext: ticks.map(String),
        title: { text: "ratio" },
      }),
      yaxis: axis({
        range: [-0.6, lines - 0.4],
        tickvals: all.map(({ row }) => place.get(row)!),
        ticktext: all.map(({ row }) => label(row)),
        showgrid: false,
      }),
      shapes: [{
        type: "line",
        ...{ x0: 1, x1: 1, y0: 0, y1: 1, xref: "x", yref: "paper", layer: "below" },
        line: { color: FAINT, width: 1, dash: "dash" },
      }],
      annotations: [...headings, ...medians],
      showlegend: false,
    }),
  );
}

function written(value: number, share: boolean): string {
  if (share) return `${Math.round(100 * value)} %`;
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ×`;
}
