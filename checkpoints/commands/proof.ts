/**
 * `./denow task proof verify DIR`: checks a proof bundle; `recompute DIR`: computes the operation that went wrong first once more.
 *
 * @module
 */
import { flag, text, UsageError } from "../../inspect/commands/args.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { openGgufFile } from "../../engine/gguf/reader.ts";
import type { ElementPlace } from "../parity/compare.ts";
import type { OperationEvidence } from "../parity/divergence/evidence.ts";
import { withWeightsOf } from "../parity/divergence/weight_rows.ts";
import { recompute, recomputedJson } from "../parity/divergence/recompute.ts";
import { idsText, recomputedText } from "../parity/divergence/text.ts";
import { divergencesOf, verifyProof } from "../parity/reports/proof.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";

const command = defineCommand({
  name: "./denow task proof",
  summary:
    "verify DIR: whether a proof bundle is as it was written and says what its numbers say. " +
    "recompute DIR: the operation that went wrong first, in 64-bit floats from the bundle alone: whose number is right.",
  options: {
    place: text("another place than the worst", "head=0,position=3,index=5"),
    model: text("the model's GGUF file, for weights of which the bundle holds some rows", "FILE"),
    json: flag("print one line of JSON"),
  },
  positionals: ["verify|recompute", "DIR"],
  async main({ options, positionals: [word, folder] }) {
    if (word !== "verify" && word !== "recompute") {
      throw new UsageError(`unknown command ${JSON.stringify(word)}; did you mean verify ${word}?`);
    }
    const { json, place, model } = options;
    if (word === "verify" && (place !== undefined || model !== undefined)) {
      throw new UsageError("--place and --model belong to recompute");
    }
    const changes = place === undefined ? undefined : parsePlace(place);
    // Nothing is computed of what a bundle says before it is known that it fits together.
    const problems = await verifyProof(folder);
    const verified = problems.length === 0;
    if (!verified || word === "verify") {
      if (json) printLine(jsonLine({ folder, verified, problems }));
      else if (verified) printLine(`${printable(folder)}: verified`);
      else printError(problems.map((problem) => printable(`${folder}: ${problem}`)).join("\n"));
      return verified ? EXIT.done : EXIT.failed;
    }
    const divergences = await divergencesOf(folder);
    if (divergences.size === 0) {
      throw new Error(`${folder}: nothing in it went wrong, or it was written without what did`);
    }
    const found: unknown[] = [];
    for (const evidence of divergences.values()) {
      if (evidence.kind === "ids") {
        found.push(evidence);
        if (!json) printLine(`${idsText(evidence)}\n`);
        continue;
      }
      const whole = model === undefined ? evidence : await wholeWeights(evidence, model);
      const recomputed = recompute(whole, { ...whole.place, ...changes });
      found.push(recomputedJson(whole, recomputed));
      if (!json) printLine(`${recomputedText(whole, recomputed)}\n`);
    }
    if (json) printLine(jsonLine({ folder, recomputed: found }));
    return EXIT.done;
  },
});

/** The evidence with all rows of the weights. */
async function wholeWeights(evidence: OperationEvidence, path: string) {
  const file = await openGgufFile(path);
  try {
    return await withWeightsOf(evidence, file);
  } finally {
    file.close();
  }
}

/** `head=0,position=3,index=5`; what is left out stays. */
function parsePlace(given: string): Partial<ElementPlace> {
  const place: Record<string, number> = {};
  for (const part of given.split(",")) {
    const [, name, value] = part.trim().match(/^(head|position|index)=(\d{1,9})$/) ?? [];
    if (name === undefined) {
      throw new UsageError(
        `--place must be like head=0,position=3,index=5; it is ${JSON.stringify(given)}`,
      );
    }
    place[name] = Number(value);
  }
  return place;
}

if (import.meta.main) await runCommand(command);
