/** Attention while text is generated, token by token. */
import { type Control, Figure } from "../drawing/figure.ts";
import { packed } from "../drawing/numbers.ts";
import { maxPool, pooledBy, pooling } from "../drawing/pool.ts";
import { Run } from "../../run/run.ts";
import { plotLayout, slider, titled } from "../drawing/theme.ts";
import { tokenLabel } from "../drawing/tokens.ts";
import { cellAxis, fitLabels, named, tokenCells, tokenLabels } from "./cells.ts";
import { notFiniteNote, pooledNote, scaleOf } from "./scale.ts";
import { type AttentionKind, attentionOf, type AttentionSource, headsOf } from "./source.ts";

/** What {@linkcode generationAttention} is asked for. */
export interface GenerationAttentionOptions {
  /** The layer. */
  readonly layer: number;
  /** One head, or some; without it all. A menu chooses between several. Negative ones count from the last. */
  readonly head?: number | readonly number[];
  /** Of several sequences, which; the first without it. */
  readonly sequence?: number;
  /** What is shown of a run that captured both; else what there is. */
  readonly kind?: AttentionKind;
  /** Every number, however many. */
  readonly full?: boolean;
}

const WIDTH = 720;
/** Cells of all heads together. */
const MOST_CELLS = 2 ** 20;

/**
 * Where each new token looked: a row for the prompt's last token, whose pass chose the first generated one, and one for each
 * generated token that ran; columns are the tokens before it. A slider lets the text grow token by token, a menu chooses the
 * head.
 *
 * @param source a generation's run that captured `blk.*.attn_probs`, or a table of it
 * @throws {NotCapturedError} for a run without them
 * @throws {UnknownPointError} for a layer that the model does not have
 * @throws {RangeError} for a layer, head or sequence that is not there, and where nothing was generated
 * @throws {TypeError} for a table of something else
 */
export function generationAttention(
  source: AttentionSource,
  options: GenerationAttentionOptions,
): Figure {
  const { kind, model, sequence, promptLength = 1, layers: [layer], queries: all, token } =
    attentionOf(source, options);
  const heads = headsOf(layer, options.head);
  const queries = all.filter((query) => query >= promptLength - 1);
  const generated = source instanceof Run
    ? source.sequences[sequence ?? 0].ids.length > promptLength
    : queries.some((query) => query >= promptLength);
  if (!generated || queries.length === 0) {
    throw new RangeError(
      "Cannot show attention while generating: no generated token's was captured; take a generation's run",
    );
  }
  const keys = queries[queries.length - 1] + 1;
  const most = Math.min(WIDTH / 2, MOST_CELLS / heads.length / queries.length);
  const horizontal = pooling(keys, options.full ? keys : most);
  const vertical = pooledBy(queries.length, horizontal.size);
  const cellPixels = Math.max(
    Math.min(1, 1100 / horizontal.cells),
    Math.min(28, Math.floor(WIDTH / horizontal.cells)),
  );

  const pooled = heads.map((head) =>
    maxPool(queries.map((query) => layer.row(head, query)), vertical, horizontal)
  );
  const z = pooled.map(({ values }) => packed(values, [vertical.cells, horizontal.cells]));
  const rowCells = tokenCells(queries, token, vertical);
  const columnCells = tokenCells(Array.from({ length: keys }, (_, i) => i), token, horizontal);
  const fit = fitLabels(columnCells, cellPixels);
  const rowFit = { ...fitLabels(rowCells, cellPixels), size: fit.size, every: fit.every };
  const size = { width: horizontal.cells * cellPixels, height: vertical.cells * cellPixels };

  const title = (head: number) =>
    titled(
      kind === "attn_probs" ? "attention while generating" : "attention scores while generating",
      { model, sequence, layer: layer.layer, head },
      [
        "a row is the pass of a token, which chooses the next one",
        pooledNote(horizontal, kind),
        notFiniteNote(pooled.reduce((sum, { notFinite }) => sum + notFinite, 0)),
      ],
    );
  const left = 38 + rowFit.pixels;
  const width = Math.max(520, left + size.width + 90);
  const above = (heads.length > 1 ? 30 : 0) + fit.pixels + 26;
  /** What a row's pass has chosen: the token behind its last one. */
  const chosen = (cell: number) => {
    const query = queries[Math.min(queries.length, (cell + 1) * vertical.size) - 1];
    return { text: token(query + 1), position: query + 1 };
  };
  const hovers = rowCells.hovers.map((hover, cell) => {
    const { text, position } = chosen(cell);
    return `${hover}, choosing ${named(text, position)},`;
  });
  const rows = vertical.cells;
  return new Figure(
    [{
      type: "heatmap",
      z: z[0],
      ...scaleOf(kind, pooled.map(({ values }) => values)),
      hoverongaps: false,
      hovertemplate: `query %{y}<br>→ key %{x}: ${
        horizontal.size > 1 ? "at most " : ""
      }%{z:.4f}<extra></extra>`,
    }],
    plotLayout(size.height, {
      title: title(heads[0]),
      width,
      margin: { l: left, r: width - left - size.width, t: above, b: 96 },
      xaxis: {
        ...cellAxis(
          [-0.5, horizontal.cells - 0.5],
          columnCells.hovers.map((hover, i) => [i, hover] as const),
          { text: "key", standoff: fit.pixels + 8 },
        ),
        side: "top",
      },
      yaxis: cellAxis(
        [rows - 0.5, -0.5],
        hovers.map((hover, i) => [i, hover] as const),
        { text: "query", standoff: rowFit.pixels + 8 },
      ),
      annotations: [
        ...tokenLabels("above", columnCells, fit),
        ...tokenLabels("left", rowCells, rowFit),
      ],
      sliders: [slider("chosen: ", {
        active: rows - 1,
        len: Math.max(size.width, 300),
        lenmode: "pixels",
        pad: { t: 16 },
        // The rows keep their height: the axis grows with them.
        steps: rowCells.labels.map((_, cell): Control => ({
          label: tokenLabel(chosen(cell).text, 14),
          method: "relayout",
          args: [{
            "yaxis.range": [cell + 0.5, -0.5],
            "yaxis.domain": [1 - (cell + 1) / rows, 1],
          }],
        })),
      })],
      ...(heads.length > 1
        ? {
          updatemenus: [{
            type: "dropdown",
            direction: "down",
            active: 0,
            x: 0,
            xanchor: "left",
            y: 1 + (fit.pixels + 22) / size.height,
            yanchor: "bottom",
            buttons: heads.map((head, i): Control => ({
              label: `head ${head}`,
              method: "update",
              args: [{ z: [z[i]] }, { "title.text": title(head).text }],
            })),
          }],
        }
        : {}),
    }),
  );
}
