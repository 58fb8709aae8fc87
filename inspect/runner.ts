/** Running prompts with captures and edits: the passes behind `Model.run`. */
import type { Engine, HostTensor } from "../engine/backend.ts";
import { extract } from "../engine/compile.ts";
import type { Lengths, Value } from "../engine/plan.ts";
import type { Piece, PieceSink } from "./capture.ts";
import { type EditList, resolveEdits } from "./interventions.ts";
import type { Point, ResolvedPoint } from "./points.ts";
import type { Sequence } from "./run.ts";
import { logSumExp } from "./surprisals.ts";

/** What is captured and how. */
export interface CaptureOptions {
  /** Points by name, alias or glob; nothing by default. */
  readonly capture?: readonly string[];
  /** Absolute positions whose rows are kept (negative ones count from the prompt's end); all by default. */
  readonly positions?: readonly number[];
  /** Interventions, in order. */
  readonly edit?: EditList;
  /** Most bytes that a capture may hold in memory; default 1 GiB. */
  readonly captureLimit?: number;
  /** Takes the captured tensors while the run goes on; then nothing is held, and no limit applies. */
  readonly sink?: PieceSink;
  /** Told the bytes of the capture before the run begins. */
  readonly onCapture?: (bytes: number) => void;
}

/** Options of {@linkcode Model.run}. */
export interface RunOptions extends CaptureOptions {
  readonly signal?: AbortSignal;
  /** Positions that have run, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** A capture that does not fit into memory. */
export class CaptureLimitError extends RangeError {
  override readonly name = "CaptureLimitError";
  constructor(readonly bytes: number, readonly limit: number) {
    super(
      `The capture would take ${megabytes(bytes)}, above the limit of ${
        megabytes(limit)
      }: choose fewer points or positions, ` +
        "raise captureLimit, or give a sink that writes files",
    );
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

const DEFAULT_LIMIT = 2 ** 30;

/** The lengths of a prompt's passes: `rows` of each get logits, by default all. */
export function promptPasses(positions: number, maxTokens: number, rows?: number): Lengths[] {
  return Array.from({ length: Math.ceil(positions / maxTokens) }, (_, i) => {
    const T = Math.min(maxTokens, positions - i * maxTokens);
    return { T, S: i * maxTokens + T, R: rows ?? T };
  });
}

/** Bytes that points take over some passes; of each only the rows at the positions that are kept. */
export function captureBytes(
  points: readonly Point[],
  passes: readonly Lengths[],
  kept?: readonly number[],
): number {
  let bytes = 0;
  for (const lengths of passes) {
    for (const { name, shape, axes } of points) {
      bytes += 4 *
        extractSize({ name, shape, kind: axes[0] === "slot" ? "cache" : "result" }, lengths, kept);
    }
  }
  return bytes;
}

function extractSize(value: Value, lengths: Lengths, kept?: readonly number[]): number {
  const { shape } = extract(value, lengths, lengths.S - lengths.T, kept);
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Captured pieces on their way to memory or to a sink. */
export class Collector {
  readonly pieces: Piece[] = [];
  readonly names: readonly string[];
  readonly #points: readonly Point[];
  readonly #sink: PieceSink | undefined;

  constructor(points: readonly Point[], sink?: PieceSink) {
    this.#points = points;
    this.names = points.map(({ name }) => name);
    this.#sink = sink;
  }

  /** Takes the captured tensors of one pass. */
  async add(
    tensors: ReadonlyMap<string, HostTensor>,
    { sequence, step, start, rows }: {
      sequence: number;
      step: number;
      start: number;
      rows: number;
    },
  ): Promise<void> {
    for (const point of this.#points) {
      const { shape, data, positions } = tensors.get(point.name)!;
      if (shape.includes(0)) continue;
      const offset = point.shape.includes("R") ? rows : 0;
      const first = point.axes[0] === "slot" ? 0 : start + offset;
      const piece = { point: point.name, sequence, step, start: first, shape, data, positions };
      if (this.#sink) await this.#sink.write(point, piece);
      else this.pieces.push(piece);
    }
  }
}

/** Resolves captures, and refuses what does not fit into memory. */
export function prepareCapture(
  options: CaptureOptions,
  resolve: (patterns: readonly string[]) => readonly ResolvedPoint[],
  bytesOf: (points: readonly Point[]) => number,
): Collector {
  const points = [
    ...new Map(resolve(options.capture ?? []).map(({ point }) => [point.name, point])).values(),
  ];
  const bytes = bytesOf(points);
  if (points.length > 0) options.onCapture?.(bytes);
  const { captureLimit = DEFAULT_LIMIT, sink } = options;
  if (!sink && bytes > captureLimit) throw new CaptureLimitError(bytes, captureLimit);
  return new Collector(points, sink);
}

/** Positions as absolute numbers, ascending, each once. */
export function absolutePositions(positions: readonly number[] | undefined, promptLength: number) {
  const absolute = positions?.map((position) => position < 0 ? position + promptLength : position);
  return absolute && [...new Set(absolute)].sort((a, b) => a - b);
}

/**
 * Runs prompts, one after the other.
 *
 * @throws {CaptureLimitError} before anything runs
 * @throws {EditError | UnknownPointError}
 */
export async function runPrompts(
  engine: Engine,
  prompts: readonly (readonly number[])[],
  options: RunOptions,
  resolve: (patterns: readonly string[]) => readonly ResolvedPoint[],
): Promise<{ sequences: Sequence[]; pieces: Piece[] }> {
  const { signal, onProgress } = options;
  const maxTokens = Math.min(engine.maxTokens, Math.max(...prompts.map(({ length }) => length)));
  const collector = prepareCapture(
    options,
    resolve,
    (points) =>
      prompts.reduce((bytes, { length }) => {
        const kept = absolutePositions(options.positions, length);
        return bytes + captureBytes(points, promptPasses(length, maxTokens), kept);
      }, 0),
  );
  const total = prompts.reduce((sum, { length }) => sum + length, 0);
  const wanted = [...new Set([...collector.names, "logits"])];
  const sequences: Sequence[] = [];
  let done = 0;

  for (const [sequence, ids] of prompts.entries()) {
    const positions = absolutePositions(options.positions, ids.length);
    const edits = resolveEdits(options.edit ?? [], (pattern) => resolve([pattern]), {
      promptLength: ids.length,
      sequence,
    });
    const session = engine.session({ capacity: ids.length });
    const surprisals = new Float64Array(ids.length).fill(NaN);
    let lastLogits = new Float32Array(0);
    const take = async (start: number, pass: Promise<Map<string, HostTensor>>) => {
      const tensors = await pass;
      const logits = tensors.get("logits")!;
      lastLogits = takeSurprisals(logits, ids, start, surprisals);
      if (positions) tensors.set("logits", somePositions(logits, start, positions));
      await collector.add(tensors, { sequence, step: 0, start, rows: 0 });
      done += logits.shape[0];
      onProgress?.(done, total);
    };
    try {
      // What a pass made is taken while the next one runs.
      let taking = Promise.resolve();
      for (let start = 0; start < ids.length; start += session.maxTokens) {
        signal?.throwIfAborted();
        const chunk = ids.slice(start, start + session.maxTokens);
        const pass = session.pass({
          ids: chunk,
          rows: chunk.length, // Logits come back for every row, since the loss needs them.
          wanted,
          edits,
          positions,
          whole: ["logits"],
        });
        pass.catch(() => {}); // it is awaited in its turn
        await taking;
        taking = take(start, pass);
        taking.catch(() => {});
      }
      await taking;
    } finally {
      session.dispose();
    }
    sequences.push({ ids, promptLength: ids.length, lastLogits, surprisals });
  }
  return { sequences, pieces: collector.pieces };
}

/** Surprisals of the tokens after each row of logits [T, V]; gives a copy of the last row. */
function takeSurprisals(
  logits: HostTensor,
  ids: readonly number[],
  start: number,
  surprisals: Float64Array,
): Float32Array<ArrayBuffer> {
  const [rows, width] = logits.shape;
  for (let row = 0; row < rows; row++) {
    const next = start + row + 1;
    if (next === ids.length) break;
    const values = logits.data.subarray(row * width, (row + 1) * width);
    surprisals[next] = logSumExp(values) - values[ids[next]];
  }
  return logits.data.slice((rows - 1) * width);
}

/** Rows [T, V] at some absolute positions. */
function somePositions(
  tensor: HostTensor,
  start: number,
  positions: readonly number[],
): HostTensor {
  const [rows, width] = tensor.shape;
  const kept = positions.filter((position) => position >= start && position < start + rows);
  const data = new Float32Array(kept.length * width);
  kept.forEach((position, i) =>
    data.set(
      tensor.data.subarray((position - start) * width, (position - start + 1) * width),
      i * width,
    )
  );
  return { shape: [kept.length, width], data, positions: kept };
}
