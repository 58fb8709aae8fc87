/** Ours, a reference's and the exact numbers in one picture. */
import type { Table } from "../../tables/mod.ts";
import {
  type Annotation,
  Figure,
  type Heatmap,
  type Scatter,
  type Shape,
} from "../drawing/figure.ts";
import { short } from "../drawing/numbers.ts";
import { type PlotRows, plotRows } from "../drawing/table_rows.ts";
import { axis, FAINT, PALETTE, plotLayout, SEQUENTIAL, titled } from "../drawing/theme.ts";
import { html, tokenHtml } from "../drawing/tokens.ts";

const SQUARE = 460;
const LEFT = 84;
/** Numbers that are points of their own; more are counted in cells. */
const MOST_POINTS = 3000;
/** Cells along a side. An odd count: zero is in the middle of one. */
const CELLS = 115;

/** A number's errors against the oracle. */
interface Errors {
  readonly row: number;
  readonly ours: number;
  readonly reference: number;
}

/**
 * Who is farther from the truth: each number's error of ours (upwards) and of the reference (to the right) against the 64-bit oracle.
 * In the upper and lower quarter ours is farther, in the left and right one the reference; on the rising diagonal both are wrong
 * by the same. More than 3,000 numbers are counted in cells.
 *
 * @param table of `threeWay()`
 * @throws {TypeError | RangeError} for another table, an empty one, and one of points that the reference does not show
 */
export function threeWayScatter(table: Table): Figure {
  const columns = ["point", "position", "token", "index", "ours", "reference", "oracle"];
  const rows = plotRows(table, "three sides", columns, "threeWay()");
  const name = rows.note("reference") ?? "the reference";
  const reference = html(name);
  const errors = errorsOf(rows);
  const points = [...Map.groupBy(errors, ({ row }) => rows.text("point", row))];
  if (errors.length === 0) {
    throw new RangeError(
      `Cannot draw three sides: ${name} shows none of the table's points; take others`,
    );
  }
  const size = ({ ours, reference }: Errors) => Math.max(Math.abs(ours), Math.abs(reference));
  const edge = 1.06 * errors.reduce((most, each) => Math.max(most, size(each)), 0) || 1e-7;
  const many = errors.length > MOST_POINTS;
  const data = many
    ? [counted(errors, edge, reference)]
    : points.map(([point, own], i) => series(rows, html(point), own, i));
  const left = rows.length - errors.length;
  const title = titled("who is farther from the 64-bit oracle?", {
    model: rows.note("model"),
    at: points.length === 1 ? points[0][0] : `${points.length} points`,
  }, [
    verdict(errors, reference),
    many ? "darker: more numbers" : undefined,
    left > 0 ? `${thousands(left)} that ${reference} does not show are left out` : undefined,
  ]);
  const width = SQUARE + 270;
  const side = { range: [-edge, edge] as const, zeroline: true, ...ticks(edge) };
  return new Figure(
    data,
    plotLayout(SQUARE, {
      title,
      width,
      margin: { l: LEFT, r: width - LEFT - SQUARE, b: 58 },
      xaxis: axis({ ...side, title: { text: `error of ${reference}` } }),
      yaxis: axis({ ...side, title: { text: "error of ours" } }),
      shapes: [diagonal(edge, 1), diagonal(edge, -1)],
      annotations: [
        ...[1, -1].flatMap((end) => [
          word("ours is farther", { x: edge * 0.02, y: end * edge * 0.95, xanchor: "left" }),
          word(`${reference} is farther`, {
            x: end * edge * 0.97,
            xanchor: end > 0 ? "right" : "left",
            yanchor: "bottom",
          }),
        ]),
      ],
      showlegend: !many && points.length > 1,
      legend: { x: 1.02, y: 1 },
    }),
  );
}

/** Both sides' errors where both are there. */
function errorsOf(rows: PlotRows): Errors[] {
  return Array.from({ length: rows.length }, (_, row) => {
    const oracle = rows.number("oracle", row);
    const reference = rows.has("reference", row) ? rows.number("reference", row) - oracle : NaN;
    return { row, ours: rows.number("ours", row) - oracle, reference };
  }).filter(({ ours, reference }) => Number.isFinite(ours) && Number.isFinite(reference));
}

/** How often each is farther, and how far they are. */
function verdict(errors: readonly Errors[], reference: string): string {
  const share = (test: (each: Errors) => boolean) =>
    `${Math.round(100 * errors.filter(test).length / errors.length)} %`;
  const rms = (side: "ours" | "reference") =>
    Math.sqrt(errors.reduce((sum, each) => sum + each[side] ** 2, 0) / errors.length)
      .toPrecision(2);
  return `${thousands(errors.length)} numbers: ours is farther in ${
    share((each) => Math.abs(each.ours) > Math.abs(each.reference))
  }, ${reference} in ${
    share((each) => Math.abs(each.ours) < Math.abs(each.reference))
  } · RMS error of ours ${rms("ours")}, of ${reference} ${rms("reference")}`;
}

function series(rows: PlotRows, name: string, errors: readonly Errors[], i: number): Scatter {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: errors.map(({ reference }) => short(reference)),
    y: errors.map(({ ours }) => short(ours)),
    customdata: errors.map(({ row }) => {
      const head = rows.hasColumn("head") && rows.has("head", row)
        ? `, head ${rows.text("head", row)}`
        : "";
      const token = tokenHtml(rows.text("token", row));
      return `${name}${head}<br>"${token}" (${rows.text("position", row)}), index ${
        rows.text("index", row)
      }<br>exact ${rows.number("oracle", row).toPrecision(7)}`;
    }),
    marker: { color: PALETTE[i % PALETTE.length], size: 5, opacity: 0.55 },
    hovertemplate: "%{customdata}<br>ours off by %{y:.2e}, the other by %{x:.2e}<extra></extra>",
  };
}

/** Numbers per cell. */
function counted(errors: readonly Errors[], edge: number, reference: string): Heatmap {
  const cell = 2 * edge / CELLS;
  const at = (error: number) => Math.min(CELLS - 1, Math.floor((error + edge) / cell));
  const counts = Array.from({ length: CELLS }, () => new Float64Array(CELLS));
  for (const { ours, reference } of errors) counts[at(ours)][at(reference)]++;
  const most = Math.max(...counts.map((row) => Math.max(...row)));
  const centres = Array.from({ length: CELLS }, (_, i) => (i + 0.5) * cell - edge);
  const powers = Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, power) => power);
  return {
    type: "heatmap",
    x: centres,
    y: centres,
    z: counts.map((row) => Array.from(row, (count) => count > 0 ? short(Math.log10(count)) : null)),
    customdata: counts.map((row) => Array.from(row)),
    colorscale: SEQUENTIAL,
    // One number has a colour that is seen.
    zmin: -0.25 * Math.max(1, Math.log10(most)),
    zmax: Math.max(1, Math.log10(most)),
    colorbar: {
      thickness: 11,
      title: { text: "numbers", side: "top" },
      tickvals: powers,
      ticktext: powers.map((power) => thousands(10 ** power)),
    },
    hoverongaps: false,
    hovertemplate:
      `%{customdata} numbers<br>ours off by %{y:.2e}, ${reference} by %{x:.2e}<extra></extra>`,
  };
}

/** Both are equally far. */
function diagonal(edge: number, up: 1 | -1): Shape {
  return {
    type: "line",
    ...{ x0: -edge, x1: edge, y0: -edge * up, y1: edge * up },
    line: { color: FAINT, width: 1, dash: "dash" },
  };
}

/** Round numbers, five or so to a side. */
function ticks(edge: number) {
  const power = 10 ** Math.floor(Math.log10(edge));
  const step = [0.2, 0.5, 1, 2].map((part) => part * power).find((each) => edge / each < 4)!;
  const count = Math.floor(edge / step);
  const tickvals = Array.from({ length: 2 * count + 1 }, (_, i) => (i - count) * step);
  const ticktext = tickvals.map((value) =>
    value === 0 ? "0" : Number(value.toPrecision(2)).toExponential().replaceAll("-", "−")
  );
  return { tickvals, ticktext };
}

function word(text: string, at: Partial<Annotation>): Annotation {
  return {
    ...{ text, x: 0, y: 0, xref: "x", yref: "y", xanchor: "center", yanchor: "middle" },
    showarrow: false,
    font: { size: 11, color: FAINT },
    ...at,
  };
}

function thousands(count: number): string {
  return count.toLocaleString("en-US");
}
