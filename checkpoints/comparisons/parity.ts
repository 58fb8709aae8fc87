/** A comparison as people use it in a notebook: one call, and a report that shows itself and has tables. */
import { layerOf } from "../../base/layer_names.ts";
import { previewBundle } from "../../inspect/tables/html.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import type { Loaded } from "../../inspect/run/loading.ts";
import type { Model } from "../../inspect/run/model.ts";
import { onePrompt, type Prompt } from "../../inspect/run/prompt.ts";
import type { Preview } from "../../inspect/tables/preview.ts";
import { longWork } from "../../inspect/work.ts";
import { compareBeginnings } from "./beginning.ts";
import type { Beginning } from "../parity/beginning/structure.ts";
import { firstDivergence } from "../diagnosis/first_divergence.ts";
import { openModel } from "../files/model_argument.ts";
import { asCompared, type ComparisonOptions, type Setup, setUp } from "./setup.ts";
import {
  compareEngines,
  type ParityResult,
  type ParityRow,
  verdictOf,
} from "../parity/comparison.ts";
import { comparedSteps, type ParityCase } from "../parity/cases.ts";
import { foundationFault } from "../parity/checks.ts";
import type { ElementPlace } from "../parity/compare.ts";
import type { OperationEvidence } from "../parity/divergence/evidence.ts";
import { recompute, type Recomputed } from "../parity/divergence/recompute.ts";
import { checkpointTable, parityTable } from "../parity/reports/tables.ts";
import { OtherModelFailure, type Provenance } from "../references/reference.ts";
import {
  beginningLines,
  checkpointRows,
  divergenceLines,
  failedVerdict,
  type FirstDivergence,
  ratioLine,
  reportText,
} from "../parity/reports/report.ts";
import {
  type PairOptions,
  readPair,
  type TensorPair,
  type Verdict,
} from "../parity/tensor_pair.ts";

/** How {@linkcode parity} compares. */
export interface ParityRequest extends ComparisonOptions {
  /** First and last layer to compare; all by default. */
  readonly layers?: readonly [first: number, last: number];
}

/** A model and what it is compared with. */
type BothSides = { readonly model: Loaded; readonly setup: Setup } & AsyncDisposable;

/** The first thing that went wrong, and why. */
export interface Divergence {
  /** The checkpoint that it belongs to: `2`. */
  readonly checkpoint: string;
  /** `blk.3.q`; `token ids` where already those differ. */
  readonly point: string;
  /** Of the point; undefined outside of blocks. */
  readonly layer?: number;
  /** 0 in the prompt, n in the pass of the n-th generated token; undefined where no tensor was compared. */
  readonly step?: number;
  /** Absolute position of the worst number. */
  readonly position?: number;
  /** The known cause that explains the numbers; `unknown` where none does. */
  readonly cause: string;
  /** Which share of the difference goes when the cause is undone, from 0 to 1. */
  readonly explained: number;
  /** One line with the figures. */
  readonly detail: string;
  /** What to look at. */
  readonly look: string;
}

/** What a comparison found: shows itself in a notebook and in a terminal. */
export class ParityReport {
  readonly #model: string;
  readonly #reopen: () => Promise<BothSides>;

  /** Use {@linkcode parity}. */
  constructor(
    model: string,
    /**
     * All of it, as proofs and commands want it.
     *
     * @internal
     */
    readonly result: ParityResult,
    /**
     * The first thing that went wrong, with the row that shows it.
     *
     * @internal
     */
    readonly first: FirstDivergence | undefined,
    /**
     * What was run.
     *
     * @internal
     */
    readonly cases: readonly ParityCase[],
    /** Opens both sides again. */
    reopen: () => Promise<BothSides>,
  ) {
    this.#model = model;
    this.#reopen = reopen;
  }

  /** Whether no checkpoint failed. */
  get passed(): boolean {
    return this.result.passed;
  }

  /** What it was compared with: engine, version, device, weights. */
  get reference(): Provenance {
    return this.result.provenance;
  }

  /** What is not there, or not as the other side has it: layers, tensors, points, steps; a line each. */
  get absent(): readonly string[] {
    return this.result.absent;
  }

  /** What else is to be known in front of the numbers, such as metadata that differ; a line each. */
  get notes(): readonly string[] {
    return this.result.notes;
  }

  /** Our RMS error against the 64-bit oracle as a ratio to the reference's, over all points; undefined where the oracle did not run. */
  get ratio():
    | { readonly median: number; readonly p95: number; readonly points: number }
    | undefined {
    return this.result.ratio;
  }

  /** The first thing that went wrong, and why; undefined where nothing did. */
  get firstDivergence(): Divergence | undefined {
    const { first } = this;
    if (!first) return undefined;
    const { checkpoint, point, row, explanation } = first;
    const { cause, explained, detail, look } = explanation;
    return {
      checkpoint,
      point,
      layer: layerOf(point),
      step: row?.step,
      position: row && failedVerdict(row).place.position,
      cause,
      explained,
      detail,
      look,
    };
  }

  /**
   * What the operation that went wrong first read and made: its inputs as the reference has them, rows of its weights, what our kernels
   * make of these inputs and what the reference has, with all operations between what the reference shows and the point. Undefined
   * where no tensor went wrong, or the reference does not show what is needed.
   */
  divergenceTensors(): OperationEvidence | undefined {
    const evidence = this.first?.evidence;
    return evidence?.kind === "operation" ? evidence : undefined;
  }

  /**
   * Computes one number of the operation that went wrong first by its formula in 64-bit floats, with what goes into it: whose number is
   * right. Undefined where {@linkcode ParityReport.divergenceTensors} is.
   *
   * @param place another one than the worst, in part
   * @throws {RangeError} for a place that is not among the rows that were kept
   */
  recompute(place: Partial<ElementPlace> = {}): Recomputed | undefined {
    const evidence = this.divergenceTensors();
    return evidence && recompute(evidence, { ...evidence.place, ...place });
  }

  /**
   * Everything that was compared as an Arrow table: a row per case, step, point and verdict. `local` compares what our kernels make
   * of the reference's own inputs, `cumulative` each side's own run. `rms` is the root mean square of the difference; `error` and
   * `tolerance` are those of the number that takes most of what is allowed it (`share`; above 1 it failed), which stands at
   * `head`, `position` and `index`; `oracle_rms` is our distance to the 64-bit oracle, and `oracle_ratio` that as a ratio to the reference's.
   */
  table(): Table {
    return parityTable(this.#model, this.result);
  }

  /** The thirteen checkpoints as an Arrow table: `checkpoint`, `title`, `status` (pass, fail, skipped), its worst `point`, … */
  checkpointTable(): Table {
    return checkpointTable(this.#model, this.result);
  }

  /**
   * The tensor that takes most of what is allowed it, ours and the reference's: both sides run once more. Where nothing failed it is
   * one that the reference shows, whatever the oracle stood in for. Of one step or prompt where that is named.
   *
   * @throws {DisposedError} when the model was disposed
   * @throws {ReferenceFailure} when the reference fails
   * @throws {RangeError} where no tensor was compared
   */
  async worst(options: Pick<PairOptions, "step" | "case" | "signal"> = {}): Promise<TensorPair> {
    const [found] = this.result.rows.flatMap((row) => {
      const verdict = verdictOf(row, this.result.rows);
      return verdict && isMeant(row, options) ? [{ row, verdict }] : [];
    }).sort((a, b) =>
      Number(a.verdict.passed) - Number(b.verdict.passed) ||
      Number(b.row.local !== undefined) - Number(a.row.local !== undefined) ||
      b.verdict.share - a.verdict.share
    );
    if (!found) throw new RangeError("Cannot show the worst tensor: no tensor was compared");
    const { row, verdict } = found;
    return await this.#read(row, verdict === row.local ? "local" : "cumulative", options);
  }

  /**
   * A compared point, ours and the reference's as two matrices: both sides run once more. Of several passes and prompts the
   * one where it is worst.
   *
   * @throws {RangeError} for a point that was not compared
   * @throws {DisposedError | ReferenceFailure}
   */
  async pair(point: string, options: PairOptions = {}): Promise<TensorPair> {
    const rows = this.result.rows.filter((row) => row.point === point && isMeant(row, options));
    const verdict = (row: ParityRow) =>
      options.verdict === undefined ? failedVerdict(row) : row[options.verdict];
    const [row] = rows.filter(verdict).sort((a, b) => verdict(b)!.share - verdict(a)!.share);
    if (!row) {
      throw new RangeError(
        `Cannot show ${point}: it was not compared${
          rows.length > 0 ? " by that verdict" : ""
        }; table() lists what was`,
      );
    }
    const own = options.verdict ?? (failedVerdict(row) === row.local ? "local" : "cumulative");
    return await this.#read(row, own, options);
  }

  async #read(row: ParityRow, verdict: Verdict, { signal }: PairOptions): Promise<TensorPair> {
    await using open = await this.#reopen();
    const { model, setup: { reference, judging: { oracle } } } = open;
    const each = this.cases.find(({ name }) => name === row.case)!;
    const forced = this.result.choices.find((choices) => choices.case === row.case)?.reference;
    return await readPair(model, { reference, oracle }, {
      ...{ row, verdict, ids: each.ids, forced, steps: comparedSteps(each), signal },
    });
  }

  /** What is shown of it. */
  preview(): Preview {
    const { result, first } = this;
    const { name, version, device, weights } = result.provenance;
    const columns = ["checkpoint", "title", "status", "worst point", "outcome"]
      .map((name) => ({ name, type: "", numeric: false }));
    const ratio = ratioLine(result);
    return {
      title: `${this.#model} with ${name} ${version}`,
      meaning: result.passed ? "the same at all checkpoints" : "not the same",
      facts: [device, weights].filter(Boolean),
      columns,
      cells: checkpointRows(result),
      more: 0,
      notes: [
        ...beginningLines(result),
        ...ratio ? [ratio] : [],
        ...first ? divergenceLines(first) : [],
      ],
    };
  }

  /** The lines for people. */
  toString(): string {
    return reportText(this.result, this.first);
  }

  /** What a notebook cell shows: the thirteen checkpoints, and the first divergence. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return previewBundle(this.preview(), `${this}`);
  }

  /** What `console.log` shows. */
  [Symbol.for("Deno.customInspect")](): string {
    return `${this}`;
  }
}

/** Whether a row is of the step and the prompt that are named. */
function isMeant(row: ParityRow, { step, case: name }: PairOptions): boolean {
  return (step ?? row.step) === row.step && (name ?? row.case) === row.case;
}

/**
 * Compares a model's forward pass with a reference at thirteen checkpoints of every layer, in the prompt and while decoding; where one
 * fails, looks for the cause.
 *
 * ```ts
 * import { parity } from "../../mod.ts";
 * const report = await parity("tiny", "Hello", { reference: "oracle", layers: [0, 1], generate: 2 });
 * console.log(report.passed, report.table().numRows);
 * ```
 *
 * @param model a loaded one, which must stay loaded for {@linkcode ParityReport.worst} too, or its name or path
 * @param prompt a text or token ids; one of fewer than 48 tokens is joined by a longer one of ours, so that every checkpoint can fail.
 *   Default: the prompt of record, or the one that an engine's folder holds
 * @throws {ReferenceFailure} when the reference cannot be had or fails
 * @throws {RangeError} for a name of no reference, or layers that the model does not have
 * @throws {UnknownModelError | PullError | GgufError | DeviceError | DisposedError | PromptError}
 */
export async function parity(
  model: Model | string,
  prompt?: Prompt,
  options: ParityRequest = {},
): Promise<ParityReport> {
  return await longWork("Comparing", options, async (options) => {
    if (prompt !== undefined) onePrompt(prompt);
    const open = async (following: ComparisonOptions) => {
      await using stack = new AsyncDisposableStack();
      const own = stack.use(await openModel(model, following));
      const loaded = stack.use(await asCompared(own, following));
      const setup = stack.use(await setUp(loaded, prompt, following));
      const moved = stack.move();
      return { model: loaded, setup, [Symbol.asyncDispose]: () => moved.disposeAsync() };
    };
    await using both = await open(options);
    const { engine, file } = both.model;
    const { reference, cases, judging, other } = both.setup;
    const { signal, onProgress } = options;
    const layers = checkedLayers(options.layers, engine.config.layers);
    const before = await compareBeginnings(both.model, both.setup);
    const run = runnable(cases, before);
    const how = { layers, signal, onProgress, ...judging };
    const result = await compareEngines(engine, reference, run, how, before).catch((error) => {
      if (!(error instanceof OtherModelFailure)) throw error;
      return compareEngines(engine, reference, [], how, withoutNumbers(before, error));
    });
    let first: FirstDivergence | undefined;
    if (!result.passed) {
      onProgress?.(1, 1, "looking for the cause");
      const subject = { engine, file, other, judging };
      first = await firstDivergence(subject, reference, cases, result, signal);
    }
    // Whoever looks at a tensor later does not do so under this call's signal.
    const reopen = () => open({ ...options, signal: undefined, onProgress: undefined });
    const ran = new Set([...result.rows, ...result.checks].map((each) => each.case));
    const named = cases.filter(({ name }) => ran.has(name));
    return new ParityReport(both.model.found.name, result, first, named, reopen);
  });
}

/** What is known where the reference's tensors turn out to be of another model. */
function withoutNumbers(before: Beginning, { message }: Error): Beginning {
  return {
    ...before,
    checks: [...before.checks, foundationFault(message, "absent", "tensors")],
    absent: [...before.absent, message],
    comparable: "none",
  };
}

/** The cases as far as both sides can run them: a model that ends otherwise chooses other ids. */
function runnable(cases: readonly ParityCase[], { comparable }: Beginning): readonly ParityCase[] {
  if (comparable === "none") return [];
  return comparable === "all" ? cases : cases.map((each) => ({ ...each, generate: 0 }));
}

function checkedLayers(
  layers: ParityRequest["layers"],
  count: number,
): ParityRequest["layers"] {
  if (layers === undefined) return undefined;
  const [first, last] = layers;
  const isLayer = (layer: number) => Number.isInteger(layer) && layer >= 0 && layer < count;
  if (isLayer(first) && isLayer(last) && first <= last) return layers;
  throw new RangeError(
    `Cannot compare layers ${first} to ${last}: the model has 0 to ${count - 1}`,
  );
}
