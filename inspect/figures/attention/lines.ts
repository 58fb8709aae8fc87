/** Who attends to whom: the text twice, and lines between. */
import { Figure, type Scatter } from "../drawing/figure.ts";
import {
  FAINT,
  HIDDEN,
  INK,
  PALETTE,
  plotLayout,
  titled,
  TOKEN_FONT,
  words,
} from "../drawing/theme.ts";
import { html, tokenLabel } from "../drawing/tokens.ts";
import { named, textPixels } from "./cells.ts";
import { type Attention, attentionOf, type AttentionSource, headsOf } from "./source.ts";

/** What {@linkcode attentionLines} is asked for. */
export interface AttentionLinesOptions {
  /** The layer. */
  readonly layer: number;
  /** One head, or some; without it all. Negative ones count from the last. */
  readonly head?: number | readonly number[];
  /** One token's lines only: its position, a negative one counted from the prompt's end. */
  readonly query?: number;
  /** The smallest weight that has a line; default 0.1. */
  readonly threshold?: number;
  /** Without lines to the first token, where heads look that have nothing to look for. Default: with them. */
  readonly firstToken?: boolean;
  /** Of several sequences, which; the first without it. */
  readonly sequence?: number;
}

/** Weights from here on share a width. */
const BANDS = [
  { from: 0, width: 0.8, opacity: 0.35 },
  { from: 0.25, width: 1.6, opacity: 0.55 },
  { from: 0.5, width: 2.6, opacity: 0.75 },
  { from: 0.75, width: 3.8, opacity: 0.9 },
] as const;

/** Tokens that are shown at once; lines between more are no longer told apart. */
const MOST_TOKENS = 100;
const LINES_WIDTH = 280;
/** Heads whose lines are seen at first, where none is asked for: more cover each other. */
const SHOWN_HEADS = 3;

interface Line {
  readonly head: number;
  readonly query: number;
  readonly key: number;
  readonly weight: number;
}

/**
 * Lines from each token (left) to the tokens that it attends to (right): a colour for each head, thicker where the weight is
 * larger. A click in the legend shows or hides a head (at first the first three are seen), a double click leaves it alone; hovers
 * name lines and, over a token, what it attends to most. Lines below the threshold are left out; the legend says how much of a
 * head's attention the others are. Of a text with more than 100 tokens the last 100 are shown, as the note says; `query` chooses the part.
 *
 * @param source a run that captured `blk.*.attn_probs`, or a table of it
 * @throws {NotCapturedError} for a run without them
 * @throws {UnknownPointError} for a layer that the model does not have
 * @throws {RangeError} for a layer, head, query or sequence that is not there
 * @throws {TypeError} for a table of something else
 */
export function attentionLines(source: AttentionSource, options: AttentionLinesOptions): Figure {
  const { layer: number, threshold = 0.1, firstToken = true } = options;
  const attention = attentionOf(source, { ...options, kind: "attn_probs" });
  const { model, sequence, layers: [layer], token } = attention;
  const heads = headsOf(layer, options.head);
  const query = queryOf(attention, options.query);
  const length = attention.queries[attention.queries.length - 1] + 1;
  const end = query === undefined ? length : query + 1;
  const start = Math.max(0, end - MOST_TOKENS);
  const queries = attention.queries.filter((each) =>
    query === undefined ? each >= start && each < end : each === query
  );

  const lines: Line[] = [];
  const weights: Line[] = [];
  /** Of each head, how much of its attention its lines are. */
  const covered = heads.map((head) => {
    let [all, drawn] = [0, 0];
    for (const query of queries) {
      const row = layer.row(head, query);
      row?.values.forEach((weight, i) => {
        const key = row.first + i;
        if (Number.isFinite(weight)) all += weight;
        if (!(weight >= threshold) || key < start || (key === 0 && !firstToken)) return;
        drawn += weight;
        lines.push({ head, query, key, weight });
      });
      if (row) weights.push(...strongest(row, head, query));
    }
    return drawn / (all || 1);
  });
  const hidden = options.head === undefined ? heads.slice(SHOWN_HEADS) : [];

  const positions = Array.from({ length: end - start }, (_, i) => start + i);
  const row = Math.max(12, Math.min(20, Math.floor(900 / positions.length)));
  const size = Math.min(12, row - 2);
  const labels = positions.map((position) => tokenLabel(token(position), 18));
  const room = Math.max(40, ...labels.map((label) => textPixels(label, size))) + 14;
  const title = titled("who attends to whom", {
    model,
    sequence,
    layer: number,
    head: heads.length === 1 ? heads[0] : undefined,
    at: query === undefined ? undefined : `query ${query}`,
  }, [
    `lines from a weight of ${threshold} on; %: how much of a head's attention they are`,
    hidden.length === 0 ? undefined : "click a head to see it",
    firstToken ? undefined : "those to the first token are left out",
    start === 0
      ? undefined
      : `tokens ${start} to ${end - 1} of ${length}; query: n shows another part`,
  ]);
  const legend = 116;
  const width = Math.max(460, 2 * room + LINES_WIDTH + legend + 20);
  const plot = { width: width - legend - 20, height: positions.length * row };
  /** Pixels of the plot's width as places on its axis, where the tokens stand at 0 and 1. */
  const place = (pixels: number) => pixels / (plot.width - 2 * room);
  return new Figure(
    [
      ...heads.flatMap((head, i) =>
        headTraces(lines.filter((line) => line.head === head), head, {
          color: PALETTE[i % PALETTE.length],
          name: `H${head}  ${Math.round(100 * covered[i])} %`,
          visible: hidden.includes(head) ? "legendonly" : true,
          token,
        })
      ),
      ...(["query", "key"] as const).map((which) => {
        const all = which === "query" ? weights : lines;
        return tokenColumn(
          which,
          positions,
          labels,
          size,
          (position) =>
            tokenHover(which, position, token, all.filter((line) => line[which] === position)),
        );
      }),
    ],
    plotLayout(plot.height, {
      title,
      width,
      margin: { l: 10, r: legend + 10, t: 12, b: 16 },
      xaxis: { range: [-place(room), 1 + place(room)], ...HIDDEN },
      yaxis: { range: [end - 0.5, start - 0.5], ...HIDDEN },
      legend: { x: 1.01, y: 1, title: { text: "head" } },
      annotations: (["query", "key"] as const).map((text, x) =>
        words(text, [x, 1], ["x", "paper"], x === 0 ? "right bottom" : "left bottom", {
          xshift: x === 0 ? -6 : 6,
          font: { size: 12, color: FAINT },
        })
      ),
    }),
  );
}

/** The position of the query that is asked for. */
function queryOf({ queries, promptLength }: Attention, query?: number): number | undefined {
  if (query === undefined) return undefined;
  const last = queries[queries.length - 1];
  const position = query < 0 ? query + (promptLength ?? last + 1) : query;
  if (queries.includes(position)) return position;
  throw new RangeError(
    `Cannot show query ${query}: there are ${queries.length} from ${queries[0]} to ${last}`,
  );
}

const HOVERED = 3;

/** What a query attends to most, also below the threshold. */
function strongest(
  { first, values }: { readonly first: number; readonly values: Float32Array },
  head: number,
  query: number,
): Line[] {
  return Array.from(values, (weight, i) => ({ head, query, key: first + i, weight }))
    .sort((a, b) => b.weight - a.weight).slice(0, HOVERED);
}

/** Lines of one head, a series for each width, and points along them that the mouse finds. */
function headTraces(
  lines: readonly Line[],
  head: number,
  options: Pick<Scatter, "name" | "visible"> & {
    readonly color: string;
    readonly token: (position: number) => string;
  },
): Scatter[] {
  const { color, token, name, visible } = options;
  const group = { legendgroup: `${head}`, name, visible };
  const bands = BANDS.map(({ from, width, opacity }, i): Scatter => {
    const within = lines.filter(({ weight }) =>
      weight >= from && weight < (BANDS[i + 1]?.from ?? Infinity)
    );
    return {
      ...group,
      type: "scatter",
      mode: "lines",
      x: within.flatMap(() => [0, 1, null]),
      y: within.flatMap(({ query, key }) => [query, key, null]),
      line: { color, width },
      opacity,
      hoverinfo: "skip",
      showlegend: false,
    };
  });
  const along = [0.1, 0.3, 0.5, 0.7, 0.9];
  return [...bands, {
    ...group,
    type: "scatter",
    mode: "markers",
    x: lines.flatMap(() => along),
    y: lines.flatMap(({ query, key }) => along.map((t) => query + (key - query) * t)),
    marker: { color, size: 6, opacity: 0 },
    customdata: lines.flatMap(({ query, key, weight }) =>
      along.map(() => `head ${head}: ${linked(token, query, key)}: ${weight.toFixed(4)}`)
    ),
    hovertemplate: "%{customdata}<extra></extra>",
    showlegend: false,
  }, {
    // What the legend shows: a line as thick as can be seen there.
    ...group,
    type: "scatter",
    mode: "lines",
    x: [null],
    y: [null],
    line: { color, width: 4 },
    showlegend: true,
  }];
}

function linked(token: (position: number) => string, query: number, key: number): string {
  return `${named(token(query), query)} → ${named(token(key), key)}`;
}

function tokenColumn(
  which: "query" | "key",
  positions: readonly number[],
  labels: readonly string[],
  size: number,
  hover: (position: number) => string,
): Scatter {
  return {
    type: "scatter",
    mode: "text",
    x: positions.map(() => which === "query" ? 0 : 1),
    y: positions,
    text: labels.map((label) => which === "query" ? `${html(label)} ` : ` ${html(label)}`),
    textposition: which === "query" ? "middle left" : "middle right",
    textfont: { family: TOKEN_FONT, size, color: INK },
    customdata: positions.map(hover),
    hovertemplate: "%{customdata}<extra></extra>",
    showlegend: false,
  };
}

/** A token, and its lines: the strongest of each head. */
function tokenHover(
  which: "query" | "key",
  position: number,
  token: (position: number) => string,
  lines: readonly Line[],
): string {
  const other = which === "query" ? "key" : "query";
  const arrow = which === "query" ? "→" : "←";
  const heads = [...Map.groupBy(lines, ({ head }) => head)].map(([head, lines]) => {
    const parts = [...lines].sort((a, b) => b.weight - a.weight).slice(0, HOVERED)
      .map((line) => `${named(token(line[other]), line[other])} ${line.weight.toFixed(2)}`);
    return `H${head} ${arrow} ${parts.join(", ")}`;
  });
  return [`${which} ${named(token(position), position)}`, ...heads].join("<br>");
}
