/** `./denow task model diagnose`: what is wrong with a file, without a reference. */
import { resolve } from "node:path";
import { choice, flag, text, UsageError } from "../../inspect/commands/args.ts";
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { formatTable } from "../../inspect/commands/format.ts";
import { createProgress, createStatus } from "../../inspect/commands/progress.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { load } from "../../inspect/loading.ts";
import type { FoundModel } from "../../models/mod.ts";
import { CAUSES } from "../causes.ts";
import { diagnose, type Diagnosis, type Trial } from "../diagnose.ts";
import { writeChecked } from "../f32_copy.ts";
import { mendedContent } from "../mend.ts";
import { coloured } from "../report.ts";

/** The command; the exit code is 1 when a cause was found. */
export const diagnoseCommand = defineCommand({
  name: "./denow task model diagnose",
  summary:
    "Finds out what is wrong with a GGUF file, without a reference: the loss of fixed texts as the file is, and with " +
    "each known fault undone. Exit code 1 when undoing one restores the loss.",
  options: {
    mend: text("write the file with the fault undone", "OUT"),
    layers: flag("also undo faults in each layer by itself: slow"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  positionals: ["FILE|NAME"],
  async main({ options, positionals: [nameOrPath], signal }) {
    const { json, mend, layers, backend } = options;
    const found = await findOrPull(nameOrPath, { quiet: json, signal });
    if (mend !== undefined) await refuseItself(found, mend);
    const progress = createProgress(`loading ${found.name}`, { quiet: json });
    const loaded = await load(nameOrPath, {
      backend,
      signal,
      onProgress: (_phase, done, total) => progress.update(done, total),
    }).finally(progress.finish);
    try {
      const status = createStatus({ quiet: json });
      const diagnosis = await diagnose(loaded.file, loaded.engine, {
        everyLayer: layers,
        signal,
        onProgress: (done, total, what) => status.update(`${done + 1} of ${total}: ${what}`),
      }).finally(status.finish);
      const mended = diagnosis.found && mend;
      if (diagnosis.found && mended !== undefined) {
        const writing = createProgress(`writing ${mended}`, { quiet: json });
        await writeChecked(
          found.name,
          mended,
          mendedContent(loaded.file, diagnosis.found.alteration),
          {
            signal,
            onProgress: writing.update,
          },
        ).finally(writing.finish);
      }
      if (json) {
        console.log(JSON.stringify(diagnosisJson(nameOrPath, diagnosis, mended)));
      } else {
        const report = diagnosisText(nameOrPath, diagnosis, { mended, layers });
        const colours = Deno.stdout.isTerminal() && !Deno.noColor;
        console.log(colours ? coloured(report) : report);
        if (!diagnosis.found && mend !== undefined) console.error(`nothing to mend: no ${mend}`);
      }
      return diagnosis.found ? EXIT.failed : EXIT.done;
    } finally {
      loaded.release();
    }
  },
});

/** The file is read while the mended one is written. */
async function refuseItself({ path }: FoundModel, out: string): Promise<void> {
  if (path === undefined) return;
  const itself = await Deno.realPath(path);
  const target = await Deno.realPath(out).catch(() => resolve(out));
  if (target === itself) throw new UsageError("--mend would write over the file itself");
}

/** What `--json` prints. */
export function diagnosisJson(model: string, diagnosis: Diagnosis, mended?: string) {
  const { loss, foretells, found, alternatives, trials, undecidable, untried } = diagnosis;
  return {
    model,
    loss,
    foretells,
    found: found
      ? {
        ...trialJson(found),
        meaning: CAUSES[found.cause].meaning,
        look: CAUSES[found.cause].look,
      }
      : null,
    alternatives: alternatives.map(trialJson),
    undecidable: undecidable.map(trialJson),
    trials: trials.map(trialJson),
    untried: untried.map(({ cause, detail }) => ({ cause, detail })),
    mended: mended ?? null,
  };
}

function trialJson({ cause, detail, loss, gain }: Trial) {
  return { cause, detail, loss: loss ?? null, gain };
}

/** The lines for people. */
export function diagnosisText(
  model: string,
  { loss, foretells, found, alternatives, trials, undecidable, untried }: Diagnosis,
  { mended, layers }: { readonly mended?: string; readonly layers: boolean },
): string {
  const lines = [`${model}: ${figure(loss)} nats per token of a fixed text`];
  if (found) {
    const { meaning, look } = CAUSES[found.cause];
    lines.push(
      `cause: ${found.cause}: ${meaning}`,
      `undone: ${figure(found.loss)} nats with ${found.detail}`,
      ...alternatives.map(({ loss, detail }) => `as good: ${figure(loss)} nats with ${detail}`),
      `look at: ${look}`,
      mended === undefined
        ? "--mend OUT writes the file with this undone"
        : `mended: ${mended}; diagnose it again: there may be another fault`,
    );
  } else if (foretells) {
    lines.push("no known fault found: undoing them restores nothing");
  } else {
    lines.push(
      "cannot judge: the file foretells the text hardly better than chance, whatever is undone. It knows another language, " +
        "or has a fault that is not known here",
    );
  }
  if (undecidable.length > 0) {
    lines.push(
      "",
      "cannot be told from the loss, which undoing does not raise:",
      table(undecidable),
    );
  }
  const named = [found, ...alternatives, ...undecidable];
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
  if (!found && !layers) lines.push("", "for a fault in one layer only: --layers");
  return lines.join("\n");
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

if (import.meta.main) await runCommand(diagnoseCommand);
