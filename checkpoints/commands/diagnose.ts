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
      console.log(
        json
          ? JSON.stringify(diagnosisJson(nameOrPath, diagnosis, mended))
          : diagnosisText(nameOrPath, diagnosis, { mended, layers }),
      );
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
  const { loss, foretells, found, trials, undecidable, untried } = diagnosis;
  return {
    model,
    loss,
    foretells,
    found: found ? { ...trialJson(found), ...CAUSES[found.cause] } : null,
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
  { loss, foretells, found, trials, undecidable, untried }: Diagnosis,
  { mended, layers }: { readonly mended?: string; readonly layers: boolean },
): string {
  const lines = [`${model}: loss ${figure(loss)} nats per token of a fixed text`];
  if (found) {
    const { meaning, look } = CAUSES[found.cause];
    lines.push(
      `cause: ${found.cause}: ${meaning}`,
      `  undone: ${found.detail}: loss ${figure(found.loss)} instead of ${figure(loss)}`,
      `  look at: ${look}`,
      mended === undefined
        ? "  mend it: --mend OUT writes the file with this undone"
        : `mended: ${mended}`,
    );
    return lines.join("\n");
  }
  lines.push(
    foretells
      ? `no known fault found: none of ${trials.length} undos restores a better loss`
      : "no known fault found, but that says little: the file foretells the text hardly better than chance, and undoing " +
        "faults changes nothing about it. It knows another language, or has a fault that is not known here",
  );
  if (undecidable.length > 0) {
    const rows = undecidable.map(({ cause, detail, loss }) => [cause, detail, figure(loss)]);
    lines.push(
      "cannot be told from the loss, which stays about the same when they are undone:",
      formatTable(rows.map((row) => row.map((cell, i) => i === 0 ? `  ${cell}` : cell)), "llr"),
    );
  }
  if (untried.length > 0) {
    const list = untried.map(({ detail }) => detail).join("; ");
    lines.push(`not tried, since it takes too much memory: ${list}`);
  }
  if (!layers) lines.push("a fault in one layer only: --layers looks for it");
  return lines.join("\n");
}

function figure(loss: number | undefined): string {
  return loss === undefined || Number.isNaN(loss) ? "not a number" : loss.toFixed(3);
}

if (import.meta.main) await runCommand(diagnoseCommand);
