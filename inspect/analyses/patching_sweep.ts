/**
 * Activation patching, place by place: a corrupted prompt is run again with one value of the clean run in it, and a metric says
 * how much of the clean behaviour that brings back (Meng et al., "Locating and editing factual associations in GPT", 2022; Wang
 * et al., "Interpretability in the wild", 2022).
 */
import type { Session } from "../../engine/backend.ts";
import { runBranches } from "../../engine/plan/branches.ts";
import type { Table } from "../tables/arrow.ts";
import { checkRows } from "../run/interventions.ts";
import type { Model } from "../run/model.ts";
import { type Point, resolvePoints } from "../points/points.ts";
import { STREAM_KINDS } from "../points/stream.ts";
import { batchesOf as packed } from "../run/runner.ts";
import { NotCapturedError, type Run } from "../run/run.ts";
import { TensorView } from "../tensor/tensor.ts";
import { offsets } from "../tensor/layout.ts";
import { longWork } from "../work.ts";
import { analysisTable, asRun, placesOf, type Row, type Subject, TOKEN } from "./analysis_table.ts";
import { dot } from "./numbers.ts";
import { tokenId, type TokenName } from "./tokens.ts";

/** What is measured: the logit of the first token less that of the second, or any function of the last logits [V]. */
export type Metric = readonly [TokenName, TokenName] | ((lastLogits: Float32Array) => number);

/** What a sweep patches. */
export interface PatchingSweepOptions {
  /** What each patched run is judged by. */
  readonly metric: Metric;
  /**
   * The kind of point, without `blk.<layer>.`: `inp` (the residual stream before the block; the default), `ffn_inp`, `attn_out`,
   * `head_out`, `attn_probs`, …
   */
  readonly point?: string;
  /**
   * What is patched at a time in a layer: one position, one head, or one head at one position. Of attention rows, a position is
   * the query's. Default: a head where the point has some, else a position.
   */
  readonly over?: readonly ("position" | "head")[];
  /** Default: all layers. */
  readonly layers?: readonly number[];
  /** With `over` positions: absolute ones; negative ones count from the end. Default: all. */
  readonly positions?: readonly number[];
  /** With `over` heads (of `k` and `v`: key/value heads). Default: all. */
  readonly heads?: readonly number[];
  /** When it aborts, the sweep ends early: the table has what was computed. */
  readonly signal?: AbortSignal;
  /** Patched runs that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Most bytes that a capture of the clean or of the corrupted run may hold; default 1 GiB. */
  readonly captureLimit?: number;
}

/** Prompts that are run, or runs that captured the point (the corrupted one also `token_embd`, `blk.*.ffn_inp` and `blk.*.out`). */
export interface CleanAndCorrupted {
  /** May come from another model of the same shape. */
  readonly clean: Subject;
  /** Has as many tokens as the clean one. */
  readonly corrupted: Subject;
}

/** One place to patch. */
interface Cell {
  readonly layer: Layer;
  readonly position?: number;
  readonly head?: number;
}

/** A place, and the first position at which patching it changes anything; Infinity where it changes nothing. */
interface Job {
  readonly cell: Cell;
  readonly from: number;
}

/** A run's tensor of a point, at all positions. */
type WholeTensors = (point: Point) => TensorView;

interface Runs {
  /** Those of the corrupted run. */
  readonly ids: readonly number[];
  readonly clean: WholeTensors;
  readonly corrupted: WholeTensors;
}

/** What a pass from one position (included) to another (not included) resumes from. */
type Given = (from: number, to: number) => ReadonlyMap<string, Float32Array>;

/** How runs are judged, whole ones by their logits. */
interface Measure {
  readonly ofLogits: (lastLogits: Float32Array) => number;
  /** What patched passes give of their last row. */
  readonly point: string;
  /** The metric, by that. */
  readonly of: (row: Float32Array) => number;
}

/** The point in one layer, and the residual stream that the pass resumes from. */
interface Layer {
  readonly layer: number;
  readonly point: Point;
  readonly residual: Point;
}

const SCHEMA = {
  layer: "int32",
  head: "int32",
  ...TOKEN,
  clean_token: "utf8",
  metric: "float64",
  value: "float64",
} as const;

/**
 * Patches layers × positions or layers × heads (× both). Columns: `layer`, `head`, `position` with the corrupted prompt's token
 * and the `clean_token` there (null where all of them are patched), `metric`, and `value`, the metric as a part of the way from the corrupted (0) to the clean (1)
 * run. The metadata has both runs' metric, and `complete`: "false" when the sweep was aborted.
 *
 * Each run resumes at the patched layer from the corrupted run's residual stream, and at the first position that changes from its KV
 * cache. Where both runs have the same numbers, as before the first token that differs, nothing has to run. Places of the same layer
 * run together, as many as a pass holds.
 *
 * @throws {RangeError} for runs of different lengths or with the same metric, and for a point that cannot be patched
 * @throws {EditError} for runs of models of another shape
 * @throws {NotCapturedError | UnknownPointError | CaptureLimitError | TokenError}
 */
export async function patchingSweep(
  model: Model,
  prompts: CleanAndCorrupted,
  options: PatchingSweepOptions,
): Promise<Table> {
  return await longWork("Patching", options, (options) => sweep(model, prompts, options));
}

async function sweep(
  model: Model,
  prompts: CleanAndCorrupted,
  options: PatchingSweepOptions,
): Promise<Table> {
  const { point: kind = "inp", signal, onProgress, captureLimit } = options;
  const measure = await measureOf(model, options.metric);
  const layers = (options.layers ?? Array.from({ length: model.config.layers }, (_, i) => i))
    .map((layer) => placeOf(model, layer, kind));
  if (layers.length === 0) throw new RangeError("Cannot sweep over no layers: name one or more");
  const points = layers.map(({ point }) => point.name);
  const residuals = layers.map(({ residual }) => residual.name);
  const clean = await asRun(model, prompts.clean, { capture: points, signal, captureLimit });
  const corrupted = await asRun(model, prompts.corrupted, {
    capture: [...points, ...residuals],
    signal,
    captureLimit,
  });
  for (const { sequences } of [clean, corrupted]) {
    if (sequences.length > 1) {
      throw new RangeError(
        `Cannot patch a batch of ${sequences.length} sequences: give one prompt for each run`,
      );
    }
  }
  const best = measure.ofLogits(lastLogits(clean));
  const worst = measure.ofLogits(lastLogits(corrupted));
  if (clean.ids.length !== corrupted.ids.length) {
    throw new RangeError(
      `Cannot patch a run of ${clean.ids.length} positions into one of ${corrupted.ids.length}: make them equally long`,
    );
  }
  if (best === worst) {
    throw new RangeError(
      `Cannot sweep: the metric is ${best} in the clean and in the corrupted run`,
    );
  }

  const over = options.over ?? [headAxis(layers[0].point) ? "head" : "position"];
  const cells = cellsOf(layers, over, options, corrupted.ids.length);
  const results = new Map<Cell, number>();
  const { ids } = corrupted;
  const runs: Runs = { ids, clean: wholeTensors(clean), corrupted: wholeTensors(corrupted) };
  const jobs = cells.map((cell): Job => ({ cell, from: firstChange(cell, runs) }));
  const changing = jobs.filter(({ from }) => from < Infinity);
  const { length } = ids;
  const capacity = length + Math.min(
    model.engine.maxTokens,
    changing.reduce((sum, { from }) => sum + length - from, 0),
  );
  const passes = { points: [...points, ...residuals], wanted: [measure.point] };
  const session = model.engine.session({ capacity, passes });
  const take = (job: Job, metric: number) => {
    if (signal?.aborted) return;
    results.set(job.cell, metric);
    onProgress?.(results.size, cells.length);
  };
  try {
    await runOn(session, ids, measure);
    // Where both runs have the same numbers, nothing would change.
    for (const job of jobs) if (job.from === Infinity) take(job, worst);
    const batches = batchesOf(changing, length, session.maxTokens);
    for (const batch of batches.filter(({ length }) => length > 1)) {
      if (signal?.aborted) break;
      const metrics = await runTogether(model, session, batch, runs, measure);
      batch.forEach((job, i) => take(job, metrics[i]));
    }
    // Those that run alone change the cache: from the last position to the first, what lies before it is still the corrupted run's.
    const alone = batches.filter(({ length }) => length === 1).flat();
    for (const job of alone.sort((a, b) => b.from - a.from)) {
      if (signal?.aborted) break;
      take(job, await runPatched(session, job, runs, measure));
    }
  } finally {
    session.dispose();
  }
  return sweepTable(cells, results, { kind, clean, corrupted, best, worst });
}

/** Of two logits only two rows of the output matrix are needed: the passes end in front of it. */
async function measureOf(model: Model, metric: Metric): Promise<Measure> {
  if (typeof metric === "function") return { ofLogits: metric, point: "logits", of: metric };
  const [a, b] = metric.map((token) => tokenId(model, token));
  const ofLogits = (logits: Float32Array) => logits[a] - logits[b];
  const last = model.plan.find(({ outputs }) => outputs.some((value) => value?.name === "logits"))!;
  // A model may do more with its logits than multiply.
  if (last.operation !== "linear") return { ofLogits, point: "logits", of: ofLogits };
  const [rowA, rowB] = await Promise.all(
    [a, b].map((first) => model.weightRows(last.weights[0], { first, count: 1 })),
  );
  const of = (row: Float32Array) => dot(row, rowA) - dot(row, rowB);
  return { ofLogits, point: last.inputs[0].name, of };
}

function lastLogits(run: Run): Float32Array {
  const [{ lastLogits }] = run.sequences;
  if (!lastLogits) throw new NotCapturedError("logits", run.captured);
  return lastLogits;
}

/** The point of a layer, and the residual stream from which everything after it follows. */
function placeOf(model: Model, layer: number, kind: string): Layer {
  const points = model.pointList;
  const [{ point }] = resolvePoints(points, [`blk.${layer}.${kind}`]);
  if (!model.plan.some(({ inputs }) => inputs.some(({ name }) => name === point.name))) {
    throw new RangeError(`Cannot patch ${point.name}: nothing in the pass reads it`);
  }
  if (point.axes[0] === "slot") {
    throw new RangeError(`Cannot patch ${point.name}: the cache is what k_rope and v wrote`);
  }
  const residual = points.slice(0, points.indexOf(point) + 1)
    .findLast(({ kind }) => STREAM_KINDS.includes(kind))!;
  return { layer, point, residual };
}

function headAxis({ axes }: Point): string | undefined {
  return axes.find((axis) => axis === "head" || axis === "kv_head");
}

function rowAxis({ axes }: Point): "position" | "query" {
  return axes.includes("key") ? "query" : "position";
}

function cellsOf(
  layers: readonly Layer[],
  over: readonly string[],
  { positions, heads }: PatchingSweepOptions,
  length: number,
): Cell[] {
  const [{ point }] = layers;
  const axis = headAxis(point);
  if (over.includes("head") && !axis) {
    throw new RangeError(`Cannot sweep over heads: ${point.name} has none`);
  }
  const all = (count: number) => Array.from({ length: count }, (_, i) => i);
  const headCount = axis ? point.shape[point.axes.findIndex((each) => each === axis)] as number : 0;
  const inside = (index: number, size: number, what: string) => {
    const absolute = index < 0 ? index + size : index;
    if (Number.isInteger(absolute) && absolute >= 0 && absolute < size) return absolute;
    throw new RangeError(`Cannot patch ${what} ${index}: there are ${size}`);
  };
  const headList: (number | undefined)[] = over.includes("head")
    ? (heads ?? all(headCount)).map((head) => inside(head, headCount, "head"))
    : [undefined];
  const positionList: (number | undefined)[] = over.includes("position")
    ? (positions ?? all(length)).map((position) => inside(position, length, "position"))
    : [undefined];
  return layers.flatMap((layer) =>
    headList.flatMap((head) => positionList.map((position) => ({ layer, head, position })))
  );
}

/** What is patched of a cell's point. */
function placeIn({ layer: { point }, position, head }: Cell): Record<string, number> {
  return {
    ...(position === undefined ? {} : { [rowAxis(point)]: position }),
    ...(head === undefined ? {} : { [headAxis(point)!]: head }),
  };
}

/** The first position at which the two runs differ in what a cell patches; Infinity where they are the same to the bit. */
function firstChange(cell: Cell, { ids, clean, corrupted }: Runs): number {
  const { layer: { point }, position } = cell;
  const [good, bad] = [clean, corrupted].map((tensorOf) => tensorOf(point).at(placeIn(cell)));
  const positions = position === undefined ? ids.keys() : [position];
  for (const each of positions) {
    const row = position === undefined ? { [rowAxis(point)]: each } : {};
    const [a, b] = [good, bad].map((tensor) => tensor.at(row).toFloat32Array());
    if (a.some((value, i) => !Object.is(value, b[i]))) return each;
  }
  return Infinity;
}

/** Jobs of one layer that fit into one pass; what is longer than a pass is alone. */
function batchesOf(jobs: readonly Job[], length: number, most: number): Job[][] {
  const layers = Map.groupBy(jobs, ({ cell }) => cell.layer);
  return [...layers.values()].flatMap((own) =>
    packed(own.map(({ from }) => length - from), most).map((batch) => batch.map((i) => own[i]))
  );
}

/** What the corrupted run with one place from the clean one resumes from. */
function patchedTensors(cell: Cell, { clean, corrupted }: Runs): Given {
  const { point, residual } = cell.layer;
  const axis = rowAxis(point);
  const { [axis]: row, ...head } = placeIn(cell);
  return (from, to) => {
    const [good, bad] = [clean, corrupted].map((tensorOf) =>
      rowsOf(point, tensorOf(point), from, to)
    );
    const patched = new TensorView(bad.toFloat32Array().slice(), bad.shape, bad.axes);
    if (row === undefined) assign(patched.at(head), good.at(head));
    else if (row >= from && row < to) {
      const place = { ...head, [axis]: row - from };
      assign(patched.at(place), good.at(place));
    }
    return new Map([
      [residual.name, rowsOf(residual, corrupted(residual), from, to).toFloat32Array()],
      [point.name, patched.data],
    ]);
  };
}

/** The metric of the corrupted run with one place from the clean one, which changes nothing before a position. */
async function runPatched(
  session: Session,
  { cell, from }: Job,
  runs: Runs,
  measure: Measure,
): Promise<number> {
  session.rewind(from);
  return measure.of(await runOn(session, runs.ids, measure, patchedTensors(cell, runs)));
}

/** The same for several places of one layer, in one pass. */
async function runTogether(
  model: Model,
  session: Session,
  jobs: readonly Job[],
  runs: Runs,
  { point, of }: Measure,
): Promise<number[]> {
  const { ids } = runs;
  const results = await runBranches(session, model.plan, {
    wanted: [point],
    branches: jobs.map(({ cell, from }) => ({
      from,
      ids: ids.slice(from),
      given: patchedTensors(cell, runs)(from, ids.length),
    })),
  });
  return results.map((tensors) => of(tensors.get(point)!.data));
}

/** Runs what is left of the ids, resuming from what is given, and gives the last row of what is measured. */
async function runOn(
  session: Session,
  ids: readonly number[],
  { point }: Measure,
  given?: Given,
): Promise<Float32Array> {
  let row = new Float32Array(0);
  while (session.position < ids.length) {
    const from = session.position;
    const to = Math.min(ids.length, from + session.maxTokens);
    const tensors = await session.pass({
      ids: ids.slice(from, to),
      wanted: [point],
      given: given?.(from, to),
    });
    row = tensors.get(point)!.data;
  }
  return row;
}

/** The part of a whole tensor that a pass over some positions makes. */
function rowsOf(point: Point, tensor: TensorView, from: number, to: number): TensorView {
  return rowAxis(point) === "query"
    ? tensor.slice({ query: [from, to], key: [0, to] })
    : tensor.slice({ position: [from, to] });
}

/** Those of the latest layer are at hand: looking up and putting together take time, and all of them memory. */
function wholeTensors(run: Run): WholeTensors {
  const latest = new Map<string, TensorView>();
  return (point) => {
    const found = latest.get(point.name);
    if (found) return found;
    if (latest.size === 2) latest.clear(); // the point and the residual stream
    const tensor = wholeTensor(run, point);
    latest.set(point.name, tensor);
    return tensor;
  };
}

function wholeTensor(run: Run, point: Point): TensorView {
  const tensor = run.tensor(point.name);
  checkRows(point, tensor);
  const axis = rowAxis(point);
  if (tensor.shape[tensor.axes.indexOf(axis)] !== run.ids.length) {
    throw new RangeError(
      `Cannot patch ${point.name}: the run did not capture it at all of its ${run.ids.length} positions`,
    );
  }
  return tensor;
}

/** Overwrites what a view shows. */
function assign(target: TensorView, source: TensorView): void {
  const from = offsets(source, source.axes);
  for (const [i, at] of offsets(target, target.axes).entries()) {
    target.data[target.offset + at] = source.data[source.offset + from[i]];
  }
}

/** What a sweep was about. */
interface Sweep {
  readonly kind: string;
  readonly clean: Run;
  readonly corrupted: Run;
  readonly best: number;
  readonly worst: number;
}

function sweepTable(
  cells: readonly Cell[],
  results: ReadonlyMap<Cell, number>,
  { kind, clean, corrupted, best, worst }: Sweep,
): Table {
  const place = placesOf(corrupted, 0);
  const cleanTokens = clean.tokens();
  const rows: Row<typeof SCHEMA>[] = [];
  for (const cell of cells) {
    const metric = results.get(cell);
    if (metric === undefined) continue;
    const { layer: { layer }, head = null, position } = cell;
    const token = position === undefined
      ? { position: null, token_id: null, token: null, clean_token: null }
      : { ...place(position), clean_token: cleanTokens[position] };
    rows.push({ ...token, layer, head, metric, value: (metric - worst) / (best - worst) });
  }
  return analysisTable("patching_sweep", SCHEMA, rows, {
    meaning: "how much of the clean run comes back with one place of it",
    model: clean.meta.model,
    point: kind,
    metric_clean: best,
    metric_corrupted: worst,
    complete: `${rows.length === cells.length}`,
  });
}
