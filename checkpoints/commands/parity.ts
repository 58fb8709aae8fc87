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
import { defineCommand, EXIT, runCommand } from "../../inspect/commands/run_command.ts";
import { load, type Loaded } from "../../inspect/loading.ts";
import { createTokenizer } from "../../text/mod.ts";
import { DEFAULT_PROMPT, parityCases } from "../cases.ts";
import { determinism } from "../determinism.ts";
import { folderReference } from "../engine_folder.ts";
import { firstDivergence, type Subject } from "../first_divergence.ts";
import { commonBand } from "../model_diff/bands.ts";
import { parity, type ParityCase, type ParityOptions } from "../parity.ts";
import { type ProofResult, runId, writeProof } from "../proof.ts";
import { type Reference, ReferenceFailure } from "../reference.ts";
import { isReference, modelOnDisk, openReference, REFERENCES } from "../references/mod.ts";
import { laminaReference } from "../references/lamina.ts";
import { coloured, junit, mergedJson, reportText } from "../report.ts";

/** Time for repeated runs where their number is not given. */
const DETERMINISM_MS = 20_000;
const RUNS = 100;
const FRESH_PROCESSES = 3;
const REPEATED_TOKENS = 32;
/** Of a weight's error what its products may show: activations with outliers weigh some columns more than others. */
const OUTPUT_FACTOR = 4;

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
    const say = (line: string) => json || console.error(line);
    const colours = Deno.stdout.isTerminal() && !Deno.noColor;

    const found = await findOrPull(options.model, { quiet: json, signal });
    using model = await loadQuietly(options.model, options.backend, json, signal);
    const tokenize = tokenizerOf(model);
    const layers = parseLayers(options.layers, model.engine.config.layers);
    const prompt = options["prompt-ids"] ?? given ?? DEFAULT_PROMPT;
    const cases = parityCases(prompt, tokenize, model.engine.config);

    const results: ProofResult[] = [];
    const failures: ReferenceFailure[] = [];
    const compareWith = async (
      open: () => Promise<Reference>,
      own: readonly ParityCase[],
      more: ParityOptions & Pick<Subject, "other"> = {},
    ) => {
      try {
        const reference = await open();
        try {
          const onProgress = (what: string) => say(`${reference.provenance.name}: ${what}`);
          const result = await parity(model.engine, reference, own, {
            layers,
            signal,
            onProgress,
            ...more,
          });
          const subject = { engine: model.engine, file: model.file, other: more.other };
          const first = result.passed
            ? undefined
            : await firstDivergence(subject, reference, own, result);
          results.push({ result, first });
          const report = reportText(result, first);
          if (!json) console.log(`${colours ? coloured(report) : report}\n`);
        } finally {
          await reference.close();
        }
      } catch (error) {
        if (!(error instanceof ReferenceFailure)) throw error;
        failures.push(error);
        say(`error: ${error.message}`);
      }
    };

    await using disk = await modelOnDisk(found);
    const timeout = options.timeout * 1000;
    if (engineFolder !== undefined) {
      const folder = await folderReference(engineFolder, model.engine.config);
      const { promptIds } = folder;
      // Its ids are judged where the text that they are of is known.
      const tokenized = given === undefined || !promptIds
        ? folder
        : { ...folder, tokenize: () => Promise.resolve(promptIds) };
      await compareWith(() => Promise.resolve(tokenized), folderCases(folder, cases[0]), {
        localOnly: true,
      });
    } else if (against !== undefined) {
      using other = await loadQuietly(against, options.backend, json, signal);
      const own = laminaReference(other.engine, {
        provenance: {
          version: deno.version,
          device: deviceOf(other),
          weights: against,
          rope: "exact",
        },
        tokenize: tokenizerOf(other),
      });
      const more = { usualError: usualErrorOf(model, other), other: other.file };
      if (names.length === 0) await compareWith(() => Promise.resolve(own), cases, more);
      const otherFound = await findOrPull(against, { quiet: json, signal });
      await using otherDisk = await modelOnDisk(otherFound);
      for (const name of names) {
        const { file } = other;
        const open = () =>
          openReference(name, {
            file,
            model: otherFound,
            path: otherDisk.path,
            timeout,
            signal,
            onProgress: say,
          });
        await compareWith(open, cases, more);
      }
    } else {
      const { file } = model;
      for (const name of names) {
        const open = () =>
          openReference(name, {
            file,
            model: found,
            path: disk.path,
            timeout,
            signal,
            onProgress: say,
          });
        const rope = name.startsWith("llama.cpp") ? "ggml" : "exact";
        const oracle = name === "oracle" ? undefined : await openReference("oracle", {
          file,
          model: found,
          path: disk.path,
          rope,
        });
        await compareWith(open, cases, { oracle });
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
      timeLimit: options.determinism === undefined ? DETERMINISM_MS : undefined,
      signal,
      onProgress: progressEvery(10, (done, total) => say(`determinism: ${done} of ${total} runs`)),
    });
    const passed = results.every(({ result }) => result.passed) && repeated?.equal !== false;
    const time = new Date();
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
    );
    if (options.junit !== undefined) {
      await Deno.writeTextFile(options.junit, junit(options.model, results, failures));
    }
    if (json) {
      const report = { ...mergedJson(results), passed, determinism: repeated ?? null };
      const failed = failures.map(({ reference, message }) => ({ reference, message }));
      console.log(JSON.stringify({ ...report, failures: failed, proof: bundle }));
    } else {
      if (repeated) {
        const { runs, asked, processes, tokens, equal } = repeated;
        console.log(
          `determinism: ${runs} of ${asked} runs with ${tokens} generated tokens (${processes} in fresh processes): ${
            equal ? "the same bits" : "NOT the same bits"
          }`,
        );
      }
      console.log(`proof: ${bundle}`);
      if (passed && !engineFolder && !against) {
        console.log(
          `engines agree; the file itself is not proven: ./denow task model diagnose ${options.model} ` +
            `undoes known faults, ./denow task model diff A B compares it with its original`,
        );
      }
    }
    return passed ? EXIT.done : EXIT.failed;
  },
});

/** A model with its progress shown; given back at the end of its block. */
async function loadQuietly(
  name: string,
  backend: "auto" | "webgpu" | "cpu",
  quiet: boolean,
  signal: AbortSignal,
): Promise<Loaded & Disposable> {
  const progress = createLoadProgress(name, { quiet });
  const loaded = await load(name, { backend, signal, ...progress }).finally(progress.finish);
  return { ...loaded, [Symbol.dispose]: () => loaded.release() };
}

function deviceOf({ device }: Loaded): string {
  return device ? device.info.description || device.info.device : "CPU backend";
}

/** Undefined for a file without a vocabulary. */
function tokenizerOf({ file }: Loaded): ((text: string) => readonly number[]) | undefined {
  if (!file.metadata.has("tokenizer.ggml.tokens")) return undefined;
  const tokenizer = createTokenizer(file.metadata, file.name);
  return (text) => tokenizer.encode(text);
}

/** The one prompt that a folder holds. */
function folderCases(
  folder: { readonly promptIds?: readonly number[]; readonly generatedIds?: readonly number[] },
  asked: ParityCase,
): ParityCase[] {
  const { promptIds, generatedIds = [] } = folder;
  const generate = generatedIds.length;
  const steps = Array.from({ length: generate + 1 }, (_, step) => step);
  return [{
    ...asked,
    ids: promptIds ?? asked.ids,
    ownIds: asked.ids,
    generate,
    forced: generatedIds,
    steps,
    oracle: false,
  }];
}

/** What is usual where one of two files has another type of weight. */
function usualErrorOf(model: Loaded, other: Loaded): ParityOptions["usualError"] {
  const type = ({ file }: Loaded, name: string) => file.tensors.get(name)?.type.name;
  const differs = [...model.file.tensors.keys()]
    .some((name) => type(model, name) !== type(other, name));
  if (!differs) return undefined;
  return (weights) => {
    const bands = weights.flatMap((name) => {
      const [a, b] = [type(model, name), type(other, name)];
      if (a === b) return [];
      return a && b ? [commonBand(a, b)?.band.tensor ?? Infinity] : [0];
    });
    return bands.length === 0 ? undefined : OUTPUT_FACTOR * Math.max(...bands);
  };
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
