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
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { createLoadProgress } from "../../inspect/commands/progress.ts";
import {
  defineCommand,
  EXIT,
  reportError,
  runCommand,
} from "../../inspect/commands/run_command.ts";
import { TUNE_OPTIONS, tuneMode } from "../../inspect/commands/tune_options.ts";
import { load, type Loaded, type LoadModelOptions } from "../../inspect/loading.ts";
import { ModelError } from "../../models/mod.ts";
import { DEFAULT_PROMPT, parityCases } from "../cases.ts";
import { determinism } from "../determinism.ts";
import { deviceOf, tokenizeOf } from "../opened_model.ts";
import { parity } from "../parity_report.ts";
import { type ProofResult, runId, writeProof } from "../proof.ts";
import { ReferenceFailure } from "../reference.ts";
import { isReference, REFERENCES } from "../references/mod.ts";
import { coloured, junit, mergedJson } from "../report.ts";
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
    engine: text("folder of somebody's own engine's tensors (checkpoints/ENGINE_FOLDER.md)", "DIR"),
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
    const say = (line: string) => json || console.error(printable(line));
    const colours = Deno.stdout.isTerminal() && !Deno.noColor;

    const how = { backend: options.backend, tune: tuneMode(options) };
    const found = await findOrPull(options.model, { quiet: json, signal });
    using model = await loadQuietly(options.model, how, json, signal);
    const layers = parseLayers(options.layers, model.engine.config.layers);
    const prompt = options["prompt-ids"] ?? given ?? DEFAULT_PROMPT;
    const cases = parityCases(prompt, tokenizeOf(model), model.engine.config);

    const results: ProofResult[] = [];
    const failures: ReferenceFailure[] = [];
    // Loaded once for all references.
    using _other = against === undefined
      ? undefined
      : await loadQuietly(against, how, json, signal);
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
        if (!json) console.log(`${colours ? coloured(`${report}`) : report}\n`);
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

    const runs = options.determinism ?? RUNS;
    const repeated = runs === 0 ? undefined : await determinism(model.engine, {
      ids: cases[0].ids,
      generate: Math.min(REPEATED_TOKENS, cases[0].generate),
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
    const time = new Date();
    let written = true;
    // What was found is still said.
    const unwritten = (error: unknown) => {
      written = false;
      reportError(error, false);
    };
    const bundle = await writeProof(
      Deno.env.get("LAMINA_PROOF_DIR") ?? ".proof_bundle",
      {
        format: "lamina-proof",
        version: 1,
        type: "parity",
        run: runId(time, Deno.env.get("LAMINA_RUN_ID")),
        time: time.toISOString(),
        command: ["./denow", "task", "parity", ...Deno.args],
        lamina: deno.version,
        deno: Deno.version.deno,
        system: `${Deno.build.os} ${Deno.build.arch}`,
        model: { name: options.model, path: found.path, sha256: await model.sha256() },
        device: deviceOf(model),
        references: results.map(({ result }) => result.provenance),
        prompts: cases.map(({ name, text, ids }) => ({ name, text, ids })),
        seeds: [],
        passed,
      },
      results,
      repeated,
    ).catch(unwritten);
    if (options.junit !== undefined) {
      await Deno.writeTextFile(options.junit, junit(options.model, results, failures))
        .catch(unwritten);
    }
    if (json) {
      const report = { ...mergedJson(results), passed, determinism: repeated ?? null };
      const failed = failures.map(({ reference, message }) => ({ reference, message }));
      console.log(jsonLine({ ...report, failures: failed, proof: bundle ?? null }));
    } else {
      if (repeated) {
        const { runs, asked, processes, tokens, equal } = repeated;
        console.log(
          `determinism: ${runs} of ${asked} runs with ${tokens} generated tokens (${processes} in fresh processes): ${
            equal ? "the same bits" : "NOT the same bits"
          }`,
        );
      }
      if (bundle) console.log(`proof: ${printable(bundle)}`);
      if (passed && !engineFolder && !against) {
        console.log(
          `engines agree; the file itself is not proven: ./denow task model diagnose ${
            printable(options.model)
          } ` +
            `undoes known faults, ./denow task model diff A B compares it with its original`,
        );
      }
    }
    return passed && written ? EXIT.done : EXIT.failed;
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
