/**
 * `./denow task reference`: a reference's own tensors as files, so that other projects can test against them.
 *
 * @module
 */
import type { GgufFile } from "../../engine/gguf/reader.ts";
import {
  choice,
  flag,
  number,
  numbers,
  type Option,
  text,
  UsageError,
} from "../../inspect/commands/args.ts";
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { formatBytes, formatTable } from "../../inspect/format.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { openFound } from "../../inspect/run/loading.ts";
import { type Point, splitPatterns } from "../../inspect/points/points.ts";
import { hasVocabulary } from "../../inspect/run/vocabulary.ts";
import { writeArrow, writeNpyFolder } from "../references/extract.ts";
import { extractReference } from "../references/reference_run.ts";
import { isReference, REFERENCES } from "../references/mod.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";

const reference: Option<string> = {
  help: "which one",
  placeholder: REFERENCES.join("|"),
  default: "llama.cpp",
  parse(given) {
    if (isReference(given)) return given;
    throw new UsageError(`one of ${REFERENCES.join(", ")}`);
  },
};

const command = defineCommand({
  name: "./denow task reference",
  summary: "Writes another engine's tensors of a prompt into files, as task capture does ours. " +
    "llama.cpp runs on an F32 copy of the weights, whose results are the exact ones up to rounding.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    out: text("folder for the files", "DIR"),
    reference,
    points: text("which tensors: names and patterns, separated by commas; default all", "POINTS"),
    generate: number("also generate N tokens, the likeliest ones, and write their passes", {
      integer: true,
      min: 1,
    }),
    format: choice(
      "a file per point, or one per point and step with a manifest.json",
      ["arrow", "npy"],
      "arrow",
    ),
    "as-is": flag("llama.cpp on the file as people run it, with its rounding of activations"),
    "prompt-ids": numbers("token ids instead of a text", "1,2,3", { integer: true, min: 0 }),
    overwrite: flag("write over what an unfinished run left in the folder"),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  positionals: ["[PROMPT]"],
  async main({ options, positionals: [prompt], signal }) {
    const { out, json, format, generate = 0, overwrite, reference: spec } = options;
    const given = options["prompt-ids"];
    if ((prompt === undefined) === (given === undefined)) {
      throw new UsageError("give either a PROMPT or --prompt-ids 1,2,3");
    }
    if (out === undefined) throw new UsageError("--out is missing: a folder for the files");
    if (options["as-is"] && !spec.startsWith("llama.cpp")) {
      throw new UsageError(`--as-is is for llama.cpp; ${spec} computes in 32 bits or more always`);
    }
    const say = (line: string) => json || printError(printable(line));

    const found = await findOrPull(options.model, { quiet: json, signal });
    using file = closing(await openFound(found));
    if (given === undefined && !hasVocabulary(file.value)) {
      throw new UsageError(`${found.name} has no vocabulary: give --prompt-ids 1,2,3`);
    }
    const patterns = options.points;
    const extract = await extractReference({ found, file: file.value }, given ?? prompt, {
      reference: spec,
      capture: patterns === undefined ? undefined : splitPatterns(patterns),
      generate,
      asIs: options["as-is"],
      onProgress: (_done, _total, what) => say(what),
      signal,
    });
    const { run, provenance, points, promptIds } = extract;
    const missing = points.filter(({ name }) => !run.passes[0].tensors.has(name));
    if (missing.length > 0) say(`${provenance.name} does not show ${kinds(missing)}`);

    const files = format === "npy"
      ? await writeNpyFolder(out, extract)
      : await writeArrow(out, extract, { overwrite });
    if (json) {
      const { ids, margins } = run;
      const { model } = options;
      const about = { model, reference: provenance, prompt_ids: promptIds, ids, margins };
      printLine(jsonLine({ ...about, missing: missing.map(({ name }) => name), files }));
    } else {
      say(`${provenance.name} ${provenance.version} on ${provenance.weights}`);
      printLine(formatTable(files.map(({ path, bytes }) => [path, formatBytes(bytes)]), "lr"));
    }
    return EXIT.done;
  },
});

function kinds(points: readonly Point[]): string {
  return [...new Set(points.map(({ kind, layer }) => layer === undefined ? kind : `blk.*.${kind}`))]
    .join(", ");
}

function closing(value: GgufFile): { value: GgufFile } & Disposable {
  return { value, [Symbol.dispose]: () => value.close() };
}

if (import.meta.main) await runCommand(command);
