/**
 * `./denow task parity`: the thirteen checkpoints of a model against references.
 *
 * @module
 */
import deno from "../../deno.json" with { type: "json" };
import {
  choice,
  flag,
  number,
  numbers,
  text,
  texts,
  UsageError,
} from "../../inspect/commands/args.ts";
import { printError, printLine } from "../../inspect/commands/print.ts";
import { createLoadProgress } from "../../inspect/commands/progress.ts";
import {
  defineCommand,
  EXIT,
  reportError,
  runCommand,
} from "../../inspect/commands/run_command.ts";
import { TUNE_OPTIONS, tuneMode } from "../../inspect/commands/tune_options.ts";
import { load, type Loaded, type LoadModelOptions } from "../../inspect/run/loading.ts";
import { ModelError } from "../../models/mod.ts";
import { determinism } from "../parity/determinism.ts";
import { hasChanged } from "../files/f32_copy.ts";
import { deviceOf } from "../files/model_argument.ts";
import { parity } from "../comparisons/parity.ts";
import {
  promptsOf,
  proofFolder,
  type ProofHeader,
  type ProofModel,
  type ProofResult,
  recomputeCommand,
  runId,
  writeProof,
} from "../parity/reports/proof.ts";
import { ReferenceFailure } from "../references/reference.ts";
import { isReference, REFERENCES } from "../references/mod.ts";
import { coloured, junit, mergedJson, reportText } from "../parity/reports/report.ts";
import { jsonLine, printable } from "../../inspect/escape.ts";

/** Time for repeated runs where their number is not given. */
const DETERMINISM_MS = 20_000;
const RUNS = 100;
const FRESH_PROCESSES = 3;
const REPEATED_TOKENS = 32;

const command = defineCommand({
  name: "./denow task parity",
  summary:
    "Compares a model's forward pass with references, at thirteen checkpoints of every layer. " +
    "Exit code 1 when one fails; what was found is left in a proof bundle.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    reference: texts(`which references, separated by commas: ${REFERENCES.join(", ")}`, "NAMES"),
    against: text("another GGUF file to compare with: a conversion, a quantization", "FILE|NAME"),
    engine: text(
      "folder of somebody's own engine's tensors (checkpoints/references/engine_folder/README.md)",
      "DIR",
    ),
    layers: text("layers to compare", "0-3"),
    "prompt-ids": numbers("token ids instead of a text", "1,2,3", { integer: true, min: 0 }),
    determinism: number(
      "how often to repeat a run bit for bit; by default 100, as far as 20 s go",
      {
        integer: true,
        min: 0,
      },
    ),
    backend: choice("where our side runs", ["auto", "webgpu", "cpu"], "auto"),
    ...TUNE_OPTIONS,
    junit: text("file for a JUnit report", "FILE"),
    timeout: number("seconds that a reference may be silent", { above: 0, default: 300 }),
    json: flag("print one line of JSON"),
  },
  positionals: ["[PROMPT]"],
  async main({ options, positionals: [given], signal }) {
    const { json, engine: engineFolder, against } = options;
    const names = options.reference ?? (engineFolder || against ? [] : ["llama.cpp"]);
    const wrong = names.find((name) => !isReference(name));
    if (wrong !== undefined) {
      throw new UsageError(
        `no reference ${JSON.stringify(wrong)}; there are ${REFERENCES.join(", ")}`,
      );
    }
    if (given !== undefined && options["prompt-ids"]) {
      throw new UsageError("give either a PROMPT or --prompt-ids 1,2,3");
    }
    const time = new Date();
    const run = runId(time, Deno.env.get("LAMINA_RUN_ID"));
    const root = Deno.env.get("LAMINA_PROOF_DIR") || ".proof_bundle";
    const bundle = await proofFolder(root, "parity", run);
    const say = (line: string) => json || printError(printable(line));
    const colours = Deno.stdout.isTerminal() && !Deno.noColor;

    const how = { backend: options.backend, tune: tuneMode(options) };
    using model = await loadQuietly(options.model, how, json, signal);
    const layers = parseLayers(options.layers, model.engine.config.layers);

    const results: ProofResult[] = [];
    const failures: ReferenceFailure[] = [];
    // Loaded once for all references.
    using other = against === undefined ? undefined : await loadQuietly(against, how, json, signal);
    for (const reference of names.length > 0 ? names : [undefined]) {
      const name = reference ?? against ?? engineFolder;
      try {
        const report = await parity(options.model, options["prompt-ids"] ?? given, {
          reference,
          against,
          engine: engineFolder,
          layers,
          ...how,
          timeout: options.timeout,
          signal,
          onProgress: (_done, _total, what) => say(`${name}: ${what}`),
        });
        results.push(report);
        const text = reportText(report.result, report.first, recomputeCommand(bundle));
        if (!json) printLine(`${colours ? coloured(text) : text}\n`);
      } catch (error) {
        const failure = failureOf(`${name}`, error);
        failures.push(failure);
        say(`error: ${failure.message}`);
      }
    }
    if (results.length === 0) {
      throw new Error(
        `nothing was compared (${failures.map(({ message }) => message).join("; ")})`,
      );
    }

    const ids = results.find(({ cases }) => cases.length > 0)?.cases[0].ids;
    const { contextLength } = model.engine.config;
    const runs = options.determinism ?? RUNS;
    const repeated = runs === 0 || !ids ? undefined : await determinism(model.engine, {
      ids,
      generate: Math.max(0, Math.min(REPEATED_TOKENS, contextLength - ids.length - 1)),
    }, {
      runs,
      processes: FRESH_PROCESSES,
      model: options.model,
      tune: how.tune,
      timeLimit: options.determinism === undefined ? DETERMINISM_MS : undefined,
      signal,
      onProgress: progressEvery(10, (done, total) => say(`determinism: ${done} of ${total} runs`)),
    });
    const passed = results.every(({ result }) => result.passed) && repeated?.equal !== false;
    const contents: ProofModel[] = [];
    for (const [name, each] of [[options.model, model], [against, other]] as const) {
      if (name === undefined || !each) continue;
      const { found, identity } = each;
      // Each comparison and each fresh process looks for the file anew.
      if (!await identity.holds()) throw hasChanged(found);
      contents.push({ name, path: found.path, sha256: await identity.sha256({ signal }) });
    }
    const failed = failures.map(({ reference, message }) => ({ reference, message }));
    // What was found is still said where it cannot be written.
    const unwritten: string[] = [];
    const writing = async (path: string, write: Promise<void>) => {
      try {
        await write;
      } catch (error) {
        unwritten.push(path);
        reportError(error, false);
      }
    };
    const header: ProofHeader = {
      format: "lamina-proof",
      version: 2,
      type: "parity",
      run,
      time: time.toISOString(),
      command: ["./denow", "task", "parity", ...Deno.args],
      lamina: deno.version,
      deno: Deno.version.deno,
      system: `${Deno.build.os} ${Deno.build.arch}`,
      model: contents[0],
      against: contents.at(1),
      device: deviceOf(model),
      references: results.map(({ result }) => result.provenance),
      failures: failed,
      prompts: promptsOf(results),
      seeds: [],
      passed,
    };
    await writing(bundle, writeProof(bundle, header, results, repeated));
    if (options.junit !== undefined) {
      const text = junit(options.model, results, failures);
      await writing(options.junit, Deno.writeTextFile(options.junit, text));
    }
    if (json) {
      const report = { ...mergedJson(results), passed, determinism: repeated ?? null };
      const proof = unwritten.includes(bundle) ? null : bundle;
      printLine(jsonLine({ ...report, failures: failed, proof }));
    } else {
      if (repeated) {
        const { runs, asked, processes, tokens, equal } = repeated;
        printLine(
          `determinism: ${runs} of ${asked} runs with ${tokens} generated tokens (${processes} in fresh processes): ${
            equal ? "the same bits" : "NOT the same bits"
          }`,
        );
      }
      if (!unwritten.includes(bundle)) printLine(`proof: ${printable(bundle)}`);
      if (passed && !engineFolder && !against) {
        printLine(
          `engines agree; the file itself is not proven: ./denow task model diagnose ${
            printable(options.model)
          } ` +
            `undoes known faults, ./denow task model diff A B compares it with its original`,
        );
      }
    }
    return passed && unwritten.length === 0 ? EXIT.done : EXIT.failed;
  },
});

/** What a reference needs may be missing, not be writable, or not be permitted: the others go on. */
function failureOf(reference: string, error: unknown): ReferenceFailure {
  if (error instanceof ReferenceFailure) return error;
  const isExpected = error instanceof ModelError || error instanceof Deno.errors.NotCapable;
  if (!isExpected) throw error;
  // Deno's advice would be one flag after the other.
  return new ReferenceFailure(reference, error.message.replace(/, run again with .*/, ""));
}

/** A model with its progress shown; given back at the end of its block. */
async function loadQuietly(
  name: string,
  how: Pick<LoadModelOptions, "backend" | "tune">,
  quiet: boolean,
  signal: AbortSignal,
): Promise<Loaded & Disposable> {
  const progress = createLoadProgress(name, { quiet });
  const loaded = await load(name, { ...how, signal, ...progress }).finally(progress.finish);
  return { ...loaded, [Symbol.dispose]: () => loaded.release() };
}

/** `3` or `0-3`. */
function parseLayers(given: string | undefined, count: number): [number, number] | undefined {
  if (given === undefined) return undefined;
  const [, first, last = first] = given.match(/^(\d+)(?:-(\d+))?$/) ?? [];
  const layers: [number, number] = [Number(first), Number(last)];
  if (first === undefined || layers[0] > layers[1] || layers[1] >= count) {
    throw new UsageError(
      `--layers must be like 0-3, below ${count}; it is ${JSON.stringify(given)}`,
    );
  }
  return layers;
}

function progressEvery(count: number, show: (done: number, total: number) => void) {
  return (done: number, total: number) => {
    if (done % count === 0) show(done, total);
  };
}

if (import.meta.main) await runCommand(command);
