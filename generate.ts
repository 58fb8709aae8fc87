/**
 * `./denow run generate.ts "Once upon a time"`: generates text. Without options it runs the embedded model and needs no
 * permission.
 *
 * @module
 */
import { readConfig } from "./engine/plan/tensors.ts";
import type { GgufFile } from "./engine/gguf/reader.ts";
import { hasGpu } from "./engine/webgpu/device.ts";
import { adapterName, vendorName } from "./engine/webgpu/driver.ts";
import { choice, flag, number, numbers, text, UsageError } from "./inspect/commands/args.ts";
import { findOrPull } from "./inspect/commands/find_model.ts";
import { printError, printLine, printText } from "./inspect/commands/print.ts";
import { createLoadProgress } from "./inspect/commands/progress.ts";
import { defineCommand, runCommand } from "./inspect/commands/run_command.ts";
import { TUNE_OPTIONS, tuneMode } from "./inspect/commands/tune_options.ts";
import type { Generation } from "./inspect/run/generation.ts";
import { load, openFound } from "./inspect/run/loading.ts";
import { Model } from "./inspect/run/model.ts";
import { checkPrompt } from "./inspect/run/prompt.ts";
import { jsonLine, printableLines } from "./inspect/escape.ts";
import { hasVocabulary, tokenizerOf } from "./inspect/run/vocabulary.ts";
import { renderChat } from "./text/mod.ts";

const command = defineCommand({
  name: "./denow run generate.ts",
  summary: "Generates text after a prompt, with the embedded model or another one.",
  options: {
    model: text(
      "known name or path of a GGUF file (needs -P before generate.ts)",
      "FILE|NAME",
      "tiny",
    ),
    temperature: number("randomness; 0 takes the likeliest token", { min: 0, default: 0 }),
    "top-k": number("keep the K likeliest tokens; 0 keeps all", {
      integer: true,
      min: 0,
      default: 0,
    }),
    "top-p": number("keep the likeliest tokens up to this probability", {
      above: 0,
      max: 1,
      default: 1,
    }),
    "min-p": number("keep tokens with this share of the best one's probability", {
      min: 0,
      below: 1,
      default: 0,
    }),
    "repeat-penalty": number("make recent tokens less likely; 1 is off", { above: 0, default: 1 }),
    seed: number("same seed, same text", {
      integer: true,
      min: 0,
      max: Number.MAX_SAFE_INTEGER,
      default: 0,
    }),
    "max-tokens": number("most tokens to generate", { integer: true, min: 1, default: 256 }),
    "prompt-ids": numbers("token ids instead of a text", "1,2,3", { integer: true, min: 0 }),
    "ignore-eos": flag("go on after the end of the text"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    threads: number("threads of the CPU backend (default one for each core)", {
      integer: true,
      min: 1,
    }),
    ...TUNE_OPTIONS,
    like: choice(
      "compute as an engine does that leaves out something of the model",
      ["llama.cpp"],
    ),
    chat: flag("put the prompt into the model's chat template"),
    json: flag("print one line of JSON, and nothing on the way"),
    stats: flag("print figures to stderr at the end"),
  },
  positionals: ["[PROMPT]"],
  async main({ options, positionals: [prompt], signal }) {
    const ids = options["prompt-ids"];
    if ((prompt === undefined) === (ids === undefined)) {
      throw new UsageError("give either a PROMPT or --prompt-ids 1,2,3");
    }
    if (ids && options.chat) throw new UsageError("--chat needs a PROMPT, not --prompt-ids");
    const { backend, threads, like } = options;
    const tune = tuneMode(options);

    const started = performance.now();
    const found = await findOrPull(options.model, { quiet: options.json, signal });
    const file = await openFound(found);
    // What is wrong with the file or the prompt shows before the weights are read, which takes long.
    const config = readConfig(file, { like });
    if (ids && hasVocabulary(file)) tokenizerOf(file);
    const promptIds = ids ?? await encodePrompt(file, prompt, options.chat);
    checkPrompt(config, promptIds, 1);

    const progress = createLoadProgress(options.model, { quiet: options.json });
    using model = new Model(
      await load(found, { file, config, backend, tune, threads, like, signal, ...progress })
        .finally(
          progress.finish,
        ),
    );
    const loadMs = performance.now() - started;
    if (model.backend === "cpu" && backend === "auto" && !options.json && await hasGpu()) {
      printError("the GPU does not open: running on the CPU (./denow task doctor says more)");
    }

    const generation = model.generate(promptIds, {
      temperature: options.temperature,
      topK: options["top-k"],
      topP: options["top-p"],
      minP: options["min-p"],
      repeatPenalty: options["repeat-penalty"],
      seed: options.seed,
      maxTokens: options["max-tokens"],
      ignoreEos: options["ignore-eos"],
      signal,
    });
    if (!options.json && !options.chat && prompt !== undefined) write(prompt);
    try {
      for await (const { text } of generation) if (!options.json) write(text);
    } finally {
      // What was generated before an error is not lost in the error's line.
      if (!options.json) printText("\n");
    }
    if (options.json) printLine(jsonLine(report(options.model, generation, loadMs)));
    if (options.stats) printError(printableLines(stats(model, generation, loadMs)));
  },
});

async function encodePrompt(
  file: GgufFile,
  prompt: string,
  chat: boolean,
): Promise<number[]> {
  const tokenizer = tokenizerOf(file);
  if (!chat) return tokenizer.encode(prompt);
  const messages = [{ role: "user", content: prompt }];
  return tokenizer.encode(await renderChat(file.metadata, messages, { file: file.name }));
}

/** A file's tokens may hold what acts on a terminal; elsewhere every byte counts. */
function write(text: string): void {
  printText(Deno.stdout.isTerminal() ? printableLines(text) : text);
}

/** The line of `--json`. */
function report(model: string, generation: Generation, loadMs: number) {
  const { prefillTokensPerSecond, decodeTokensPerSecond } = generation.timings;
  return {
    model,
    prompt_ids: generation.promptIds,
    ids: generation.ids,
    text: generation.text,
    timings: {
      load_ms: Math.round(loadMs),
      prefill_tokens_per_s: round(prefillTokensPerSecond),
      decode_tokens_per_s: round(decodeTokensPerSecond),
    },
  };
}

/** The lines of `--stats`. */
function stats(model: Model, generation: Generation, loadMs: number): string {
  const { firstTokenMs, prefillTokensPerSecond, decodeTokensPerSecond } = generation.timings;
  const { device } = model;
  const rows = [
    [
      "load",
      `${Math.round(loadMs)} ms, ${(model.weightBytes / 2 ** 20).toFixed(1)} MiB of weights`,
    ],
    ["first token", `${Math.round(firstTokenMs)} ms`],
    [
      "prefill",
      `${round(prefillTokensPerSecond)} tokens/s (${generation.promptIds.length} tokens)`,
    ],
    ["decode", `${round(decodeTokensPerSecond)} tokens/s (${generation.ids.length} tokens)`],
    ["ended by", generation.finishReason ?? "?"],
  ];
  if (device) {
    const words = [adapterName(device), vendorName(device.vendor), device.interface];
    rows.push(["device", words.join(", ")], ["driver", device.driver || "not stated"]);
  } else {
    const { threads, twins } = model.processor!;
    rows.push(["device", `CPU, ${threads} thread${threads === 1 ? "" : "s"}`]);
    if (twins.size > 0) {
      rows.push(["slow", `no WebAssembly, but 64-bit twins for ${[...twins].join(", ")}`]);
    }
  }
  return rows.map(([name, value]) => `${name.padEnd(12)}${value}`).join("\n");
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

if (import.meta.main) await runCommand(command);
