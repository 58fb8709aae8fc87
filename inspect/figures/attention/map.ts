/** Attention maps: query × key, of one head, of all heads of a layer, of all layers with a slider. */
import { type Annotation, type Control, Figure, type Heatmap } from "../drawing/figure.ts";
import { packed } from "../drawing/numbers.ts";
import { maxPool, pooledBy, type Pooling, pooling } from "../drawing/pool.ts";
import { INK, plotLayout, slider, titled, words } from "../drawing/theme.ts";
import { notFiniteNote, pooledNote, scaleOf } from "./scale.ts";
import { cellAxis, fitLabels, tokenCells, tokenLabels } from "./cells.ts";
import {
  type Attention,
  attentionOf,
  type AttentionRowsOptions,
  type AttentionSource,
  headsOf,
  type LayerAttention,
} from "./source.ts";

/** What {@linkcode attentionMap} is asked for. */
export interface AttentionMapOptions extends AttentionRowsOptions {
  /** One layer; without it all that were captured, with a slider. */
  readonly layer?: number;
  /** One head, or some; without it all. Negative ones count from the last. */
  readonly head?: number | readonly number[];
  /** Every number, however many: a cell for each query and key. */
  readonly full?: boolean;
}

/** Cells of a whole figure: 5.6 MB of JSON, which browsers switch through without a pause. */
const MOST_CELLS = 2 ** 20;
/** Pixels of the plot's width that figures keep to. */
const WIDTH = 640;
const GRID_WIDTH = 860;
/** Between the maps of a grid. */
const GAP = 10;
const NAME_HEIGHT = 20;

/**
 * Attention as maps: rows are queries, columns the keys that they see; what a query does not see stays empty. Of one head with
 * `head`, else of all heads of the layer side by side on one scale; without `layer` a slider goes through all layers.
 *
 * Weights (`attn_probs`) lie between 0 and 1, scores (`attn_scores`) on a scale centred at zero. A hover names query, key and
 * value. Maps with more cells than the figure has room for (320 × 320, and 2²⁰ over all heads and layers) are pooled: a cell
 * shows the largest of its numbers, as the figure says; `full` shows all.
 *
 * @param source a run that captured `blk.*.attn_probs` (or `attn_scores`), or a table of them
 * @throws {NotCapturedError} for a run without them
 * @throws {UnknownPointError} for a layer that the model does not have
 * @throws {RangeError} for a layer, head, sequence or step that is not there
 * @throws {TypeError} for a table of something else
 */
export function attentionMap(source: AttentionSource, options: AttentionMapOptions = {}): Figure {
  const attention = attentionOf(source, options);
  const { kind, layers, queries, model, sequence } = attention;
  const heads = headsOf(layers[0], options.head);
  const single = heads.length === 1;
  const grid = gridOf(heads.length);
  const keys = queries[queries.length - 1] + 1;

  const gridRoom = Math.floor((GRID_WIDTH - (grid.columns - 1) * GAP) / grid.columns);
  const room = single ? WIDTH : Math.min(gridRoom, 300);
  const most = options.full ? keys : Math.min(
    single ? WIDTH / 2 : room, // cells of two pixels; in a grid of one
    Math.sqrt(MOST_CELLS / heads.length / layers.length),
  );
  const horizontal = pooling(keys, most);
  const vertical = pooledBy(queries.length, horizontal.size);
  const cellPixels = pixelsOf(horizontal.cells, room);
  const tile = { width: horizontal.cells * cellPixels, height: vertical.cells * cellPixels };
  const gap = {
    x: single ? 0 : Math.ceil(GAP / cellPixels),
    y: single ? 0 : Math.ceil(NAME_HEIGHT / cellPixels),
  };
  /** Where a head's map begins, in cells. */
  const placeOf = (i: number) => ({
    x: (i % grid.columns) * (horizontal.cells + gap.x),
    y: Math.floor(i / grid.columns) * (vertical.cells + gap.y),
  });

  const pooled = layers.map((layer) => poolHeads(attention, layer, heads, vertical, horizontal));
  const scale = scaleOf(kind, pooled.flatMap(({ maps }) => maps));
  const data = heads.map((head, i): Heatmap => {
    const { x, y } = placeOf(i);
    const where = single ? "" : `head ${head}<br>`;
    return {
      type: "heatmap",
      name: `head ${head}`,
      z: pooled[0].z[i],
      x: Array.from({ length: horizontal.cells }, (_, cell) => x + cell),
      y: Array.from({ length: vertical.cells }, (_, cell) => y + cell),
      ...scale,
      showscale: i === 0,
      hoverongaps: false,
      hovertemplate: `${where}query %{y} → key %{x}: ${
        horizontal.size > 1 ? "at most " : ""
      }%{z:.4f}<extra></extra>`,
    };
  });

  const rowCells = tokenCells(queries, attention.token, vertical);
  const columnCells = tokenCells(upTo(keys), attention.token, horizontal);
  const fit = fitLabels(columnCells, cellPixels);
  const rowFit = { ...fitLabels(rowCells, cellPixels), size: fit.size, every: fit.every };
  // Small maps side by side have no room for tokens; the hover names them.
  const labelled = single || fit.every === 1;
  const columnsOfGrid = upTo(grid.columns).map((column) => placeOf(column).x);
  const rowsOfGrid = upTo(grid.rows).map((row) => placeOf(row * grid.columns).y);
  const annotations: Annotation[] = [
    ...(labelled ? columnsOfGrid.flatMap((x) => tokenLabels("below", columnCells, fit, x)) : []),
    ...(labelled ? rowsOfGrid.flatMap((y) => tokenLabels("left", rowCells, rowFit, y)) : []),
    ...(single ? [] : heads.map((head, i) => nameOf(head, placeOf(i)))),
  ];

  const title = (layer: number) =>
    titled(kind === "attn_probs" ? "attention" : "attention scores", {
      model,
      sequence,
      layer,
      head: single ? heads[0] : undefined,
    }, [
      pooledNote(horizontal, kind),
      labelled && fit.every > 1 ? `every ${ordinal(fit.every)} cell is labelled` : undefined,
      notFiniteNote(pooled.reduce((sum, { notFinite }) => sum + notFinite, 0)),
    ]);
  const first = title(layers[0].layer);
  const size = {
    width: grid.columns * tile.width + (grid.columns - 1) * gap.x * cellPixels,
    height: grid.rows * tile.height + (grid.rows - 1) * gap.y * cellPixels,
  };
  const [rowPixels, columnPixels] = labelled ? [rowFit.pixels, fit.pixels] : [0, 0];
  const left = 38 + rowPixels;
  const width = Math.max(480, left + size.width + 90);
  const below = 34 + columnPixels;
  const bottom = below + (layers.length > 1 ? 84 : 6);
  return new Figure(
    data,
    plotLayout(Math.max(size.height, 24), {
      title: first,
      width,
      margin: { l: left, r: width - left - size.width, t: single ? 0 : NAME_HEIGHT, b: bottom },
      xaxis: cellAxis(
        [-0.5, size.width / cellPixels - 0.5],
        columnsOfGrid.flatMap((x) => columnCells.hovers.map((hover, i) => [x + i, hover] as const)),
        { text: "key", standoff: columnPixels + 8 },
      ),
      yaxis: cellAxis(
        [size.height / cellPixels - 0.5, -0.5],
        rowsOfGrid.flatMap((y) => rowCells.hovers.map((hover, i) => [y + i, hover] as const)),
        { text: "query", standoff: rowPixels + 8 },
      ),
      annotations,
      ...(layers.length > 1
        ? {
          sliders: [slider("layer ", {
            len: Math.max(size.width, 300),
            lenmode: "pixels",
            pad: { t: below + 6 },
            steps: layers.map(({ layer }, i): Control => ({
              label: `${layer}`,
              method: "update",
              args: [{ z: pooled[i].z }, { "title.text": title(layer).text }],
            })),
          })],
        }
        : {}),
    }),
  );
}

/** Columns and rows for so many maps: wider than high, with few places left over. */
function gridOf(count: number): { readonly columns: number; readonly rows: number } {
  const side = Math.ceil(Math.sqrt(count));
  const columns = upTo(Math.min(8, 2 * side) - side + 1).map((more) => side + more)
    .map((columns) => ({ columns, left: Math.ceil(count / columns) * columns - count }))
    .reduce((best, each) => each.left < best.left ? each : best, {
      columns: Math.min(8, side),
      left: Infinity,
    })
    .columns;
  return { columns, rows: Math.ceil(count / columns) };
}

/** Pixels of a cell: whole ones where a cell has one or more, so that all cells are equal. */
function pixelsOf(cells: number, room: number): number {
  if (cells <= room) return Math.min(36, Math.floor(room / cells));
  return Math.min(1, 1100 / cells);
}

function poolHeads(
  { queries }: Attention,
  layer: LayerAttention,
  heads: readonly number[],
  vertical: Pooling,
  horizontal: Pooling,
) {
  const pooled = heads.map((head) =>
    maxPool(queries.map((query) => layer.row(head, query)), vertical, horizontal)
  );
  return {
    maps: pooled.map(({ values }) => values),
    z: pooled.map(({ values }) => packed(values, [vertical.cells, horizontal.cells])),
    notFinite: pooled.reduce((sum, { notFinite }) => sum + notFinite, 0),
  };
}

function nameOf(head: number, { x, y }: { readonly x: number; readonly y: number }): Annotation {
  const font = { size: 11, color: INK };
  return words(`H${head}`, [x - 0.5, y - 0.5], ["x", "y"], "left bottom", { font });
}

function ordinal(n: number): string {
  return n === 2 ? "2nd" : n === 3 ? "3rd" : `${n}th`;
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
