/** One tensor twice, and what lies between. */
import { cellAxis, fitLabels, named, type TokenCells, tokenLabels } from "../attention/cells.ts";
import { type Annotation, Figure, type Heatmap, type Shape } from "../drawing/figure.ts";
import { packed } from "../drawing/numbers.ts";
import { chosenPlaces, type Pooling, pooling } from "../drawing/pool.ts";
import {
  centred,
  DIVERGING,
  fewTicks,
  INK,
  plotLayout,
  SEQUENTIAL,
  titled,
  words,
} from "../drawing/theme.ts";
import { html, tokenLabel } from "../drawing/tokens.ts";

/** An axis of a {@linkcode PairedTensors}. */
export interface PairedAxis {
  /** What it counts: `position`, `feature`, … */
  readonly axis: string;
  /** The places themselves. */
  readonly places: readonly number[];
  /** A name for each: tokens of positions. */
  readonly labels: readonly string[];
}

/** A matrix on two sides, as a `TensorPair` of `parity()` is: numbers are row-major. */
export interface PairedTensors {
  /** Whose it is. */
  readonly model?: string;
  /** Which tensor. */
  readonly point: string;
  /** Which head of it. */
  readonly head?: number;
  /** How they were compared. */
  readonly verdict?: string;
  /** Down. */
  readonly rows: PairedAxis;
  /** Across. */
  readonly columns: PairedAxis;
  /** Our numbers. */
  readonly ours: ArrayLike<number>;
  /** The other side's. */
  readonly reference: ArrayLike<number>;
  /** Ours less the other's. */
  readonly difference: ArrayLike<number>;
  /** Who the other side is. */
  readonly referenceName: string;
  /** The number that is farthest off for its tolerance. */
  readonly worst: {
    readonly row: number;
    readonly column: number;
    readonly ours: number;
    readonly reference: number;
    readonly error: number;
    readonly tolerance: number;
  };
}

/** Pixels of the maps together, and between them. */
const PLOT = { width: 780, height: 600 };
const GAP = 30;
/** Cells of a map; more are pooled. */
const MOST = { rows: 200, columns: 390 };
/** Numbers are outliers where the largest is so many times as large as all but the last part of them. */
const [OUTLIER, USUAL] = [3, 0.995];
const VERDICTS: Readonly<Record<string, string>> = {
  local: "one operation, from the reference’s own inputs",
  cumulative: "each side’s own run",
};

/**
 * A compared tensor: ours, the reference's on the same scale, and their difference on its own. The number that takes most of its
 * tolerance has a frame. Wide tensors stand one below the other, narrow ones side by side. Of more than 200 × 390 numbers
 * neighbours share a cell, which shows the one of largest magnitude, as the figure says; `full` shows all.
 *
 * @param pair `await report.worst()` or `await report.pair("blk.3.q")`
 */
export function tensorPairMap(
  pair: PairedTensors,
  options: { /** Every number, however many. */ readonly full?: boolean } = {},
): Figure {
  const { rows, columns, worst, referenceName, model, head } = pair;
  const most = options.full ? { rows: Infinity, columns: Infinity } : MOST;
  const down = pooling(rows.places.length, most.rows);
  const across = pooling(columns.places.length, most.columns);
  const isStacked = across.cells > 2 * down.cells;
  const panels = [
    { name: "ours", values: pair.ours },
    { name: html(referenceName), values: pair.reference },
    { name: "ours − " + html(referenceName), values: pair.difference },
  ];
  const room = isStacked
    ? { width: PLOT.width, height: (PLOT.height - 2 * GAP) / 3 }
    : { width: (PLOT.width - 2 * GAP) / 3, height: PLOT.height };
  const cell = {
    width: cellPixels(room.width / across.cells),
    // A map of one row or two is as high as its part of the colour bars.
    height: cellPixels(room.height / down.cells, Math.max(34, 70 / down.cells)),
  };
  // Cells that are squares where there is room for both sides.
  if (!isStacked) cell.width = cell.height = Math.min(cell.width, cell.height);
  const size = { width: cell.width * across.cells, height: cell.height * down.cells };
  /** Where a map begins, in cells. */
  const placeOf = (i: number) =>
    isStacked
      ? { x: 0, y: i * (size.height + GAP) / cell.height }
      : { x: i * (size.width + GAP) / cell.width, y: 0 };
  const plot = isStacked
    ? { width: size.width, height: 3 * size.height + 2 * GAP }
    : { width: 3 * size.width + 2 * GAP, height: size.height };

  const [rowCells, columnCells] = [cellsOf(rows, down), cellsOf(columns, across)];
  const rowFit = fitLabels(rowCells, cell.height);
  const numbers = columns.labels.every((label, i) => label === `${columns.places[i]}`);
  const columnFit = numbers
    ? { size: 10, every: 1, pixels: 13 }
    : fitLabels(columnCells, cell.width);
  const values = strongest([...finite(pair.ours), ...finite(pair.reference)]);
  const scales = [values, { ...centred(finite(pair.difference)), colorscale: DIVERGING }];
  const shared = Math.min(1, 200 / plot.height);
  const data = panels.map(({ name, values }, i): Heatmap => {
    const { x, y } = placeOf(i);
    const isDifference = i === 2;
    const { zmin, zmax, colorscale } = scales[isDifference ? 1 : 0];
    return {
      type: "heatmap",
      name,
      z: packed(pooled(values, down, across), [down.cells, across.cells]),
      x: Array.from({ length: across.cells }, (_, cell) => x + cell),
      y: Array.from({ length: down.cells }, (_, cell) => y + cell),
      ...{ zmin, zmax, colorscale },
      showscale: i !== 1,
      colorbar: {
        thickness: 11,
        title: { text: isDifference ? "difference" : "value", side: "top" },
        len: shared / 2,
        ...fewTicks({ zmin, zmax }),
        y: isDifference ? shared / 4 : 1 - shared / 4,
      },
      hoverongaps: false,
      hovertemplate: `${name}<br>${html(rows.axis)} %{y}, ${
        html(columns.axis)
      } %{x}: %{z:.7g}<extra></extra>`,
    };
  });

  const at = head === undefined ? pair.point : `${pair.point}, head ${head}`;
  const title = titled(`ours and ${html(referenceName)}’s`, { model, at }, [
    pair.verdict === undefined ? undefined : VERDICTS[pair.verdict],
    `framed: ${worst.ours.toPrecision(7)} and ${worst.reference.toPrecision(7)}, off by ${
      brief(worst.error)
    }, allowed ${brief(worst.tolerance)}`,
    values.zmax < values.most
      ? `the strongest colour stands for ${brief(values.zmax)} and more, up to ${
        brief(values.most)
      }`
      : undefined,
    down.size * across.size > 1
      ? `pooled: a cell is the number of largest magnitude of ${down.size} × ${across.size}; full: true shows each`
      : undefined,
  ]);
  const left = 46 + rowFit.pixels;
  const width = Math.max(560, left + plot.width + 110);
  const offsets = panels.map((_, i) => placeOf(i));
  const ends = { x: plot.width / cell.width, y: plot.height / cell.height };
  return new Figure(
    data,
    plotLayout(plot.height, {
      title,
      width,
      margin: { l: left, r: width - left - plot.width, t: 20, b: 40 + columnFit.pixels },
      xaxis: cellAxis(
        [-0.5, ends.x - 0.5],
        hoversAt(offsets.slice(0, isStacked ? 1 : 3).map(({ x }) => x), columnCells),
        { text: html(columns.axis), standoff: columnFit.pixels + 6 },
      ),
      yaxis: cellAxis(
        [ends.y - 0.5, -0.5],
        hoversAt(offsets.slice(0, isStacked ? 3 : 1).map(({ y }) => y), rowCells),
        { text: html(rows.axis), standoff: rowFit.pixels + 8 },
      ),
      annotations: [
        ...(isStacked ? offsets.slice(0, 1) : offsets)
          .flatMap(({ x }) =>
            numbers
              ? numberLabels(columns, across, cell.width, x)
              : tokenLabels("below", columnCells, columnFit, x)
          ),
        ...(isStacked ? offsets : offsets.slice(0, 1))
          .flatMap(({ y }) => tokenLabels("left", rowCells, rowFit, y)),
        ...panels.map(({ name }, i) => nameOf(name, offsets[i])),
      ],
      shapes: offsets.map(({ x, y }) =>
        frame(
          x + Math.floor(worst.column / across.size),
          y + Math.floor(worst.row / down.size),
          cell,
        )
      ),
    }),
  );
}

/**
 * A scale for both sides; numbers without a sign have one from light to dark. Where a few numbers are so large that all others would be white,
 * those few have the strongest colour.
 */
function strongest(values: readonly number[]) {
  const sizes = Float64Array.from(values, Math.abs).sort();
  const most = sizes.at(-1) || 1;
  const usual = sizes[Math.floor(USUAL * (sizes.length - 1))];
  const zmax = OUTLIER * usual < most && usual > 0 ? usual : most;
  return values.some((value) => value < 0)
    ? { zmin: -zmax, zmax, most, colorscale: DIVERGING }
    : { zmin: 0, zmax: most, most, colorscale: SEQUENTIAL };
}

/** Two digits: `0.5`, `4.8e-6`. */
function brief(size: number): string {
  if (size < 0.01 && size > 0) return size.toExponential(1);
  return `${Number(size.toPrecision(size < 100 ? 2 : 3))}`;
}

/** Names of the cells: tokens, or numbers of features. */
function cellsOf({ places, labels }: PairedAxis, { size, cells }: Pooling): TokenCells {
  const isToken = (i: number) => labels[i] !== `${places[i]}`;
  const hover = (i: number) => isToken(i) ? named(labels[i], places[i]) : `${places[i]}`;
  const firsts = Array.from({ length: cells }, (_, cell) => cell * size);
  return {
    labels: firsts.map((i) => tokenLabel(labels[i], 14)),
    hovers: firsts.map((i) => {
      const last = Math.min(i + size, places.length) - 1;
      return last === i ? hover(i) : `${hover(i)} … ${hover(last)}`;
    }),
  };
}

/** Round numbers below a map's columns, as far apart as they need. */
function numberLabels(
  { places }: PairedAxis,
  { size }: Pooling,
  cellWidth: number,
  offset: number,
): Annotation[] {
  const room = 36 * size / cellWidth;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((each) => each >= room) ?? 5000;
  const font = { size: 10, color: INK };
  return places.flatMap((place, i) => {
    if (place % step !== 0) return [];
    const x = offset + Math.floor(i / size);
    return words(`${place}`, [x, 0], ["x", "paper"], "center top", { font });
  });
}

function pooled(values: ArrayLike<number>, down: Pooling, across: Pooling) {
  const at = (row: number, column: number) => values[row * across.places + column];
  return Float32Array.from(
    chosenPlaces(at, down, across, "magnitude"),
    (place) => place < 0 ? NaN : values[place],
  );
}

function* finite(values: ArrayLike<number>) {
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) yield values[i];
}

/** Whole pixels where a cell has one or more, so that all are equal. */
function cellPixels(room: number, most = 34): number {
  return room >= 1 ? Math.floor(Math.min(most, room)) : room;
}

function hoversAt(offsets: readonly number[], { hovers }: TokenCells) {
  return offsets.flatMap((offset) => hovers.map((hover, i) => [offset + i, hover] as const));
}

function nameOf(text: string, { x, y }: { readonly x: number; readonly y: number }): Annotation {
  const own = { yshift: 2, font: { size: 12, color: INK } };
  return words(text, [x - 0.5, y - 0.5], ["x", "y"], "left bottom", own);
}

/** Around a cell, with some room: the cell itself stays seen however small it is. */
function frame(
  column: number,
  row: number,
  cell: { readonly width: number; readonly height: number },
): Shape {
  const [x, y] = [Math.max(0.5, 5 / cell.width), Math.max(0.5, 5 / cell.height)];
  return {
    ...{ type: "rect", x0: column - x, x1: column + x, y0: row - y, y1: row + y },
    line: { color: INK, width: 1.5 },
  };
}
