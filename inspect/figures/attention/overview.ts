/** All heads of all layers at once. */
import { Figure } from "../drawing/figure.ts";
import { packed } from "../drawing/numbers.ts";
import { maxPool, pooledBy, pooling } from "../drawing/pool.ts";
import { FAINT, plotLayout, titled, words } from "../drawing/theme.ts";
import { cellAxis, tokenCells } from "./cells.ts";
import { notFiniteNote, pooledNote, scaleOf } from "./scale.ts";
import { attentionOf, type AttentionRowsOptions, type AttentionSource } from "./source.ts";

/** Pixels that the maps of a layer share. */
const WIDTH = 840;
/** Pixels that all layers share, unless that makes them too small. */
const HEIGHT = 1400;
const [SMALLEST, LARGEST] = [22, 110];
const GAP = 3;
/** Cells of the whole figure. */
const MOST_CELLS = 2 ** 20;

/**
 * A small attention map for each head of each layer that was captured: layers are rows, heads columns. Finds heads worth a look
 * (diagonals beside the main one, columns, stripes) before {@linkcode attentionMap} shows them at full size. A cell shows the
 * largest weight of the queries and keys that share it, as the figure says.
 *
 * @param source a run that captured `blk.*.attn_probs` (or `attn_scores`), or a table of them
 * @throws {NotCapturedError} for a run without them
 * @throws {RangeError} for a sequence or step that is not there
 * @throws {TypeError} for a table of something else
 */
export function attentionOverview(
  source: AttentionSource,
  options: AttentionRowsOptions = {},
): Figure {
  const { kind, model, sequence, layers, queries, token } = attentionOf(source, options);
  const heads = [...new Set(layers.flatMap(({ heads }) => heads))].sort((a, b) => a - b);
  const keys = queries[queries.length - 1] + 1;
  const fitting = Math.floor(Math.min(WIDTH / heads.length, HEIGHT / layers.length)) - GAP;
  const room = Math.max(SMALLEST, Math.min(LARGEST, fitting));
  const horizontal = pooling(
    keys,
    Math.min(room, Math.sqrt(MOST_CELLS / layers.length / heads.length)),
  );
  const vertical = pooledBy(queries.length, horizontal.size);
  const cellPixels = Math.max(1, Math.floor(room / Math.max(horizontal.cells, vertical.cells)));
  const gap = Math.ceil(GAP / cellPixels);
  const [across, down] = [horizontal.cells + gap, vertical.cells + gap];
  const [columns, rows] = [heads.length * across - gap, layers.length * down - gap];

  const all = new Float32Array(rows * columns).fill(NaN);
  let missing = 0;
  for (const [i, layer] of layers.entries()) {
    for (const [j, head] of heads.entries()) {
      const partial = queries.map((query) => layer.row(head, query));
      const { values, notFinite } = maxPool(partial, vertical, horizontal);
      for (let row = 0; row < vertical.cells; row++) {
        const from = row * horizontal.cells;
        const into = (i * down + row) * columns + j * across;
        all.set(values.subarray(from, from + horizontal.cells), into);
      }
      missing += notFinite;
    }
  }

  const rowHovers = tokenCells(queries, token, vertical).hovers;
  const keyHovers = tokenCells(Array.from({ length: keys }, (_, i) => i), token, horizontal).hovers;
  const title = titled(
    kind === "attn_probs" ? "attention of all heads" : "attention scores of all heads",
    { model, sequence },
    [
      "rows are layers, columns heads",
      pooledNote(horizontal, kind, "attentionMap(…, { layer, head, full: true })"),
      notFiniteNote(missing),
    ],
  );
  const size = { width: columns * cellPixels, height: rows * cellPixels };
  const left = 46;
  const width = Math.max(480, left + size.width + 90);
  const font = { size: 10, color: FAINT };
  return new Figure(
    [{
      type: "heatmap",
      z: packed(all, [rows, columns]),
      ...scaleOf(kind, [all]),
      hoverongaps: false,
      hovertemplate: `%{y}<br>%{x}<br>${
        horizontal.size > 1 ? "at most " : ""
      }%{z:.4f}<extra></extra>`,
    }],
    plotLayout(size.height, {
      title,
      width,
      margin: { l: left, r: width - left - size.width, t: 16, b: 20 },
      xaxis: cellAxis(
        [-0.5, columns - 0.5],
        heads.flatMap((head, j) =>
          keyHovers.map((hover, i) => [j * across + i, `head ${head}, key ${hover}`] as const)
        ),
      ),
      yaxis: cellAxis(
        [rows - 0.5, -0.5],
        layers.flatMap(({ layer }, i) =>
          rowHovers.map((hover, row) => [i * down + row, `layer ${layer}, query ${hover}`] as const)
        ),
      ),
      annotations: [
        ...heads.map((head, j) => {
          const x = j * across + (horizontal.cells - 1) / 2;
          return words(`H${head}`, [x, 1], ["x", "paper"], "center bottom", { font });
        }),
        ...layers.map(({ layer }, i) => {
          const y = i * down + (vertical.cells - 1) / 2;
          return words(`L${layer}`, [0, y], ["paper", "y"], "right middle", { font, xshift: -6 });
        }),
      ],
    }),
  );
}
