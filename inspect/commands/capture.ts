/**
 * `./denow task capture`: tensors of a forward pass as files, one per point.
 *
 * @module
 */
import { loadModel } from "../run/model.ts";
import { splitPatterns } from "../points/points.ts";
import type { Run } from "../run/run.ts";
import { ArrowSink } from "../tables/sink.ts";
import { choice, flag, number, numbers, text, UsageError } from "./args.ts";
import { formatBytes, formatTable } from "../format.ts";
import { printError, printLine } from "./print.ts";
import { createLoadProgress } from "./progress.ts";
import { defineCommand, runCommand } from "./run_command.ts";
import { TUNE_OPTIONS, tuneMode } from "./tune_options.ts";
import { jsonLine } from "../escape.ts";

const command = defineCommand({
  name: "./denow task capture",
  summary: "Runs a prompt and writes tensors of the pass into files, named <point>.arrow. " +
    "Points: blk.5.attn_probs, 'blk.*.out', 'blk.0-3.{q,k}', logits, … or other engines' names for them.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    points: text("what to capture: names and patterns, separated by commas", "POINTS"),
    out: text("folder for the files", "DIR"),
    generate: number("also generate N tokens, the likeliest ones, and capture their passes", {
      integer: true,
      min: 1,
    }),
    every: number("capture only every n-th generated token", { integer: true, min: 1, default: 1 }),
    positions: numbers("keep the rows of these positions; -1 is the prompt's last", "0,5,-1", {
      integer: true,
    }),
    format: choice("kind of file", ["arrow", "parquet", "csv"], "arrow"),
    "prompt-ids": numbers("token ids instead of a text", "1,2,3", { integer: true, min: 0 }),
    "ignore-eos": flag("go on after the end of the text"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    ...TUNE_OPTIONS,
    overwrite: flag("write over what an unfinished run left in the folder"),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  positionals: ["[PROMPT]"],
  async main({ options, positionals: [text], signal }) {
    const { points, out, json, format, overwrite } = options;
    const prompt = text ?? options["prompt-ids"];
    if ((text === undefined) === (options["prompt-ids"] === undefined) || prompt === undefined) {
      throw new UsageError("give either a PROMPT or --prompt-ids 1,2,3");
    }
    if (points === undefined) throw new UsageError("--points is missing: which tensors?");
    if (out === undefined) throw new UsageError("--out is missing: a folder for the files");

    const progress = createLoadProgress(options.model, { quiet: json });
    using model = await loadModel(options.model, {
      backend: options.backend,
      tune: tuneMode(options),
      signal,
      ...progress,
    }).finally(progress.finish);
    const sink = new ArrowSink(out, { format, overwrite });
    const capture = {
      capture: splitPatterns(points),
      positions: options.positions,
      sink,
      signal,
      onCapture: (bytes: number) => {
        if (!json) printError(`capturing at most ${formatBytes(bytes)}`);
      },
    };
    let run: Run;
    if (options.generate === undefined) {
      run = await model.run(typeof prompt === "string" ? prompt : [prompt], capture);
    } else {
      const generation = model.generate(prompt, {
        ...capture,
        maxTokens: options.generate,
        captureEvery: options.every,
        ignoreEos: options["ignore-eos"],
      });
      // deno-lint-ignore no-unused-vars -- the sink takes what is made
      for await (const token of generation);
      run = generation.run;
      if (!json) printError(`generated ${jsonLine(generation.text)}`);
    }
    if (json) {
      const [{ ids, promptLength }] = run.sequences;
      const lists = { prompt_ids: ids.slice(0, promptLength), ids: ids.slice(promptLength) };
      printLine(jsonLine({ model: options.model, ...lists, files: sink.files }));
    } else {
      const rows = sink.files.map(({ path, rows, bytes }) => [
        path,
        `${rows} rows`,
        formatBytes(bytes),
      ]);
      printLine(formatTable(rows, "lrr"));
    }
  },
});

if (import.meta.main) await runCommand(command);
