/**
 * The logit lens: what the model would say next if it ended after each layer (nostalgebraist, "interpreting GPT: the logit
 * lens", 2020). Residual streams go through the model's own final norm and output matrix.
 */
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import { checkPositions, type Positions, positionsIn } from "../run/positions.ts";
import type { Run } from "../run/run.ts";
import { logSumExp } from "../softmax.ts";
import { pieceOf } from "../run/vocabulary.ts";
import { longWork } from "../work.ts";
import { largest } from "./numbers.ts";
import {
  analysisTable,
  asRun,
  type CapturedPoint,
  capturedPoints,
  capturedRows,
  extentsOf,
  placesOf,
  type Row,
  SEQUENCE,
  type Subject,
  TOKEN,
} from "./analysis_table.ts";
import { streamStart } from "../points/stream.ts";
import { tokenId, type TokenName } from "./tokens.ts";
import { Unembedding } from "./unembedding.ts";

/** Which rows of the residual stream are looked at. */
export interface LensOptions {
  /** Layers; −1 is the embedding. Default: all that the run captured. */
  readonly layers?: readonly number[];
  /** Absolute positions; negative ones count from the prompt's end. Default: all that the run captured. */
  readonly positions?: Positions;
  /** Ends the analysis, between rows too; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Rows that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

const SCHEMA = {
  ...SEQUENCE,
  layer: "int32",
  ...TOKEN,
  rank: "int32",
  predicted_id: "int32",
  predicted: "utf8",
  logit: "float64",
  value: "float64",
} as const;

/**
 * The likeliest next tokens after each layer (−1: the embedding) and position. `rank` counts from 0 for the likeliest, `value`
 * is the probability. A run must have captured `blk.*.out`, and for layer −1 what enters the first block (`token_embd`).
 *
 * @throws {NotCapturedError | PositionError}
 */
export async function logitLens(
  model: Model,
  subject: Subject,
  options: LensOptions & { /** Tokens per row; 5. */ readonly top?: number } = {},
): Promise<Table> {
  const { top = 5 } = options;
  return await lens(
    "logit_lens",
    model,
    subject,
    options,
    (logits) => largest(logits, top).map((id, rank) => ({ id, rank })),
  );
}

/**
 * Probabilities of chosen tokens after each layer and position, with their ranks (0: the likeliest); otherwise as
 * {@linkcode logitLens}.
 *
 * @throws {NotCapturedError | PositionError}
 * @throws {TokenError} for a text that is not one token
 */
export async function tokenProbabilities(
  model: Model,
  subject: Subject,
  options: LensOptions & { readonly tokens: readonly TokenName[] },
): Promise<Table> {
  const ids = options.tokens.map((token) => tokenId(model, token));
  return await lens("token_probabilities", model, subject, options, (logits) =>
    ids.map((id) => ({
      id,
      rank: logits.reduce((above, logit) => logit > logits[id] ? above + 1 : above, 0),
    })));
}

async function lens(
  name: string,
  model: Model,
  subject: Subject,
  options: LensOptions,
  choose: (logits: Float32Array) => { id: number; rank: number }[],
): Promise<Table> {
  return await longWork(
    "Looking through the lens",
    options,
    (options) => look(name, model, subject, options, choose),
  );
}

async function look(
  name: string,
  model: Model,
  subject: Subject,
  options: LensOptions,
  choose: (logits: Float32Array) => { id: number; rank: number }[],
): Promise<Table> {
  const { layers, signal, onProgress } = options;
  const start = streamStart(model.plan);
  const run = await asRun(model, subject, { capture: [start, "blk.*.out"], signal });
  const points = capturedPoints(run, [start, "out"])
    .filter(({ layer }) => !layers || layers.includes(layer));
  const text = pieceOf(model);
  const { places, residual } = gather(run, points, options.positions);
  const rows: Row<typeof SCHEMA>[] = [];
  using unembedding = new Unembedding(model, places.length);
  let done = 0;
  for await (const logits of unembedding.logits(residual)) {
    const place = places[done++];
    const normalizer = logSumExp(logits);
    for (const { id, rank } of choose(logits)) {
      rows.push({
        ...place,
        rank,
        predicted_id: id,
        predicted: text(id),
        logit: logits[id],
        value: Math.exp(logits[id] - normalizer),
      });
    }
    onProgress?.(done, places.length);
    signal?.throwIfAborted();
  }
  return analysisTable(name, SCHEMA, rows, {
    meaning: "what the model would say next if it ended after each layer",
    model: run.meta.model,
  });
}

/** Rows of residual streams one below the other [n, D], and where each is from. */
function gather(run: Run, points: readonly CapturedPoint[], wanted?: Positions) {
  const extents = extentsOf(run);
  checkPositions(wanted, extents);
  const places: (ReturnType<ReturnType<typeof placesOf>> & { readonly layer: number })[] = [];
  const vectors: Float32Array[] = [];
  for (const { name, layer } of points) {
    for (const [sequence, extent] of extents.entries()) {
      const place = placesOf(run, sequence);
      const positions = positionsIn(wanted, extent);
      for (const { position, vector } of capturedRows(run, name, sequence)) {
        if (positions && !positions.includes(position)) continue;
        places.push({ ...place(position), layer });
        vectors.push(vector);
      }
    }
  }
  const width = vectors[0]?.length ?? 0;
  const residual = new Float32Array(vectors.length * width);
  vectors.forEach((vector, i) => residual.set(vector, i * width));
  return { places, residual };
}
