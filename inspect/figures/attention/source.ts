/** Attention as the figures read it, row by row, out of a run or a table. */
import { kindOf, layerOf } from "../../../base/layer_names.ts";
import { rowPositions } from "../../run/capture.ts";
import { visibleKeys } from "../../points/visible_keys.ts";
import { NotCapturedError, Run } from "../../run/run.ts";
import { type Table, tableColumns, tableVectors } from "../../tables/mod.ts";
import { metadataList } from "../../tables/meta.ts";
import type { PartialRow } from "../drawing/pool.ts";

/** Where attention comes from: a run that captured it, or a table of it (also one that was read from a file). */
export type AttentionSource = Run | Table;

/** Weights after the softmax, or scores before it. */
export type AttentionKind = "attn_probs" | "attn_scores";

/** Which rows of a source are shown. */
export interface AttentionRowsOptions {
  /** Of several sequences, which; the first without it. */
  readonly sequence?: number;
  /** Queries of one pass: 0 the prompt's, n that of the n-th generated token. All without it. */
  readonly step?: number;
  /** What is shown of a run that captured both; else what there is. */
  readonly kind?: AttentionKind;
}

/** The attention of one sequence. */
export interface Attention {
  readonly kind: AttentionKind;
  readonly model?: string;
  /** Which of several sequences; undefined where there is only one. */
  readonly sequence?: number;
  /** How many positions are the prompt; undefined where a table does not say. */
  readonly promptLength?: number;
  /** The layers that are there, ascending. */
  readonly layers: readonly LayerAttention[];
  /** Positions of the queries of all layers, ascending. */
  readonly queries: readonly number[];
  /** The token at a position. */
  readonly token: (position: number) => string;
}

/** The attention of one layer. */
export interface LayerAttention {
  readonly layer: number;
  /** The heads that are there, ascending. */
  readonly heads: readonly number[];
  /** Positions of its queries. */
  readonly queries: readonly number[];
  /** The visible keys of a head's query at a position, from the key at position `first` on; undefined where it is not there. */
  readonly row: (head: number, query: number) => PartialRow | undefined;
}

/**
 * Attention out of a run or a table.
 *
 * @param layer this one only
 * @throws {NotCapturedError} for a run without it
 * @throws {UnknownPointError} for a layer that the model does not have
 * @throws {TypeError} for a table of something else
 * @throws {RangeError} for a layer, a sequence or a step that a table does not have
 */
export function attentionOf(
  source: AttentionSource,
  options: AttentionRowsOptions & { readonly layer?: number } = {},
): Attention {
  const attention = source instanceof Run ? fromRun(source, options) : fromTable(source, options);
  const queries = new Set(attention.layers.flatMap(({ queries }) => queries));
  if (queries.size > 0) {
    return { ...attention, queries: [...queries].sort((a, b) => a - b) };
  }
  const where = options.step === undefined ? "" : ` of step ${options.step}`;
  throw new RangeError(`Cannot show attention${where}: no query of it is there`);
}

/**
 * The heads that are asked for, all without one; negative ones count from the last.
 *
 * @throws {RangeError} for one that is not there
 */
export function headsOf(
  { layer, heads }: LayerAttention,
  asked?: number | readonly number[],
): readonly number[] {
  if (asked === undefined) return heads;
  return [asked].flat().map((head) => {
    const found = head < 0 ? heads.at(head) : heads.find((each) => each === head);
    if (found !== undefined) return found;
    throw new RangeError(`Cannot show head ${head}: layer ${layer} has ${span("head", heads)}`);
  });
}

/** `8 heads, 0 to 7`, or which of them where some are missing. */
function span(what: string, numbers: readonly number[]): string {
  const [first, last] = [numbers[0], numbers[numbers.length - 1]];
  if (numbers.length === 1) return `${what} ${first} only`;
  const whole = last - first === numbers.length - 1;
  return whole
    ? `${numbers.length} ${what}s, ${first} to ${last}`
    : `${what}s ${numbers.join(", ")}`;
}

function fromRun(
  run: Run,
  options: AttentionRowsOptions & { readonly layer?: number },
): Omit<Attention, "queries"> {
  const { layer, step } = options;
  const sequence = run.sequenceIndex(options.sequence);
  const has = (kind: string) => run.captured.some((name) => name.endsWith(`.${kind}`));
  const kind = options.kind ??
    (has("attn_probs") || !has("attn_scores") ? "attn_probs" : "attn_scores");
  const named = (layer: number) => `blk.${layer}.${kind}`;
  if (layer !== undefined && !run.captured.includes(named(layer))) run.tensor(named(layer)); // which says why not
  const layers = run.captured.filter((name) => kindOf(name) === kind)
    .map((name) => layerOf(name)!)
    .filter((each) => layer === undefined || each === layer)
    .sort((a, b) => a - b);
  if (layers.length === 0) throw new NotCapturedError(`blk.*.${kind}`, run.captured);
  const tokens = run.tokens(sequence);
  return {
    kind,
    model: run.meta.model,
    sequence: run.sequences.length > 1 ? sequence : undefined,
    promptLength: run.sequences[sequence].promptLength,
    layers: layers.map((layer) => layerOfRun(run, named(layer), { layer, sequence, step })),
    token: (position) => tokens[position] ?? "?",
  };
}

function layerOfRun(
  run: Run,
  point: string,
  { layer, sequence, step }: { layer: number; sequence: number; step?: number },
): LayerAttention {
  const pieces = run.pieces(point, sequence)
    .filter((piece) => step === undefined || piece.step === step);
  const places = new Map(
    pieces.flatMap((piece) =>
      rowPositions(piece, piece.shape[1]).map((query, row) => [query, { piece, row }] as const)
    ),
  );
  return {
    layer,
    heads: Array.from({ length: pieces[0]?.shape[0] ?? 0 }, (_, head) => head),
    queries: [...places.keys()],
    row: (head, query) => {
      const place = places.get(query);
      if (!place) return undefined;
      const { piece: { data, shape: [, queries, keys] }, row } = place;
      const [first, end] = visibleKeys(query);
      const from = (head * queries + row) * keys;
      return { first, values: data.subarray(from + first, from + end) };
    },
  };
}

function fromTable(
  table: Table,
  options: AttentionRowsOptions & { readonly layer?: number },
): Omit<Attention, "queries"> {
  const { metadata } = table;
  const name = metadata.get("point") ?? metadata.get("table") ?? "other numbers";
  const kind = name.match(/^blk\.[*\d]+\.(attn_probs|attn_scores)$/)?.[1] as AttentionKind;
  if (kind === undefined || (options.kind ?? kind) !== kind) {
    throw new TypeError(
      `Cannot show attention: this is a table of ${name}; give one of blk.*.${
        options.kind ?? "attn_probs"
      }`,
    );
  }
  const columns = columnsOf(table, name);
  const sequences = [...new Set(columns.sequence)].sort((a, b) => a - b);
  const { sequence: asked = sequences[0], step, layer } = options;
  const sequence = asked < 0 ? sequences.at(asked) : asked;
  if (sequence === undefined || !sequences.includes(sequence)) {
    throw new RangeError(
      `Cannot show sequence ${asked}: the table has ${span("sequence", sequences)}`,
    );
  }
  const rows = [...columns.query.keys()].filter((row) =>
    columns.sequence[row] === sequence && (step === undefined || columns.step[row] === step)
  );
  const byLayer = Map.groupBy(rows, (row) => columns.layer[row]);
  const layers = [...byLayer.keys()].sort((a, b) => a - b);
  if (layer !== undefined && !layers.includes(layer) && layers.length > 0) {
    throw new RangeError(`Cannot show layer ${layer}: the table has ${span("layer", layers)}`);
  }
  const promptLength = metadataList(metadata, "prompt_lengths")?.[sequence];
  return {
    kind,
    model: metadata.get("model"),
    sequence: sequences.length > 1 ? sequence : undefined,
    promptLength: typeof promptLength === "number" ? promptLength : undefined,
    layers: layers.filter((each) => layer === undefined || each === layer)
      .map((layer) => layerOfTable(columns, layer, byLayer.get(layer)!)),
    token: tokensOf(columns, sequence, metadataList(metadata, "ids")?.[sequence]),
  };
}

type AttentionColumns = ReturnType<typeof columnsOf>;

function columnsOf(table: Table, name: string) {
  const { sequence, step, layer, head, query, key_start, token_id, token } = tableColumns(
    table.select(table.schema.names.filter((column) => column !== "value")) as Table,
  );
  if (!layer || !head || !query || !key_start) {
    throw new TypeError(
      `Cannot show attention: this table of ${name} lacks one of the columns layer, head, query, key_start`,
    );
  }
  const numbers = (column: unknown) => column as Int32Array;
  return {
    sequence: numbers(sequence ?? new Int32Array(table.numRows)),
    step: numbers(step ?? new Int32Array(table.numRows)),
    layer: numbers(layer),
    head: numbers(head),
    query: numbers(query),
    keyStart: numbers(key_start),
    tokenId: token_id as ArrayLike<number | null> | undefined,
    token: token as readonly (string | null)[] | undefined,
    value: tableVectors(table),
  };
}

function layerOfTable(
  { head, query, keyStart, value }: AttentionColumns,
  layer: number,
  rows: readonly number[],
): LayerAttention {
  const places = new Map<number, Map<number, number>>();
  for (const row of rows) {
    const ofHead = places.get(head[row]) ?? new Map();
    places.set(head[row], ofHead.set(query[row], row));
  }
  return {
    layer,
    heads: [...places.keys()].sort((a, b) => a - b),
    queries: [...new Set(rows.map((row) => query[row]))],
    row: (head, position) => {
      const row = places.get(head)?.get(position);
      return row === undefined ? undefined : { first: keyStart[row], values: value[row] };
    },
  };
}

/** Texts stand with the queries; a key that is no query is found by its id, or shown by it. */
function tokensOf(
  { sequence, query, token, tokenId }: AttentionColumns,
  index: number,
  ids: unknown,
): Attention["token"] {
  const byPosition = new Map<number, string>();
  const byId = new Map<number, string>();
  query.forEach((position, row) => {
    const [text, id] = [token?.[row], tokenId?.[row]];
    if (typeof text !== "string") return;
    if (typeof id === "number") byId.set(id, text);
    if (sequence[row] === index) byPosition.set(position, text);
  });
  return (position) => {
    const id = Array.isArray(ids) ? ids[position] : undefined;
    return byPosition.get(position) ?? byId.get(id) ?? (id === undefined ? "?" : `id ${id}`);
  };
}
