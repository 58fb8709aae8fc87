/** What is wrong with a file, as people ask for it in a notebook: one call, and a report that shows itself and has a table. */
import { analysisTable, type Row } from "../../../inspect/analyses/analysis_table.ts";
import type { Table } from "../../../inspect/tables/arrow.ts";
import { formatTable } from "../../../inspect/format.ts";
import type { LoadModelOptions } from "../../../inspect/run/loading.ts";
import type { Model } from "../../../inspect/run/model.ts";
import { previewBundle } from "../../../inspect/tables/html.ts";
import { longWork, type WorkOptions } from "../../../inspect/work.ts";
import { CAUSES } from "../causes.ts";
import { allUndos, diagnoseFile, type Diagnosis, type Trial } from "./diagnose.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { type Alteration, alteredFile, joined } from "../../files/altered_file.ts";
import { layoutUndos } from "./layout_undos.ts";
import { isItself, writeAltered } from "../../files/mended_file.ts";
import { openModel } from "../../files/model_argument.ts";
import { printable } from "../../../inspect/escape.ts";

/** How {@linkcode diagnose} looks. */
export interface DiagnoseRequest extends WorkOptions, Pick<LoadModelOptions, "backend" | "tune"> {
  /** Undoes faults in each layer by itself too: slow. */
  readonly everyLayer?: boolean;
}

/** The fault that was found. */
export interface FoundFault {
  /** The known cause: `qk-permuted`. */
  readonly cause: string;
  /** What that is, in one line. */
  readonly meaning: string;
  /** What was undone. */
  readonly detail: string;
  /** Nats per token of a fixed text with the fault undone. */
  readonly loss: number;
  /** By which share undoing it lowers the loss of all texts. */
  readonly gain: number;
  /** What to look at. */
  readonly look: string;
}

const TRIALS = {
  outcome: "utf8",
  cause: "utf8",
  detail: "utf8",
  loss: "float64",
  gain: "float64",
} as const;

/** What a diagnosis found: shows itself in a notebook and in a terminal. */
export class DiagnosisReport {
  readonly #source: Model | string;
  readonly #request: DiagnoseRequest;

  /** Use {@linkcode diagnose}. */
  constructor(
    source: Model | string,
    request: DiagnoseRequest,
    /**
     * All of it, as commands want it.
     *
     * @internal
     */
    readonly diagnosis: Diagnosis,
    /** The model's name. */
    readonly model: string,
  ) {
    this.#source = source;
    this.#request = request;
  }

  /** Nats per token of a fixed text, of the file as it is. */
  get loss(): number {
    return this.diagnosis.loss;
  }

  /** Whether the file as it is foretells the texts better than by chance. */
  get foretells(): boolean {
    return this.diagnosis.foretells;
  }

  /** The fault whose undoing makes the file a healthy one; undefined where none does, or several that are not the same thing. */
  get found(): FoundFault | undefined {
    return faultOf(this.diagnosis.found);
  }

  /** A second fault that is there besides: its `loss` is that with both undone. */
  get also(): FoundFault | undefined {
    return faultOf(this.diagnosis.also);
  }

  /**
   * Everything that was tried, as an Arrow table: `cause`, `detail`, `loss` (nats per token of a fixed text with it undone; null
   * where a few words ruled it out) and `gain` (the share by which the loss of all texts falls). `outcome` is `found`, `as good`,
   * `tied` (as good as others, so that none is named), `improves` (what is left is no healthy model's), `undecidable` (the loss stays
   * where it is), `rejected` (it restores nothing), `ruled out` or `not tried` (too little memory).
   */
  table(): Table {
    const { found, also, alternatives, tied, improved, undecidable, trials, untried } =
      this.diagnosis;
    const outcome = (trial: Trial) =>
      trial === found || trial === also
        ? "found"
        : tied.includes(trial)
        ? "tied"
        : improved.includes(trial)
        ? "improves"
        : alternatives.includes(trial)
        ? "as good"
        : undecidable.includes(trial)
        ? "undecidable"
        : trial.loss === undefined
        ? "ruled out"
        : "rejected";
    const rows: Row<typeof TRIALS>[] = [
      ...[...also ? [also] : [], ...trials].map((trial) => {
        const { cause, detail, loss = null, gain } = trial;
        return { outcome: outcome(trial), cause, detail, loss, gain };
      }),
      ...untried.map(({ cause, detail }) => ({
        outcome: "not tried",
        cause,
        detail,
        loss: null,
        gain: null,
      })),
    ];
    return analysisTable("diagnosis", TRIALS, rows, {
      meaning: `faults undone in ${this.model}; as it is, ${figure(this.loss)} nats per token`,
      model: this.model,
      loss: this.loss,
    });
  }

  /**
   * Writes the file with the fault undone.
   *
   * @throws {RangeError} where no fault was found, and for the path of the file itself
   * @throws {ModelError} when it cannot be written
   */
  async mend(path: string, options: WorkOptions = {}): Promise<void> {
    const { found, also } = this.diagnosis;
    if (!found) throw new RangeError("Cannot mend: no fault was found");
    using loaded = await openModel(this.#source, { ...options, backend: this.#request.backend });
    if (await isItself(loaded.found, path)) {
      throw new RangeError(`Cannot mend: ${path} is the file itself`);
    }
    // The file that the diagnosis read may be closed by now.
    let alteration: Alteration = {};
    for (const { cause, detail, layer } of also ? [found, also] : [found]) {
      const file = alteredFile(loaded.file, alteration);
      const everyLayer = layer !== undefined;
      const { signal } = options;
      const undos = await allUndos(file, readConfig(file), { everyLayer, signal });
      const undo = [...undos.flat(), ...layoutUndos(file)].find((each) =>
        each.cause === cause && each.detail === detail
      )!;
      alteration = joined(alteration, undo.alteration);
    }
    await writeAltered(loaded, alteration, path, options);
  }

  /** The lines for people. */
  toString(): string {
    const { everyLayer: layers = false } = this.#request;
    return diagnosisText(this.model, this.diagnosis, { layers, advice: LIBRARY_ADVICE });
  }

  /** What a notebook cell shows: what was found, and the likeliest faults undone. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    const { found, foretells } = this;
    const preview = this.table().preview();
    const meaning = found
      ? `${found.cause}: ${found.meaning}`
      : this.diagnosis.tied.length > 0
      ? "no cause is named: undoing different faults mends it about equally"
      : foretells
      ? "no known fault found"
      : "cannot be judged";
    const facts = [`${figure(this.loss)} nats per token of a fixed text as it is`];
    if (found) facts.push(`${figure(found.loss)} with ${found.detail}`);
    const notes = found ? [`look at: ${found.look}`] : `${this}`.split("\n").slice(1, 2);
    return previewBundle({ ...preview, title: this.model, meaning, facts, notes }, `${this}`);
  }

  /** What `console.log` shows. */
  [Symbol.for("Deno.customInspect")](): string {
    return `${this}`;
  }
}

/**
 * Finds out what is wrong with a file, without a reference: how well it foretells fixed texts, then the same with each known fault
 * undone. A fault that one undoes lowers the loss as nothing else can.
 *
 * @param model a loaded one, or its name or path
 * @throws {UnknownModelError | PullError | GgufError | DeviceError | DisposedError | TokenizerError}
 */
export async function diagnose(
  model: Model | string,
  options: DiagnoseRequest = {},
): Promise<DiagnosisReport> {
  return await longWork("Diagnosing", options, async (options) => {
    using loaded = await openModel(model, options);
    const diagnosis = await diagnoseFile(loaded.file, loaded.engine, options);
    return new DiagnosisReport(model, options, diagnosis, loaded.found.name);
  });
}

/** What a report says besides what was found. */
interface DiagnosisTextOptions {
  /** Path of the file with the fault undone. */
  readonly mended?: string;
  /** Whether faults in each layer by itself were undone. */
  readonly layers: boolean;
  /** How the next steps are asked for. */
  readonly advice?: { readonly mend: string; readonly layers: string };
}

/** Undos that lower the loss and mend nothing, of which is told. */
const MOST_IMPROVED = 3;

const COMMAND_ADVICE = { mend: "--mend OUT", layers: "--layers" };
const LIBRARY_ADVICE = { mend: "report.mend(path)", layers: "everyLayer: true" };

/** The lines for people. */
export function diagnosisText(
  model: string,
  diagnosis: Diagnosis,
  { mended, layers, advice = COMMAND_ADVICE }: DiagnosisTextOptions,
): string {
  const { loss, foretells, found, also, alternatives, tied, improved } = diagnosis;
  const { trials, undecidable, untried } = diagnosis;
  const lines = [`${printable(model)}: ${figure(loss)} nats per token of a fixed text`];
  if (found) {
    lines.push(
      ...also ? ["two faults, each of which is there with the other undone"] : [],
      ...foundLines(found),
      ...alternatives.map(({ loss, detail }) => `as good: ${figure(loss)} nats with ${detail}`),
      ...also ? foundLines(also) : [],
      mended === undefined
        ? `${advice.mend} writes the file with ${also ? "both" : "this"} undone`
        : `mended: ${printable(mended)}; diagnose it again: there may be another fault`,
    );
  } else if (tied.length > 0) {
    lines.push(
      "no cause is named: undoing different faults restores the loss about equally",
      table(tied),
    );
  } else if (foretells) {
    lines.push(
      `no known fault found: undoing them ${improved.length > 0 ? "mends" : "restores"} nothing`,
    );
  } else {
    lines.push(
      "cannot judge: the file foretells the text hardly better than chance, whatever is undone. It knows another language, " +
        "or has a fault that is not known here",
    );
  }
  const said = improved.slice(0, MOST_IMPROVED);
  lines.push(
    ...said.map((each) =>
      `undoing ${each.cause} (${each.detail}) lowers the loss from ${figure(loss)} to ${
        figure(each.loss)
      }, ${each.but}`
    ),
  );
  if (undecidable.length > 0) {
    lines.push(
      "",
      "cannot be told from the loss, which undoing does not raise:",
      table(undecidable),
    );
  }
  const named = [found, also, ...alternatives, ...tied, ...said, ...undecidable];
  const others = trials.filter((each) => !named.includes(each));
  const tried = others.filter(({ loss }) => loss !== undefined);
  if (tried.length > 0) lines.push("", "other faults undone:", table(tried));
  const rest = others.length - tried.length;
  if (rest > 0) lines.push("", `${rest} more undos are ruled out by a shorter text`);
  if (untried.length > 0) {
    lines.push(
      "",
      "not tried, for lack of memory:",
      ...untried.map(({ cause, detail }) => `  ${cause}  ${detail}`),
    );
  }
  if (!found && !layers) lines.push("", `for a fault in one layer only: ${advice.layers}`);
  return lines.join("\n");
}

function faultOf(trial: Trial | undefined): FoundFault | undefined {
  if (!trial) return undefined;
  const { cause, detail, loss = NaN, gain } = trial;
  const { meaning, look } = CAUSES[cause];
  return { cause, meaning, detail, loss, gain, look };
}

function foundLines({ cause, detail, loss }: Trial): string[] {
  const { meaning, look } = CAUSES[cause];
  return [
    `cause: ${cause}: ${meaning}`,
    `undone: ${figure(loss)} nats with ${detail}`,
    `look at: ${look}`,
  ];
}

function table(trials: readonly Trial[]): string {
  return formatTable(
    trials.map(({ loss, cause, detail }) => [`  ${figure(loss)}`, cause, detail]),
    "rll",
  );
}

function figure(loss: number | undefined): string {
  return loss === undefined || Number.isNaN(loss) ? "NaN" : loss.toFixed(3);
}
