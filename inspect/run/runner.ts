/** Running prompts with captures and edits: the passes behind `Model.run`. */
import type { Engine, Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import { canBranch, runBranches } from "../../engine/plan/branches.ts";
import { extract } from "../../engine/plan/compile.ts";
import type { PassKind } from "../../engine/plan/pass_size.ts";
import type { Lengths } from "../../engine/plan/plan.ts";
import { type Piece, type PieceSink, type SinkSource, throughSink } from "./capture.ts";
import { checkEditList, type EditList, resolveEdits } from "./interventions.ts";
import type { Point, ResolvedPoint } from "../points/points.ts";
import { unmask } from "../points/visible_keys.ts";
import { checkPositions, type Positions, positionsIn } from "./positions.ts";
import type { Sequence } from "./run.ts";
import { Surprisals } from "./surprisals.ts";

/** What is captured and how. */
export interface CaptureOptions {
  /** Points by name, alias or glob, one or several; nothing by default. */
  readonly capture?: string | readonly string[];
  /** Absolute positions whose rows are kept (negative ones count from the prompt's end); all by default. */
  readonly positions?: Positions;
  /** Interventions, in order. */
  readonly edit?: EditList;
  /** Most bytes that a capture may hold in memory; default 1 GiB. */
  readonly captureLimit?: number;
  /** Takes the captured tensors while the run goes on; then nothing is held, and no limit applies. */
  readonly sink?: PieceSink;
  /**
   * Told the most bytes that the capture may take, before the run begins. Without it a line on stderr says so of captures of
   * 64 MiB and more.
   */
  readonly onCapture?: (bytes: number) => void;
}

/** Options of {@linkcode Model.run}. */
export interface RunOptions extends CaptureOptions {
  /** Ends the run, in the middle of a pass too; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Positions that have run, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** A capture that does not fit into memory. */
export class CaptureLimitError extends RangeError {
  /** The class's name. */
  override readonly name = "CaptureLimitError";
  /**
   * Thrown before anything runs.
   *
   * @param bytes what the capture would take
   * @param limit what it may take
   */
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
/** Captures that are announced where nobody asked. */
const LARGE = 2 ** 26;

function announce(bytes: number): void {
  if (bytes >= LARGE) console.error(`capturing at most ${megabytes(bytes)}`);
}

/** The lengths of a prompt's passes whose rows all get logits. */
export function promptPasses(positions: number, maxTokens: number): Lengths[] {
  return Array.from({ length: Math.ceil(positions / maxTokens) }, (_, i) => {
    const T = Math.min(maxTokens, positions - i * maxTokens);
    return { T, S: i * maxTokens + T, R: T };
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
    for (const point of points) {
      const { shape } = extract(point, lengths, lengths.S - lengths.T, kept);
      bytes += shape.reduce((product, dim) => product * dim, 4);
    }
  }
  return bytes;
}

/** Captured pieces on their way to memory or to a sink. */
export class Collector {
  readonly pieces: Piece[] = [];
  readonly names: readonly string[];
  /** Whether points of rows with logits are captured (`logits`, `output_norm`, …): then all rows get some. */
  readonly allRows: boolean;
  readonly points: readonly Point[];
  readonly #sink: PieceSink | undefined;

  constructor(points: readonly Point[], sink?: PieceSink) {
    this.points = points;
    this.names = points.map(({ name }) => name);
    this.allRows = points.some(({ shape }) => shape.includes("R"));
    this.#sink = sink;
  }

  /** The points that a pass over some positions is asked for: none where no row of theirs is kept. */
  namesAt(start: number, tokens: number, positions?: readonly number[]): readonly string[] {
    const kept = !positions || this.points.some(({ axes }) => axes[0] === "slot") ||
      positions.some((position) => position >= start && position < start + tokens);
    return kept ? this.names : [];
  }

  /** Takes the captured tensors of one pass; `positions` are those whose rows are kept. */
  async add(
    tensors: ReadonlyMap<string, HostTensor>,
    { sequence, step, start, positions }: {
      readonly sequence: number;
      readonly step: number;
      readonly start: number;
      readonly positions?: readonly number[];
    },
  ): Promise<void> {
    for (const point of this.points) {
      const made = tensors.get(point.name);
      if (!made) continue; // none of its rows is kept
      // Logits come back whole where somebody else needs them too.
      const kept = positions && !made.positions ? somePositions(made, start, positions) : made;
      if (kept.shape.includes(0)) continue;
      const first = point.axes[0] === "slot" ? 0 : start;
      const piece = { point: point.name, sequence, step, start: first, ...kept };
      unmask(point.kind, piece);
      if (this.#sink) await this.#sink.write(point, piece);
      else this.pieces.push(piece);
    }
  }
}

/**
 * Resolves captures, and refuses what does not fit into memory.
 *
 * @throws {UnknownPointError | CaptureLimitError}
 */
export function prepareCapture(
  options: CaptureOptions,
  resolve: (patterns: readonly string[]) => readonly ResolvedPoint[],
  bytesOf: (points: readonly Point[]) => number,
): Collector {
  const { captureLimit = DEFAULT_LIMIT, sink, onCapture = announce } = options;
  const points = [
    ...new Map(resolve(patternsOf(options)).map(({ point }) => [point.name, point])).values(),
  ];
  if (points.length === 0) return new Collector(points, sink);
  const bytes = bytesOf(points);
  onCapture(bytes);
  if (!sink && bytes > captureLimit) throw new CaptureLimitError(bytes, captureLimit);
  return new Collector(points, sink);
}

/** What shall be captured, as a list. */
export function patternsOf({ capture = [] }: CaptureOptions): readonly string[] {
  return [capture].flat();
}

/**
 * Looks at the form of options, since notebook cells are not type-checked.
 *
 * @throws {TypeError}
 */
export function checkCaptureOptions(options: CaptureOptions): void {
  const { edit = [], sink } = options;
  const patterns = patternsOf(options);
  const wrong = patterns.find((pattern) => typeof pattern !== "string");
  if (wrong !== undefined) {
    throw new TypeError(`Cannot capture ${wrong}: give names of points, like "blk.3.out"`);
  }
  checkEditList(edit);
  if (sink && patterns.length === 0) {
    throw new TypeError(
      'Cannot write to the sink: nothing is captured; name points, capture: ["blk.*.out"]',
    );
  }
}

/** What a pass made, by name. */
export type Tensors = Map<string, HostTensor>;

/** A promise that is awaited later, or never: until then it may fail without a sound. */
export function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** How {@linkcode runInPasses} runs ids. */
export interface Passes {
  /** Passes in flight at most. */
  readonly most: number;
  /** What a pass over some of the ids is asked for, the first of which is at `start`. */
  readonly request: (ids: readonly number[], start: number, last: boolean) => PassRequest;
  /** Takes what that pass made. */
  readonly take: (tensors: Tensors, start: number, ids: readonly number[]) => Promise<void>;
}

/** Runs ids in as many passes as they need. What a pass made is taken, in order, while the next ones run; the last one's is returned. */
export async function runInPasses(
  session: Session,
  ids: readonly number[],
  { most, request, take }: Passes,
): Promise<Tensors> {
  const { maxTokens } = session;
  const running: Promise<void>[] = [];
  for (let start = 0;; start += maxTokens) {
    const some = ids.slice(start, start + maxTokens);
    const last = start + maxTokens >= ids.length;
    const pass = quietly(session.pass(request(some, start, last)));
    const before = running.at(-1);
    running.push(quietly(pass.then(async (tensors) => {
      await before;
      await take(tensors, start, some);
    })));
    if (last) {
      await running.at(-1);
      return await pass;
    }
    if (running.length === most) await running.shift();
  }
}

/** What running prompts needs of their model. */
export interface PromptsContext {
  readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
  /** What a sink is told. */
  readonly source: () => SinkSource;
}

/**
 * Runs prompts: as many in one pass as fit, in their order. Those that are longer than a pass run alone, as do those with edits of
 * attention or by functions.
 *
 * @throws {CapacityError | CaptureLimitError | PositionError | EditError | UnknownPointError | TypeError} before anything runs
 */
export async function runPrompts(
  engine: Engine,
  prompts: readonly (readonly number[])[],
  options: RunOptions,
  { resolve, source }: PromptsContext,
): Promise<{ sequences: Sequence[]; pieces: Piece[] }> {
  const { signal, onProgress, sink } = options;
  checkCaptureOptions(options);
  const extents = prompts.map(({ length }) => ({ promptLength: length, length }));
  checkPositions(options.positions, extents);
  const kept = extents.map((extent) => positionsIn(options.positions, extent));
  const maxTokens = Math.min(engine.maxTokens, Math.max(...prompts.map(({ length }) => length)));
  const collector = prepareCapture(
    options,
    resolve,
    (points) =>
      prompts.reduce(
        (bytes, { length }, sequence) =>
          bytes + captureBytes(points, promptPasses(length, maxTokens), kept[sequence]),
        0,
      ),
  );
  const edits = extents.map(({ promptLength }, sequence) =>
    resolveEdits(options.edit ?? [], (pattern) => resolve([pattern]), { promptLength, sequence })
  );
  const total = prompts.reduce((sum, { length }) => sum + length, 0);
  // The loss needs something of every row; logits come back whole only where they are captured.
  const wanted = [...new Set([...collector.names, "logits", "surprisal"])];
  const logits = collector.names.includes("logits")
    ? { whole: ["logits"] }
    : { lastRow: ["logits"] };
  const branching = edits.map((own) => canBranch(own, engine.plan));
  const passes: PassKind = { wanted, edits: edits.filter((_, i) => branching[i]).flat() };
  const batches = batchesOf(
    prompts.map(({ length }, i) => branching[i] ? length : Infinity),
    engine.passTokens({ capacity: engine.maxTokens, passes }),
  );
  for (const [i, ...others] of batches) {
    if (others.length > 0) continue;
    engine.passTokens({ capacity: prompts[i].length, passes: { wanted, edits: edits[i] } });
  }
  let done = 0;

  /** Several prompts in one pass. */
  async function runBatch(batch: readonly number[]): Promise<Sequence[]> {
    const capacity = batch.reduce((sum, i) => sum + prompts[i].length, 0);
    const session = engine.session({ capacity, passes, signal });
    let results: Tensors[];
    try {
      results = await runBranches(session, engine.plan, {
        branches: batch.map((i) => ({
          ids: prompts[i],
          rows: prompts[i].length,
          nextIds: prompts[i].slice(1),
          positions: kept[i],
          edits: edits[i],
        })),
        wanted,
        ...logits,
      });
    } finally {
      session.dispose();
    }
    const sequences: Sequence[] = [];
    for (const [i, tensors] of results.entries()) {
      const sequence = batch[i];
      const ids = prompts[sequence];
      const surprisals = new Surprisals(ids);
      surprisals.takeComputed(tensors.get("surprisal")!, tensors.get("logits")!, 0);
      const place = { sequence, step: 0, start: 0, positions: kept[sequence] };
      await collector.add(tensors, place);
      done += ids.length;
      onProgress?.(done, total);
      sequences.push(sequenceOf(ids, surprisals));
    }
    return sequences;
  }

  async function runPrompt(sequence: number): Promise<Sequence> {
    const ids = prompts[sequence];
    const positions = kept[sequence];
    const surprisals = new Surprisals(ids);
    const passes = { wanted, edits: edits[sequence] };
    const session = engine.session({ capacity: ids.length, passes, signal });
    try {
      await runInPasses(session, ids, {
        most: 2,
        request: (some, start) => ({
          ids: some,
          rows: some.length,
          nextIds: ids.slice(start + 1, start + some.length + 1),
          wanted: [
            ...new Set([
              ...collector.namesAt(start, some.length, positions),
              "logits",
              "surprisal",
            ]),
          ],
          edits: edits[sequence],
          positions,
          ...logits,
        }),
        async take(tensors, start, ids) {
          surprisals.takeComputed(tensors.get("surprisal")!, tensors.get("logits")!, start);
          await collector.add(tensors, { sequence, step: 0, start, positions });
          done += ids.length;
          onProgress?.(done, total);
        },
      });
    } finally {
      session.dispose();
    }
    return sequenceOf(ids, surprisals);
  }

  return await throughSink(sink, source, async () => {
    const sequences: Sequence[] = [];
    for (const batch of batches) {
      sequences.push(
        ...batch.length === 1 ? [await runPrompt(batch[0])] : await runBatch(batch),
      );
    }
    return { sequences, pieces: collector.pieces };
  });
}

function sequenceOf(ids: readonly number[], surprisals: Surprisals): Sequence {
  const lastLogits = surprisals.logitsAt(ids.length - 1);
  return { ids, promptLength: ids.length, lastLogits, surprisals: surprisals.values };
}

/** Neighbours that together have at most so many positions; what is longer is alone. */
export function batchesOf(lengths: readonly number[], most: number): number[][] {
  const batches: number[][] = [];
  let positions = Infinity;
  for (const [i, length] of lengths.entries()) {
    positions += length;
    if (positions > most) {
      batches.push([]);
      positions = length;
    }
    batches.at(-1)!.push(i);
  }
  return batches;
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
