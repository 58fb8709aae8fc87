/**
 * `./denow task model`: lists models, pulls and verifies them, shows what is in a file, and tells what is wrong with one.
 *
 * @module
 */
import { checkIsModel, otherContent } from "../../engine/model/hyperparameters.ts";
import { flag } from "../../inspect/commands/args.ts";
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { MODEL_COMMANDS, runModelTask } from "../../inspect/commands/named_models.ts";
import { printLine } from "../../inspect/commands/print.ts";
import { createProgress } from "../../inspect/commands/progress.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { openFound } from "../../inspect/run/loading.ts";
import { diffModels } from "../files/diff/diff.ts";
import { diagnoseCommand } from "./diagnose.ts";
import { ggufWeights, isSafetensors, openSafetensorsWeights } from "../files/weight_file.ts";
import type { WeightFile } from "../files/weight_file.ts";
import { diffJson, diffText } from "./model_diff.ts";
import { runSynth } from "./synth.ts";

const diff = defineCommand({
  name: "./denow task model diff",
  summary:
    "Compares the weights of B with those of A, which is what B should be: tensors that are " +
    "missing, renamed, transposed, permuted, scaled or damaged, and metadata that matters. GGUF, or " +
    "safetensors (a file, an index or a folder). Exit code 1 when something is out of its band.",
  options: { json: flag("print one line of JSON, with every tensor") },
  positionals: ["A", "B"],
  async main({ options: { json }, positionals, signal }) {
    const files: WeightFile[] = [];
    const progress = createProgress("comparing", { quiet: json });
    try {
      for (const each of positionals) files.push(await openWeights(each, json, signal));
      const [a, b] = files;
      // Two adapters may well be compared.
      if (otherContent(a.metadata) !== otherContent(b.metadata)) files.forEach(checkIsModel);
      // Progress is shown in bytes: of the numbers in 32 bits.
      const onProgress = (done: number, total: number) => progress.update(4 * done, 4 * total);
      const found = await diffModels(a, b, { signal, onProgress }).finally(progress.finish);
      printLine(json ? diffJson(found) : diffText(found));
      return found.passed ? EXIT.done : EXIT.failed;
    } finally {
      for (const file of files) file.close();
    }
  },
});

async function openWeights(
  nameOrPath: string,
  quiet: boolean,
  signal: AbortSignal,
): Promise<WeightFile> {
  if (await isSafetensors(nameOrPath)) return await openSafetensorsWeights(nameOrPath);
  return ggufWeights(await openFound(await findOrPull(nameOrPath, { quiet, signal })));
}

if (import.meta.main) {
  await runModelTask({
    ...MODEL_COMMANDS,
    diff: (args) => runCommand(diff, args),
    diagnose: (args) => runCommand(diagnoseCommand, args),
    synth: runSynth,
  });
}
