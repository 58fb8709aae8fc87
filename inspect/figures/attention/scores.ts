/** One number for each head: what kind of head it is. */
import { attentionStatistics } from "../../analyses/attention.ts";
import { Run } from "../../run/run.ts";
import { type Table, tableColumns } from "../../tables/mod.ts";
import { type Annotation, Figure, type Heatmap, type Layout } from "../drawing/figure.ts";
import { shortMatrix } from "../drawing/numbers.ts";
import { axis, FAINT, INK, plotLayout, SEQUENTIAL, titled, words } from "../drawing/theme.ts";

/** What {@linkcode headScores} is asked for. */
export interface HeadScoresOptions {
  /** One column of the table (`entropy`, `induction`, …); all of them side by side without it. */
  readonly score?: string;
  /** Of several sequences, which; the first without it. */
  readonly sequence?: number;
  /** Of several steps, which; the first without it: the prompt. */
  readonly step?: number;
}

/** What the columns of the analyses mean. */
const SCORES: Readonly<Record<string, string>> = {
  induction: "induction score",
  previous_token: "attention to the previous token",
  first_token: "attention to the first token",
  self: "attention to itself",
  entropy: "entropy in nats",
};

const WIDTH = 1000;
/** Between panels: for a scale, and for an axis and the next name. */
const GAP = { x: 80, y: 74 };
const [SMALLEST, LARGEST] = [7, 40];
const TEXT_FROM = 30;

/**
 * Scores of attention heads, layers × heads: how much each attends to the previous token, the first one, itself, or to what
 * followed the same token before (induction), and the entropy of its attention.
 *
 * @param source a table of {@linkcode attentionStatistics} or {@linkcode inductionScores}, or a run that captured
 *   `blk.*.attn_probs`, whose statistics are drawn
 * @throws {NotCapturedError} for a run without them
 * @throws {TypeError} for a table without `layer`, `head` and scores
 * @throws {RangeError} for a score, sequence or step that is not there
 */
export function headScores(source: Run | Table, options: HeadScoresOptions = {}): Figure {
  const table = source instanceof Run ? attentionStatistics(source) : source;
  const columns = tableColumns(table);
  const there = Object.keys(SCORES).filter((name) => columns[name]);
  if (!columns.layer || !columns.head || there.length === 0) {
    throw new TypeError(
      `Cannot show scores of heads: the table has ${
        Object.keys(columns).join(", ")
      }; give one of attentionStatistics or inductionScores`,
    );
  }
  const { score } = options;
  if (score !== undefined && !there.includes(score)) {
    throw new RangeError(`Cannot show score ${score}: the table has ${there.join(", ")}`);
  }
  const scores = score === undefined ? there : [score];
  const rows = rowsOf(columns, options);
  const [layers, heads] = [columns.layer, columns.head].map((column) =>
    [...new Set(rows.map((row) => Number(column[row])))].sort((a, b) => a - b)
  );
  const room = scores.length === 1 ? 600 : scores.length === 2 ? 380 : 170;
  const cell = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(room / heads.length)));
  const panel = { width: heads.length * cell, height: layers.length * cell };
  const most = Math.max(1, Math.floor(WIDTH / (panel.width + GAP.x)));
  const down = Math.ceil(scores.length / most);
  const abreast = Math.ceil(scores.length / down);
  const plot = {
    width: abreast * (panel.width + GAP.x) - GAP.x,
    height: down * (panel.height + GAP.y) - GAP.y,
  };
  /** Numbers in the cells take the place of a scale. */
  const texts = cell >= TEXT_FROM;

  const data: Heatmap[] = [];
  const annotations: Annotation[] = [];
  const axes: Record<`xaxis${string}` | `yaxis${string}`, Layout["xaxis"]> = {};
  for (const [i, name] of scores.entries()) {
    const numbers = new Map(rows.map((row) => [
      `${columns.layer[row]}/${columns.head[row]}`,
      columns[name][row] as number | null,
    ]));
    const z = shortMatrix(
      layers.map((layer) => heads.map((head) => numbers.get(`${layer}/${head}`) ?? NaN)),
    );
    const suffix = i === 0 ? "" as const : `${i + 1}` as const;
    const left = (i % abreast) * (panel.width + GAP.x) / plot.width;
    const right = left + panel.width / plot.width;
    const above = 1 - Math.floor(i / abreast) * (panel.height + GAP.y) / plot.height;
    const below = above - panel.height / plot.height;
    const largest = name === "entropy" ? Math.max(...z.flat().map((value) => value ?? 0)) || 1 : 1;
    data.push({
      type: "heatmap",
      name: SCORES[name],
      z,
      x: heads,
      y: layers,
      ...(suffix === ""
        ? {}
        : { xaxis: `x${suffix as `${number}`}`, yaxis: `y${suffix as `${number}`}` }),
      colorscale: SEQUENTIAL,
      zmin: 0,
      zmax: largest,
      colorbar: {
        thickness: 10,
        x: right + 4 / plot.width,
        y: (above + below) / 2,
        len: above - below,
      },
      hoverongaps: false,
      ...(texts
        ? {
          text: z.map((row) => row.map((value) => value === null ? "" : value.toFixed(2))),
          texttemplate: "%{text}",
          textfont: { size: 10 },
          xgap: 1,
          ygap: 1,
        }
        : {}),
      hovertemplate: `layer %{y}, head %{x}<br>${SCORES[name]}: %{z:.4f}<extra></extra>`,
    });
    if (scores.length > 1) annotations.push(nameOf(SCORES[name], left, above));
    axes[`xaxis${suffix}`] = axis({
      domain: [left, right],
      anchor: `y${suffix}`,
      range: [heads[0] - 0.5, heads[heads.length - 1] + 0.5],
      ...ticks(heads, cell, 18),
      showgrid: false,
      title: { text: "head", standoff: 8, font: { size: 12, color: FAINT } },
    });
    axes[`yaxis${suffix}`] = axis({
      domain: [below, above],
      anchor: `x${suffix}`,
      range: [layers[layers.length - 1] + 0.5, layers[0] - 0.5],
      ...ticks(layers, cell, 14),
      showgrid: false,
      ...(i % abreast === 0
        ? { title: { text: "layer", standoff: 8, font: { size: 12, color: FAINT } } }
        : {}),
    });
  }

  const title = titled(
    scores.length === 1 ? `${SCORES[scores[0]]}, head by head` : "what heads attend to",
    { model: source instanceof Run ? source.meta.model : table.metadata.get("model") },
    [table.metadata.get("meaning")],
  );
  const margin = { l: 60, b: 54 };
  const width = Math.max(420, margin.l + plot.width + 90);
  return new Figure(
    data,
    plotLayout(plot.height, {
      title,
      width,
      margin: { ...margin, t: scores.length > 1 ? 18 : 0, r: width - margin.l - plot.width },
      annotations,
      ...axes,
    }),
  );
}

/** Rows of one sequence and step. */
function rowsOf(
  columns: ReturnType<typeof tableColumns>,
  options: HeadScoresOptions,
): number[] {
  let rows = Array.from({ length: columns.layer.length }, (_, row) => row);
  for (const name of ["sequence", "step"] as const) {
    const column = columns[name];
    if (!column) continue;
    const wanted = options[name] ?? column[rows[0]];
    rows = rows.filter((row) => column[row] === wanted);
    if (rows.length === 0) {
      throw new RangeError(`Cannot show scores of ${name} ${wanted}: the table has none`);
    }
  }
  return rows;
}

/** As many ticks as have room. */
function ticks(places: readonly number[], cell: number, room: number) {
  const every = Math.ceil(room / cell);
  const shown = places.filter((_, i) => i % every === 0);
  return { tickvals: shown, ticktext: shown.map(String), tickfont: { size: 10 } };
}

function nameOf(text: string, x: number, y: number): Annotation {
  const own = { yshift: 4, font: { size: 12, color: INK } };
  return words(text, [x, y], ["paper", "paper"], "left bottom", own);
}
