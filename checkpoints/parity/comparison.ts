/** The thirteen checkpoints of a model against a reference: both verdicts, in prompts and while decoding. */
import { comparedSteps, type ParityCase, type ParityOptions } from "./cases.ts";
import { layerOf } from "../../base/layer_names.ts";
import type { Engine } from "../../engine/backend.ts";
import { planValues } from "../../engine/plan/plan.ts";
import { compareTensors, type Difference, localAllowance } from "./compare.ts";
import { cacheBefore } from "./cache.ts";
import { type Checkpoint, checkpointOf, CHECKPOINTS, isCompared } from "./contract.ts";
import { checkComplete, checkEnd, checkWritten, type ParityCheck } from "./checks.ts";
import { type Judge, localValues } from "./local.ts";
import { checkSampler } from "./sampler.ts";
import {
  activationsOf,
  type Provenance,
  type Reference,
  type ReferencePass,
  type ReferenceRequest,
  type ReferenceRun,
} from "../references/reference.ts";
import { isRounded } from "./rounded_engines/rounding.ts";
import { judgeOf } from "./judge.ts";
import type { Beginning } from "./beginning/structure.ts";
import { ownRun, pointSize } from "./lamina.ts";

/** A tensor in a few numbers; hidden keys left out. */
export interface Summary {
  readonly mean: number;
  readonly rms: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
}

/** One point of one pass, compared. */
export interface ParityRow {
  readonly case: string;
  /** 0 for the prompt, n for the pass that ran the n-th generated token. */
  readonly step: number;
  readonly point: string;
  readonly checkpoint: string;
  /** Place in the order of computation. */
  readonly order: number;
  readonly shape: readonly number[];
  readonly summary: Summary;
  /** Of the worst chunk of the pass; undefined where the reference does not show the point. */
  readonly local?: Difference;
  readonly cumulative?: Difference;
  /** Our and the reference's root-mean-square distance to the oracle, where it ran. */
  readonly oracle?: { readonly ours: number; readonly reference?: number };
}

/** A checkpoint's outcome. */
export interface CheckpointResult {
  readonly checkpoint: Checkpoint;
  readonly status: "pass" | "fail" | "skipped";
  /** Why it was skipped: `vacuous`, `not shown`, `not judged`. */
  readonly why?: string;
  /** The row that takes most of what is allowed it, by the verdict that counts; what is inherited from earlier steps left out. */
  readonly worst?: ParityRow;
  readonly verdict?: Difference;
  readonly failedChecks: readonly ParityCheck[];
}

/** Everything that a comparison with one reference found. */
export interface ParityResult {
  readonly provenance: Provenance;
  readonly passed: boolean;
  readonly checkpoints: readonly CheckpointResult[];
  readonly rows: readonly ParityRow[];
  readonly checks: readonly ParityCheck[];
  /** What is not there, and what else is to be known in front of the numbers: a line each. */
  readonly absent: readonly string[];
  readonly notes: readonly string[];
  /** The first point, in the order of computation, that leaves its tolerance. */
  readonly first?: ParityRow;
  /** What the reference chose and what we chose, step by step. */
  readonly choices: readonly CaseChoices[];
  /** Our RMS error to the oracle as a ratio to the reference's, over all points and prompts where it ran. */
  readonly ratio?: { readonly median: number; readonly p95: number; readonly points: number };
}

/** Greedy choices of one case. */
export interface CaseChoices {
  readonly case: string;
  readonly ours: readonly number[];
  readonly reference: readonly number[];
  readonly margins: readonly number[];
}

/** Generated tokens that the oracle runs too. */
const MOST_ORACLE_STEPS = 8;
/** Bytes of the reference's tensors that are in memory at one time, about. */
const WINDOW_BYTES = 640 * 2 ** 20;

/**
 * Compares an engine with a reference over some prompts, layer by layer so that memory stays bounded.
 *
 * @param before what is known already; where the models end differently, what comes after the blocks is not compared
 * @throws {ReferenceFailure} when the reference fails
 */
export async function compareEngines(
  engine: Engine,
  reference: Reference,
  cases: readonly ParityCase[],
  options: ParityOptions = {},
  before?: Beginning,
): Promise<ParityResult> {
  const { provenance } = reference;
  const endsAlike = before === undefined || before.comparable === "all";
  const rows: ParityRow[] = [];
  const checks: ParityCheck[] = [...before?.checks ?? []];
  const choices: CaseChoices[] = [];
  const total = cases.reduce((sum, each) => sum + windows(engine, each, options.layers).length, 0);
  let done = 0;
  for (const each of cases) {
    let forced = each.forced ?? [];
    if (reference.needsForcedIds && forced.length < each.generate) {
      forced = (await ownRun(engine, { ...each, steps: [], points: [] }, provenance.rope)).ids;
    }
    for (const layers of windows(engine, each, options.layers)) {
      options.onProgress?.(done++, total, `${each.name}: layers ${layers[0]} to ${layers[1]}`);
      const all = requestFor(engine, each, layers, forced, options.signal);
      const isKept = (point: string) =>
        endsAlike || layerOf(point) !== undefined || point === "token_embd";
      const request = { ...all, points: all.points.filter(isKept) };
      const theirs = await reference.run(request);
      const ids = theirs.ids.length > 0 ? theirs.ids : forced;
      const ours = await ownRun(engine, { ...request, forced: ids }, provenance.rope);
      const exact = each.oracle
        ? await options.oracle?.run({ ...oracleRequest(request), forced: ids })
        : undefined;
      rows.push(
        ...await comparePasses(engine, each, layers, { theirs, ours, exact }, provenance, options),
      );
      checks.push(...checkWritten(each.name, ours, engine.plan));
      const isLast = layers[1] === engine.config.layers - 1;
      if (isLast && endsAlike) {
        if (!options.localOnly) checks.push(...checkComplete(each, request, theirs));
        checks.push(...await checkEnd(engine, each, theirs, ours, provenance, options));
        if (each === cases[0]) checks.push(...await checkSampler(reference, each, ours));
        choices.push({
          case: each.name,
          ours: ours.ids,
          reference: theirs.ids,
          margins: theirs.margins,
        });
      }
      if (theirs.ids.length > 0) forced = theirs.ids;
    }
  }
  rows.sort((a, b) =>
    caseOrder(cases, a) - caseOrder(cases, b) || a.step - b.step || a.order - b.order
  );
  const results = CHECKPOINTS.map((checkpoint) => outcomeOf(checkpoint, rows, checks, cases));
  return {
    provenance,
    passed: results.every(({ status }) => status !== "fail"),
    checkpoints: results,
    rows,
    checks,
    absent: before?.absent ?? [],
    notes: [...before?.notes ?? [], ...driftNotes(provenance, cases, options)],
    first: firstFailure(rows),
    choices,
    ratio: errorRatio(rows),
  };
}

/** Prompts in which only single operations are judged, since the reference rounds on the way and the oracle does not go along. */
function driftNotes(
  { name, halves }: Provenance,
  cases: readonly ParityCase[],
  options: ParityOptions,
): string[] {
  if (halves === undefined || options.localOnly) return [];
  const alone = cases.filter((each) => !(each.oracle && options.oracle));
  return alone.map((each) =>
    `${each.name}: ${name} rounds ${
      halves.join(", ")
    } to 16 bits, and ${each.ids.length} tokens are too many ` +
    "for the oracle: each operation is judged, not what its rounding adds up to"
  );
}

function caseOrder(cases: readonly ParityCase[], row: ParityRow): number {
  return cases.findIndex(({ name }) => name === row.case);
}

/** The first row that fails by the verdict that counts; where none does, the first that fails cumulatively. */
function firstFailure(rows: readonly ParityRow[]): ParityRow | undefined {
  return rows.find(({ local }) => local?.passed === false) ??
    rows.find(({ cumulative }) => cumulative?.passed === false);
}

/** The verdict that decides about a row: the local one, unless an error crept in that no step is to blame for. */
export function verdictOf(row: ParityRow, rows: readonly ParityRow[]): Difference | undefined {
  const { local, cumulative } = row;
  if (cumulative?.passed !== false || local?.passed === false) return local ?? cumulative;
  return inherits(row, rows) ? local : cumulative;
}

/** Whether what a row is off by cumulatively comes from an earlier step, which is to blame. Rows are in the order of computation. */
function inherits(row: ParityRow, rows: readonly ParityRow[]): boolean {
  const blamed = rows.findIndex(({ local }) => local?.passed === false);
  return blamed >= 0 && blamed < rows.indexOf(row);
}

/** Layers are compared in windows of such a size that the reference's tensors fit. */
function windows(
  engine: Engine,
  { ids, generate }: ParityCase,
  asked?: readonly [number, number],
): [number, number][] {
  const [first, last] = asked ?? [0, engine.config.layers - 1];
  const T = ids.length;
  let bytes = 0;
  for (const point of planValues(engine.plan).keys()) {
    if (layerOf(point) === first) bytes += 4 * pointSize(engine, point, T, T + generate);
  }
  const size = Math.max(1, Math.floor(WINDOW_BYTES / bytes));
  const found: [number, number][] = [];
  for (let layer = first; layer <= last; layer += size) {
    found.push([layer, Math.min(last, layer + size - 1)]);
  }
  return found;
}

function requestFor(
  engine: Engine,
  each: ParityCase,
  [first, last]: readonly [number, number],
  forced: readonly number[],
  signal?: AbortSignal,
) {
  const points = [...planValues(engine.plan).keys()].filter((point) => {
    if (!isCompared(point)) return false;
    const layer = layerOf(point);
    if (layer !== undefined) {
      return (layer >= first && layer <= last) || point === `blk.${first - 1}.out`;
    }
    return point === "token_embd" ? first === 0 : last === engine.config.layers - 1;
  });
  const { ids, generate } = each;
  return { ids, generate, forced, steps: comparedSteps(each), points, signal };
}

/** The oracle keeps no cache and pays for every token, so that it goes along for the first steps only. */
function oracleRequest(request: ReferenceRequest): ReferenceRequest {
  const generate = Math.min(request.generate, MOST_ORACLE_STEPS);
  const capacity = request.ids.length + request.generate;
  return {
    ...request,
    capacity,
    generate,
    steps: request.steps.filter((step) => step <= generate),
  };
}

interface Runs {
  readonly theirs: ReferenceRun;
  readonly ours: ReferenceRun;
  readonly exact?: ReferenceRun;
}

/** Both verdicts for every point of every pass of a window. */
async function comparePasses(
  engine: Engine,
  { name, ids, generate: following }: ParityCase,
  layers: readonly [number, number],
  { theirs, ours, exact }: Runs,
  { rope, activations, halves }: Provenance,
  { weights, file, localOnly = isRounded(activations), signal }: ParityOptions,
): Promise<ParityRow[]> {
  const capacity = ids.length + following;
  // Where the oracle does not go along any more, the reference's own errors in earlier passes are known.
  const before = new Map<string, number>();
  const { plan, config } = engine;
  const judge = judgeOf({ activations, halves }, { weights, file }, { plan, config, rope });
  const order = new Map([...planValues(engine.plan).keys()].map((point, i) => [point, i]));
  // Of a reference that rounds on the way only the oracle knows how far that carries.
  const drifts = halves !== undefined && !exact;
  const rows: ParityRow[] = [];
  for (const pass of ours.passes) {
    signal?.throwIfAborted();
    const reference = theirs.passes.find(({ step }) => step === pass.step);
    const oracle = exact?.passes.find(({ step }) => step === pass.step);
    const local = reference
      ? await localDifferences(engine, theirs.passes, reference, rope, layers, judge, capacity)
      : new Map<string, Difference>();
    for (const [point, tensor] of pass.tensors) {
      // What stands in front of the window was compared in the one before.
      const layer = layerOf(point);
      if (layer !== undefined && layer < layers[0]) continue;
      if (point === "probs") continue; // judged by our own logits: checkpoint 11
      const theirTensor = reference?.tensors.get(point);
      const exactTensor = oracle?.tensors.get(point);
      const { start } = pass;
      const base = localAllowance(
        point,
        theirTensor ? activationsOf(point, { activations, halves }) : "f32",
      );
      const theirError = theirTensor && exactTensor &&
        compareTensors(point, theirTensor, exactTensor, base, start);
      const atLeast = weights?.differ || ((localOnly || drifts) && local.has(point))
        ? Infinity
        : theirError
        ? 4 * theirError.maxError
        : 4 * (before.get(point) ?? 0);
      const allowance = { ...base, atLeast };
      // Where the reference does not show a point, the oracle is the reference.
      const against = theirTensor ?? exactTensor;
      if (!against) continue;
      const cumulative = compareTensors(point, tensor, against, allowance, start);
      const ownError = exactTensor && against !== exactTensor
        ? compareTensors(point, tensor, exactTensor, base, start)
        : cumulative;
      if (theirError) before.set(point, Math.max(theirError.maxError, before.get(point) ?? 0));
      if (localOnly && pass.step === 0) before.set(point, cumulative.maxError);
      rows.push({
        case: name,
        step: pass.step,
        point,
        checkpoint: checkpointOf(point).id,
        order: order.get(point)!,
        shape: tensor.shape,
        summary: summarize(tensor.data),
        local: local.get(point),
        cumulative,
        oracle: exactTensor && { ours: ownError.rms, reference: theirError?.rms },
      });
    }
  }
  return rows;
}

const SAMPLES = 8;
/** Scores of hidden keys are below this. */
const HIDDEN = -1e29;

function summarize(data: Float32Array | Float64Array): Summary {
  let [sum, squares, min, max, count] = [0, 0, Infinity, -Infinity, 0];
  for (const value of data) {
    if (value < HIDDEN) continue;
    sum += value;
    squares += value * value;
    if (value < min) min = value;
    if (value > max) max = value;
    count++;
  }
  const samples = Array.from(data.subarray(0, SAMPLES));
  return { mean: sum / count, rms: Math.sqrt(squares / count), min, max, samples };
}

/** The local verdict of every point that a reference's pass shows; of the worst chunk, where a pass is several. */
async function localDifferences(
  engine: Engine,
  passes: readonly ReferencePass[],
  pass: ReferencePass,
  rope: Provenance["rope"],
  layers: readonly [number, number],
  judge: Judge,
  capacity: number,
): Promise<Map<string, Difference>> {
  const found = new Map<string, Difference>();
  const told = { ...pass, before: cacheBefore(pass, passes, engine.plan) };
  for await (const value of localValues(engine, told, rope, layers, capacity)) {
    const { point } = value;
    const judged = await judge(value, told);
    const other = found.get(point);
    if (!other || judged.share > other.share) found.set(point, judged);
  }
  return found;
}

/** A checkpoint's outcome, from its rows and checks. */
function outcomeOf(
  checkpoint: Checkpoint,
  rows: readonly ParityRow[],
  checks: readonly ParityCheck[],
  cases: readonly ParityCase[],
): CheckpointResult {
  const own = rows.filter((row) => row.checkpoint === checkpoint.id);
  const ownChecks = checks.filter((check) => check.checkpoint === checkpoint.id);
  const failedChecks = ownChecks.filter(({ passed }) => !passed);
  const [worst, verdict] = own.reduce<[ParityRow?, Difference?]>((found, row) => {
    const own = verdictOf(row, rows);
    return own && own.share > (found[1]?.share ?? -1) ? [row, own] : found;
  }, []);
  const failed = failedChecks.length > 0 || own.some((row) => row.local?.passed === false) ||
    own.some((row) => row.cumulative?.passed === false && !inherits(row, rows));
  if (failed) return { checkpoint, status: "fail", worst, verdict, failedChecks };
  if (own.length === 0 && ownChecks.length === 0) {
    return { checkpoint, status: "skipped", why: "not shown", failedChecks };
  }
  if (ownChecks.every(({ judged }) => judged === false) && !own.some(isJudged)) {
    return { checkpoint, status: "skipped", why: "not judged", worst, verdict, failedChecks };
  }
  // Positions that a case reaches, decoding included.
  const longest = Math.max(...cases.map(({ ids, generate }) => ids.length + generate));
  if (longest < checkpoint.positions) {
    return { checkpoint, status: "skipped", why: "vacuous", worst, verdict, failedChecks };
  }
  return { checkpoint, status: "pass", worst, verdict, failedChecks };
}

/** Whether a row could have failed: not where the inputs of rounded weights are hidden, or where what adds up is only reported. */
function isJudged({ local, cumulative }: ParityRow): boolean {
  return local ? local.rounding?.measure !== "unknown" : cumulative!.allowed < Infinity;
}

/** Ratios of RMS errors to the oracle, ours to the reference's; points that the reference has exactly are left out. */
function errorRatio(rows: readonly ParityRow[]): ParityResult["ratio"] {
  const ratios = rows.flatMap(({ oracle }) =>
    oracle?.reference ? [oracle.ours / oracle.reference] : []
  ).sort((a, b) => a - b);
  if (ratios.length === 0) return undefined;
  const at = (share: number) =>
    ratios[Math.min(ratios.length - 1, Math.floor(share * ratios.length))];
  return { median: at(0.5), p95: at(0.95), points: ratios.length };
}
