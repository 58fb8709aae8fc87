/** `./denow task model diagnose`: what is wrong with a file, without a reference. */
import { choice, flag, text, UsageError } from "../../inspect/commands/args.ts";
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { createProgress, createStatus } from "../../inspect/commands/progress.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { load } from "../../inspect/run/loading.ts";
import { CAUSES } from "../diagnosis/causes.ts";
import type { Diagnosis, Trial } from "../diagnosis/without_reference/diagnose.ts";
import { diagnose, diagnosisText } from "../diagnosis/without_reference/report.ts";
import { isItself } from "../files/mended_file.ts";
import { coloured } from "../parity/reports/report.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";

/** The command; the exit code is 1 when a cause was found. */
export const diagnoseCommand = defineCommand({
  name: "./denow task model diagnose",
  summary:
    "Finds out what is wrong with a GGUF file, without a reference: the loss of fixed texts as the file is, and with " +
    "each known fault undone. Exit code 1 when undoing one makes the file a healthy one.",
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
    if (mend !== undefined && await isItself(found, mend)) {
      throw new UsageError("--mend would write over the file itself");
    }
    const progress = createProgress(`loading ${found.name}`, { quiet: json });
    const loaded = await load(nameOrPath, {
      backend,
      signal,
      onProgress: (_phase, done, total) => progress.update(done, total),
    }).finally(progress.finish);
    try {
      const status = createStatus({ quiet: json });
      const report = await diagnose(nameOrPath, {
        everyLayer: layers,
        backend,
        signal,
        onProgress: (done, total, what) => status.update(`${done + 1} of ${total}: ${what}`),
      }).finally(status.finish);
      const { diagnosis } = report;
      const mended = diagnosis.found && mend;
      if (mended !== undefined) {
        const writing = createProgress(`writing ${mended}`, { quiet: json });
        await report.mend(mended, { signal, onProgress: writing.update }).finally(writing.finish);
      }
      if (json) {
        printLine(jsonLine(diagnosisJson(nameOrPath, diagnosis, mended)));
      } else {
        const words = diagnosisText(nameOrPath, diagnosis, { mended, layers });
        const colours = Deno.stdout.isTerminal() && !Deno.noColor;
        printLine(colours ? coloured(words) : words);
        if (!diagnosis.found && mend !== undefined) {
          printError(`nothing to mend: no ${printable(mend)}`);
        }
      }
      return diagnosis.found ? EXIT.failed : EXIT.done;
    } finally {
      loaded.release();
    }
  },
});

/** What `--json` prints. */
export function diagnosisJson(model: string, diagnosis: Diagnosis, mended?: string) {
  const { loss, foretells, found, also, alternatives, tied, improved } = diagnosis;
  const { trials, undecidable, untried } = diagnosis;
  return {
    model,
    loss,
    foretells,
    found: found ? faultJson(found) : null,
    also: also ? faultJson(also) : null,
    alternatives: alternatives.map(trialJson),
    tied: tied.map(trialJson),
    improved: improved.map((each) => ({ ...trialJson(each), but: each.but })),
    undecidable: undecidable.map(trialJson),
    trials: trials.map(trialJson),
    untried: untried.map(({ cause, detail }) => ({ cause, detail })),
    mended: mended ?? null,
  };
}

function faultJson(found: Trial) {
  const { meaning, look } = CAUSES[found.cause];
  return { ...trialJson(found), meaning, look };
}

function trialJson({ cause, detail, loss, gain }: Trial) {
  return { cause, detail, loss: loss ?? null, gain };
}

if (import.meta.main) await runCommand(diagnoseCommand);
