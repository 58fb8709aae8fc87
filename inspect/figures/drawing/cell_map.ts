/** Maps of labelled cells: layers × positions, layers × heads, and the like. */
import {
  cellAxis,
  fitLabels,
  textPixels,
  type TokenCells,
  tokenLabels,
} from "../attention/cells.ts";
import { type Colorscale, Figure, type Layout } from "./figure.ts";
import { short } from "./numbers.ts";
import { chosenPlaces, type Pooling, pooling } from "./pool.ts";
import { centred, DIVERGING, FAINT, INK, noted, plotLayout, SEQUENTIAL, words } from "./theme.ts";
import { html } from "./tokens.ts";

/** A side of a map. */
export interface Side {
  /** What is along it: `layer`. */
  readonly title: string;
  /** A name for each cell, as plain text. */
  readonly labels: readonly string[];
  /** For the hover; the labels without them. */
  readonly hovers?: readonly string[];
}

/** What a map shows. */
export interface CellMap {
  readonly title: NonNullable<Layout["title"]>;
  /** From the top down, unless `upwards`. */
  readonly rows: Side;
  readonly columns: Side;
  /** Numbers [rows][columns]; NaN is left empty. */
  readonly values: readonly ArrayLike<number>[];
  /** What the numbers are, above the colour bar and in the hover. */
  readonly legend: string;
  /** How they are written in the hover; as `.4g` without it. */
  readonly format?: string;
  /** Signed numbers have white at zero. */
  readonly signed?: boolean;
  /** Ends of the scale where they are known: probabilities lie between 0 and 1. */
  readonly range?: readonly [number, number];
  readonly colorscale?: Colorscale;
  /** The first row is at the bottom, as layers are drawn in papers. */
  readonly upwards?: boolean;
  /** Words in the cells, as plain text. */
  readonly words?: readonly (readonly string[])[];
  /** More for the hover, in Plotly's HTML. */
  readonly more?: readonly (readonly string[])[];
  /** Places to mark with a frame: [row, column]. */
  readonly marks?: readonly (readonly [number, number])[];
}

const [WIDEST, TALLEST] = [880, 620];
/** Room for the colour bar. */
const LOWEST = 100;

/** Cells of a side; more are pooled. */
const MOST = 300;
/** Pixels of a map with words; a wider one leaves them to the hover. */
const WIDEST_OF_WORDS = 4000;

/**
 * Draws it. Of a side of more than 300 places neighbours share a cell, which shows the largest of their numbers (of signed ones that of
 * largest magnitude) and its hover.
 */
export function cellMap(whole: CellMap): Figure {
  const [down, across] = [whole.rows, whole.columns].map(({ labels }) =>
    pooling(labels.length, MOST)
  );
  const isPooled = down.size * across.size > 1;
  const map = isPooled ? pooledMap(whole, down, across) : whole;
  const wordPixels = (map.words ?? []).flat()
    .reduce((most, word) => Math.max(most, textPixels(word, 10) + 10), 0);
  const words = wordPixels * across.cells <= WIDEST_OF_WORDS ? map.words : undefined;
  const title = noted(
    map.title,
    [
      isPooled
        ? `pooled: a cell is the ${
          whole.signed ? "number of largest magnitude" : "largest number"
        } of ${down.size} × ${across.size}`
        : undefined,
      whole.words && !words ? "words are in the hover" : undefined,
    ].filter(Boolean).join(" · "),
  );
  return drawn({ ...map, title, words }, words ? wordPixels : 0);
}

/** The same with fewer cells. Words have no room in them. */
function pooledMap(map: CellMap, down: Pooling, across: Pooling): CellMap {
  const chosen = chosenPlaces(
    (row, column) => map.values[row][column],
    down,
    across,
    map.signed ? "magnitude" : "largest",
  );
  const grid = <T>(of: readonly ArrayLike<T>[], nothing: T): T[][] =>
    Array.from(
      { length: down.cells },
      (_, row) =>
        Array.from({ length: across.cells }, (_, column) => {
          const place = chosen[row * across.cells + column];
          return place < 0 ? nothing : of[Math.floor(place / across.places)][place % across.places];
        }),
    );
  const cellOf = (place: number, { size }: Pooling) => Math.floor(place / size);
  return {
    ...map,
    rows: pooledSide(map.rows, down),
    columns: pooledSide(map.columns, across),
    values: grid(map.values, NaN),
    words: undefined,
    more: map.more && grid(map.more, ""),
    marks: map.marks?.map(([row, column]) => [cellOf(row, down), cellOf(column, across)]),
  };
}

function pooledSide({ title, labels, hovers = labels.map(html) }: Side, pooling: Pooling): Side {
  const firsts = Array.from({ length: pooling.cells }, (_, cell) => cell * pooling.size);
  return {
    title,
    labels: firsts.map((first) => labels[first]),
    hovers: firsts.map((first) => {
      const last = Math.min(first + pooling.size, pooling.places) - 1;
      return last === first ? hovers[first] : `${hovers[first]} … ${hovers[last]}`;
    }),
  };
}

function drawn(map: CellMap, wordPixels: number): Figure {
  const { rows, columns, values, words: inCells, more, signed, legend, format = ".4g" } = map;
  const [down, across] = [rows.labels.length, columns.labels.length];
  const cell = {
    width: clamp(WIDEST / across, wordPixels, 1, Math.max(wordPixels, flatPixels(columns))),
    height: clamp(TALLEST / down, inCells ? 19 : 0, 1, Math.max(inCells ? 24 : 26, LOWEST / down)),
  };
  const size = { width: cell.width * across, height: cell.height * down };
  const [rowCells, columnCells] = [rows, columns].map(({ labels, hovers }): TokenCells => ({
    labels,
    hovers: (hovers ?? labels).map((each) => hovers ? each : html(each)),
  }));
  const rowFit = fitLabels(rowCells, cell.height);
  const flat = columns.labels.every((label) => textPixels(label, 10) <= cell.width - 2);
  const columnFit = flat ? { size: 10, every: 1, pixels: 13 } : fitLabels(columnCells, cell.width);
  const numbers = values.flatMap((row) => Array.from(row));
  const finite = numbers.filter(Number.isFinite);
  const [zmin, zmax] = map.range ??
    (finite.length === 0 ? [0, 1] : signed ? Object.values(centred(finite)) : [
      finite.reduce((a, b) => Math.min(a, b), Infinity),
      finite.reduce((a, b) => Math.max(a, b), -Infinity),
    ]);
  const left = 44 + rowFit.pixels;
  const width = Math.max(
    460,
    left + size.width + 110,
    Math.min(WIDEST, map.title.text.replace(/<[^>]*>/g, "").length * 8.4 + 30),
  );
  const font = { size: 10, color: INK };
  const columnLabels = flat
    ? columns.labels.map((label, i) =>
      words(html(label), [i, 0], ["x", "paper"], "center top", { font })
    )
    : tokenLabels("below", columnCells, columnFit);
  return new Figure(
    [{
      type: "heatmap",
      z: values.map((row) => Array.from(row, short)),
      colorscale: map.colorscale ?? (signed ? DIVERGING : SEQUENTIAL),
      ...(zmax > zmin ? { zmin, zmax } : { zmin: zmin - 0.5, zmax: zmax + 0.5 }),
      colorbar: { thickness: 11, title: { text: html(legend), side: "top" } },
      hoverongaps: false,
      ...(inCells
        ? {
          text: inCells.map((row) => row.map(html)),
          texttemplate: "%{text}" as const,
          textfont: { size: 10 },
        }
        : {}),
      ...(more ? { customdata: more } : {}),
      ...(cell.width >= 8 && cell.height >= 8 ? { xgap: 1, ygap: 1 } : {}),
      hovertemplate: `${html(rows.title)} %{y}, ${html(columns.title)} %{x}<br>${
        html(legend)
      }: %{z:${format}}${more ? "<br>%{customdata}" : ""}<extra></extra>`,
    }],
    plotLayout(size.height, {
      title: map.title,
      width,
      margin: { l: left, r: width - left - size.width, b: 40 + columnFit.pixels },
      xaxis: cellAxis([-0.5, across - 0.5], pairs(columnCells.hovers), {
        text: html(columns.title),
        standoff: columnFit.pixels + 6,
      }),
      yaxis: cellAxis(
        map.upwards ? [-0.5, down - 0.5] : [down - 0.5, -0.5],
        pairs(rowCells.hovers),
        { text: html(rows.title), standoff: rowFit.pixels + 8 },
      ),
      annotations: [...columnLabels, ...tokenLabels("left", rowCells, rowFit)],
      shapes: (map.marks ?? []).map(([row, column]) => ({
        type: "rect",
        x0: column - 0.5,
        x1: column + 0.5,
        y0: row - 0.5,
        y1: row + 0.5,
        line: { color: FAINT, width: 2 },
      })),
    }),
  );
}

/** Cells of few columns are wide enough for their labels to lie flat. */
function flatPixels({ labels }: Side): number {
  const longest = labels.reduce((most, label) => Math.max(most, textPixels(label, 10)), 0) + 4;
  return longest <= 72 && longest * labels.length <= 640 ? Math.max(34, longest) : 34;
}

function pairs(hovers: readonly string[]): (readonly [number, string])[] {
  return hovers.map((hover, i) => [i, hover] as const);
}

/** Whole pixels where a cell has one or more, so that all are equal. */
function clamp(pixels: number, least: number, smallest: number, most: number): number {
  const wanted = Math.max(least, Math.min(most, pixels));
  return wanted >= smallest ? Math.floor(wanted) : wanted;
}
