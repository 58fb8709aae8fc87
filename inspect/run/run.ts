/** A finished run: what was captured, as views and tables, and what the model would say next. */
import { logSumExp } from "../softmax.ts";
import { sizeOf } from "../../base/shape.ts";
import { type Piece, rowPositions, type SinkSource } from "./capture.ts";
import { asAsked, type Point, type ResolvedPoint } from "../points/points.ts";
import { overwriteUnseen } from "../points/visible_keys.ts";
import { checkTokenId } from "./prompt.ts";
import type * as Tables from "../tables/mod.ts";
import { TensorView } from "../tensor/tensor.ts";

/** One sequence of a run. */
export interface Sequence {
  /** Prompt and generated ids. */
  readonly ids: readonly number[];
  /** How many of the ids are the prompt. */
  readonly promptLength: number;
  /** Logits [V] after the last position that ran; a greedy generation has them only where it captured them. */
  readonly lastLogits?: Float32Array;
  /** −ln p of each token given those before it, in nats: NaN for the first, and where a generation's logits did not come back. */
  readonly surprisals: Float64Array;
}

/** A candidate for the next token. */
export interface Candidate {
  /** Its place in the vocabulary. */
  readonly id: number;
  /** The token as people read it. */
  readonly token: string;
  /** Of all tokens' softmax, at temperature 1. */
  readonly probability: number;
  /** As the output matrix gives it. */
  readonly logit: number;
}

/** What a run is made of. */
export interface RunParts {
  readonly sequences: readonly Sequence[];
  readonly pieces: readonly Piece[];
  /** All points of the model. */
  readonly points: readonly Point[];
  /** Resolves names, aliases and globs. */
  readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
  /** A token as people read it. */
  readonly token: (id: number) => string;
  /** The id of a text that is one token. */
  readonly tokenId: (text: string) => number;
  /** What makes tables, and what they say about the model. */
  readonly tables: typeof Tables;
  readonly model: Pick<
    Tables.TableMeta,
    "model" | "sha256" | "device" | "version" | "reference"
  >;
  /** The prompts, where texts were given. */
  readonly prompts?: readonly string[];
}

/** Which pass ran a position of a sequence: 0 for the prompt's, n for that of the n-th generated token. */
export function stepOf({ promptLength }: Pick<Sequence, "promptLength">, position: number): number {
  return Math.max(0, position - promptLength + 1);
}

/** Makes a run of what was captured; the prompts where texts were given. */
export type RunMaker = (
  parts: Pick<RunParts, "sequences" | "pieces">,
  prompts?: readonly string[],
) => Run;

/** What a sink may know of a run that is going on. Its sequences may still grow. */
export function sinkSource(run: Run): SinkSource {
  return {
    meta: () => run.meta,
    token: (sequence, position) => run.tokenAt(sequence, position),
  };
}

/** What was asked of a run and is not there. The message says what to do. */
export class NotCapturedError extends Error {
  /** The class's name. */
  override readonly name = "NotCapturedError";
  /**
   * Thrown by the views and tables of a {@linkcode Run}, and by analyses of one.
   *
   * @param point the name that was asked for
   * @param captured canonical names of what was captured
   */
  constructor(readonly point: string, captured: readonly string[]) {
    const list = captured.length === 0
      ? "nothing"
      : captured.slice(0, 6).join(", ") + (captured.length > 6 ? ", …" : "");
    super(
      `Cannot show ${point}: it was not captured; run again with capture: ["${point}"] (captured: ${list})`,
    );
  }
}

/** A pattern that fits several captured points where one is wanted. */
export class SeveralPointsError extends RangeError {
  /** The class's name. */
  override readonly name = "SeveralPointsError";
  /**
   * Thrown by {@linkcode Run.tensor} and {@linkcode Run.table}.
   *
   * @param pattern what was asked for
   * @param points captured points that it fits
   */
  constructor(readonly pattern: string, readonly points: readonly string[]) {
    const list = points.slice(0, 3).join(", ") + (points.length > 3 ? ", …" : "");
    super(
      `Cannot show ${pattern} as one: it fits ${points.length} captured points (${list}); name one of them, ` +
        `or stack layers with tables(${JSON.stringify(pattern)})`,
    );
  }
}

/** A finished run. */
export class Run {
  readonly #parts: RunParts;
  readonly #byPoint: ReadonlyMap<string, readonly Piece[]>;

  /** Use {@linkcode Model.run}. */
  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#byPoint = Map.groupBy(parts.pieces, ({ point }) => point);
  }

  /** The sequences, in the order of the prompts. */
  get sequences(): readonly Sequence[] {
    return this.#parts.sequences;
  }

  /** Ids of the first sequence. */
  get ids(): readonly number[] {
    return this.#parts.sequences[0].ids;
  }

  /** Tokens of a sequence, as people read them. */
  tokens(sequence = 0): string[] {
    return this.#sequence(sequence).ids.map((id) => this.#parts.token(id));
  }

  /** All points of the model, captured or not. */
  get points(): readonly Point[] {
    return this.#parts.points;
  }

  /** Canonical names of what was captured. */
  get captured(): string[] {
    return [...this.#byPoint.keys()];
  }

  /** The captured pieces of a point, in the order of the passes; of one sequence where that is named. */
  pieces(point: string, sequence?: number): readonly Piece[] {
    const pieces = this.#byPoint.get(point) ?? [];
    if (sequence === undefined) return pieces;
    const index = this.sequenceIndex(sequence);
    return pieces.filter((piece) => piece.sequence === index);
  }

  /**
   * The place of a sequence among all of them, from 0; negative ones count from the last, everywhere in a run.
   *
   * @throws {RangeError} for one that is not there
   */
  sequenceIndex(sequence = 0): number {
    const count = this.sequences.length;
    const index = sequence < 0 ? sequence + count : sequence;
    if (Number.isInteger(index) && index >= 0 && index < count) return index;
    throw new RangeError(`Cannot show sequence ${sequence}: the run has ${count}`);
  }

  /**
   * A captured tensor with named axes; without a copy where it came in one piece. Attention is dense: [head, query, key], with 0
   * (probs) or −∞ (scores) where a query does not see a key. Of the KV cache it is what the last captured pass left. Negative
   * places of the view count from its own end: in a generation that is the last token that ran.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {NotCapturedError} for a point that was not captured
   * @throws {SeveralPointsError} for a pattern that fits more than one
   */
  tensor(name: string, options: { sequence?: number } = {}): TensorView {
    const { sequence = 0 } = options;
    const resolved = this.#one(name);
    const { point } = resolved;
    const pieces = this.pieces(point.name, sequence);
    if (pieces.length === 0) throw new NotCapturedError(point.name, this.captured);
    const view = point.axes.includes("key")
      ? denseAttention(point, pieces)
      : joinRows(point, point.axes[0] === "slot" ? pieces.slice(-1) : pieces);
    const data = asAsked(resolved, view.toFloat32Array());
    return new TensorView(data, view.shape, view.axes, {
      name: resolved.name,
      labels: view.labels,
    });
  }

  /**
   * A captured point as an Arrow table: a row per vector, index columns first. Over the captured buffers without a copy, except
   * attention rows, which hold the visible keys only.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {NotCapturedError} for a point that was not captured
   * @throws {SeveralPointsError} for a pattern that fits more than one
   */
  table(name: string): Tables.Table {
    return this.#table([this.#one(name)]);
  }

  /**
   * Points of one kind in several layers, stacked in one table: `tables("blk.*.out")`. Layers are counted as the names that were
   * asked for count them: `blk.*.inp` has the embedding as layer 0.
   *
   * @throws {PieceError} for points whose shapes do not stack
   */
  tables(pattern: string): Tables.Table {
    return this.#table(this.#captured(pattern));
  }

  /** Ids, tokens and surprisals of all sequences, as an Arrow table. */
  tokenTable(): Tables.Table {
    const { rowsTable, int32, utf8, float64 } = this.#parts.tables;
    const rows = this.sequences.flatMap((sequence, index) =>
      sequence.ids.map((id, position) => ({
        sequence: index,
        step: stepOf(sequence, position),
        position,
        id,
        generated: position >= sequence.promptLength,
        surprisal: sequence.surprisals[position],
      }))
    );
    return rowsTable("tokens", {
      sequence: int32(rows.map(({ sequence }) => sequence)),
      step: int32(rows.map(({ step }) => step)),
      position: int32(rows.map(({ position }) => position)),
      token_id: int32(rows.map(({ id }) => id)),
      token: utf8(rows.map(({ id }) => this.#parts.token(id))),
      generated: int32(rows.map(({ generated }) => generated ? 1 : 0)),
      surprisal: float64(rows.map(({ surprisal }) => surprisal)),
    }, this.meta);
  }

  /** The likeliest next tokens after the last position that ran, as an Arrow table. */
  topTable(k = 10, options: { sequence?: number } = {}): Tables.Table {
    const { rowsTable, int32, utf8, float64 } = this.#parts.tables;
    const top = this.top(k, options);
    const index = this.sequenceIndex(options.sequence);
    const step = stepOf(this.sequences[index], lastPosition(this.sequences[index]));
    return rowsTable("top", {
      sequence: int32(top.map(() => index)),
      step: int32(top.map(() => step)),
      rank: int32(top.map((_, i) => i)),
      token_id: int32(top.map(({ id }) => id)),
      token: utf8(top.map(({ token }) => token)),
      probability: float64(top.map(({ probability }) => probability)),
      logit: float64(top.map(({ logit }) => logit)),
    }, this.meta);
  }

  /**
   * The likeliest next tokens after the last position that ran (a generation's last token never runs).
   *
   * @throws {NotCapturedError} for a generation whose logits were not captured there
   */
  top(k = 10, options: { sequence?: number } = {}): Candidate[] {
    if (!Number.isInteger(k) || k < 1) {
      throw new RangeError(`Cannot show the top ${k}: give an integer, 1 or more`);
    }
    const lastLogits = this.#lastLogits(options.sequence);
    const normalizer = logSumExp(lastLogits);
    return Array.from(lastLogits.keys())
      .sort((a, b) => lastLogits[b] - lastLogits[a] || a - b)
      .slice(0, k)
      .map((id) => ({
        id,
        token: this.#parts.token(id),
        logit: lastLogits[id],
        probability: Math.exp(lastLogits[id] - normalizer),
      }));
  }

  /**
   * Logit of `a` less that of `b` after the last position that ran; each a token's text or its id.
   *
   * @throws {TokenError} when a text is not exactly one token
   * @throws {RangeError} for an id outside the vocabulary
   * @throws {NotCapturedError} for a generation whose logits were not captured there
   */
  logitDiff(a: string | number, b: string | number, options: { sequence?: number } = {}): number {
    const lastLogits = this.#lastLogits(options.sequence);
    const [first, second] = [a, b].map((token) =>
      typeof token === "number"
        ? checkTokenId(token, lastLogits.length)
        : this.#parts.tokenId(token)
    );
    return lastLogits[first] - lastLogits[second];
  }

  /**
   * Mean surprisal of the tokens after the first, in nats, over all sequences: the language model's loss. Of a generation it is
   * over the tokens, generated ones included, whose logits were captured.
   *
   * @throws {RangeError} where there are none
   */
  loss(): number {
    const all = this.#parts.sequences.flatMap(({ surprisals }) =>
      Array.from(surprisals).filter((s) => !Number.isNaN(s))
    );
    if (all.length === 0) {
      throw new RangeError(
        'Cannot give a loss: no token has logits before it; give two tokens or more, a generation with capture: ["logits"]',
      );
    }
    return all.reduce((sum, surprisal) => sum + surprisal, 0) / all.length;
  }

  /** The one captured point that a name or a pattern means. */
  #one(name: string): ResolvedPoint {
    const captured = this.#captured(name);
    if (captured.length > 1) {
      throw new SeveralPointsError(name, captured.map(({ point }) => point.name));
    }
    return captured[0];
  }

  /** The captured points that a name or a pattern means: at least one. */
  #captured(name: string): ResolvedPoint[] {
    const resolved = this.#parts.resolve([name]);
    const captured = resolved.filter(({ point }) => this.#byPoint.has(point.name));
    if (captured.length > 0) return captured;
    throw new NotCapturedError(
      resolved.length === 1 ? resolved[0].point.name : name,
      this.captured,
    );
  }

  #table(resolved: readonly ResolvedPoint[]): Tables.Table {
    const { pointTable, stackedAs } = this.#parts.tables;
    const { points, alias } = stackedAs(resolved);
    const pieces = resolved.flatMap((each) =>
      this.pieces(each.point.name).map((piece) => {
        const data = asAsked(each, piece.data) as Piece["data"];
        return data === piece.data ? piece : { ...piece, data };
      })
    );
    const rowOrder = resolved[0].rowOrder === "half" ? "half" as const : undefined;
    const token: Tables.TokenOf = (sequence, position) => this.tokenAt(sequence, position);
    return pointTable(points, pieces, { ...this.meta, rowOrder, alias }, token);
  }

  /** A token of the vocabulary as people read it; its id where the file has no tokens. */
  tokenText(id: number): string {
    return this.#parts.token(id);
  }

  /** The token at a position; undefined where there is none yet. */
  tokenAt(sequence: number, position: number): { id: number; text: string } | undefined {
    const id = this.sequences[sequence].ids[position];
    return id === undefined ? undefined : { id, text: this.#parts.token(id) };
  }

  /** What its tables say about it in their metadata. */
  get meta(): Tables.TableMeta {
    return {
      ...this.#parts.model,
      prompts: this.#parts.prompts,
      ids: this.sequences.map(({ ids }) => ids),
      promptLengths: this.sequences.map(({ promptLength }) => promptLength),
    };
  }

  #lastLogits(sequence?: number): Float32Array {
    const found = this.#sequence(sequence);
    if (found.lastLogits) return found.lastLogits;
    if (!this.#byPoint.has("logits")) throw new NotCapturedError("logits", this.captured);
    throw new RangeError(
      `Cannot show logits after position ${lastPosition(found)}, the last that ran: ` +
        "positions or captureEvery left them out",
    );
  }

  #sequence(sequence?: number): Sequence {
    return this.sequences[this.sequenceIndex(sequence)];
  }
}

/** The last position of a sequence that ran: the last generated token never does. */
export function lastPosition(
  { ids, promptLength }: Pick<Sequence, "ids" | "promptLength">,
): number {
  return Math.max(promptLength - 1, ids.length - 2);
}

/** What the rows along an axis stand for, where they do not count from position 0 on. */
function rowLabels(axis: string, pieces: readonly Piece[]): { labels?: Record<string, number[]> } {
  const labels = pieces.flatMap((piece) =>
    rowPositions(piece, piece.shape[axis === "query" ? 1 : 0])
  );
  return labels.every((label, i) => label === i) ? {} : { labels: { [axis]: labels } };
}

/** Pieces one below the other, along the first axis. */
function joinRows({ name, axes }: Point, pieces: readonly Piece[]): TensorView {
  const options = { name, ...rowLabels(axes[0], pieces) };
  if (pieces.length === 1) return new TensorView(pieces[0].data, pieces[0].shape, axes, options);
  const rows = pieces.reduce((sum, { shape }) => sum + shape[0], 0);
  const shape = [rows, ...pieces[0].shape.slice(1)];
  const data = new Float32Array(sizeOf(shape));
  let at = 0;
  for (const piece of pieces) {
    data.set(piece.data, at);
    at += piece.data.length;
  }
  return new TensorView(data, shape, axes, options);
}

/** Attention of all passes in one [head, query, key], as wide as the last one. */
function denseAttention({ name, kind, axes }: Point, pieces: readonly Piece[]): TensorView {
  const options = { name, ...rowLabels("query", pieces) };
  if (pieces.length === 1) {
    return new TensorView(pieces[0].data, pieces[0].shape, axes, options);
  }
  const queries = pieces.reduce((sum, { shape }) => sum + shape[1], 0);
  const keys = Math.max(...pieces.map(({ shape }) => shape[2]));
  const [heads] = pieces[0].shape;
  const data = new Float32Array(heads * queries * keys);
  let first = 0;
  for (const { shape: [, rows, width], data: piece } of pieces) {
    for (let head = 0; head < heads; head++) {
      for (let row = 0; row < rows; row++) {
        const from = (head * rows + row) * width;
        data.set(piece.subarray(from, from + width), (head * queries + first + row) * keys);
      }
    }
    first += rows;
  }
  const shape = [heads, queries, keys];
  const positions = pieces.flatMap((piece) => rowPositions(piece, piece.shape[1]));
  overwriteUnseen(kind, { shape, data, start: 0, positions });
  return new TensorView(data, shape, axes, options);
}
