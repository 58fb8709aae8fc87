/**
 * `./denow task bench`: how fast a model runs here, held against what the device can do and against other engines.
 *
 * @module
 */
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import denoJson from "../../deno.json" with { type: "json" };
import { benchModel, timeGeneration } from "../../inspect/bench/model_bench.ts";
import {
  medianProfiles,
  type PassProfile,
  profileTable,
  profileText,
  profileTrace,
} from "../../inspect/bench/profile.ts";
import {
  benchMarkdown,
  type BenchReport,
  benchTable,
  benchText,
} from "../../inspect/bench/report.ts";
import { spread } from "../../inspect/bench/rounds.ts";
import { type BenchRow, SECTIONS } from "../../inspect/bench/bench_row.ts";
import {
  choice,
  choices,
  flag,
  number,
  numbers,
  text,
  UsageError,
} from "../../inspect/commands/args.ts";
import { findOrPull } from "../../inspect/commands/find_model.ts";
import { openOutput } from "../../inspect/commands/output_file.ts";
import { printLine } from "../../inspect/commands/print.ts";
import { createLoadProgress, createStatus } from "../../inspect/commands/progress.ts";
import { defineCommand, runCommand } from "../../inspect/commands/run_command.ts";
import { TUNE_OPTIONS, tuneMode } from "../../inspect/commands/tune_options.ts";
import { loadModel, type Model } from "../../inspect/run/model.ts";
import { writeTable } from "../../inspect/tables/files.ts";
import { openPeers, PEERS } from "../bench/peers.ts";
import { modelOnDisk } from "../references/mod.ts";
import { jsonLine } from "../../inspect/escape.ts";

const ROOT = new URL("../../", import.meta.url);
/** Times that a model is loaded again to measure it, and that a process is started. */
const LOADS = 3;
/** The prompt of the very first token. */
const FIRST_PROMPT = 16;
/** The pass that the profile shows, and that peak memory is measured with. */
const PROFILED = 128;
/** More than the caches of most processors hold. */
const PROBE_BYTES = 512 * 2 ** 20;
/** What a quick run measures. */
const QUICK = { prompts: [32], contexts: [16], rounds: 1, probeBytes: 16 * 2 ** 20 };

const command = defineCommand({
  name: "./denow task bench",
  summary:
    "Measures a model on this device, in alternating rounds: against other engines, against what the device can do, what " +
    "capturing costs, prompts, decoding, loading and memory.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    peers: choices("engines to measure beside it (default none)", [...PEERS, "none"]),
    rounds: number("figures per median", { integer: true, min: 1, default: 5 }),
    prompts: numbers("prompts in tokens (default 32,128,512)", "N,...", { integer: true, min: 1 }),
    contexts: numbers("decode after so many tokens (default 16,1000)", "N,...", {
      integer: true,
      min: 1,
    }),
    captures: choice("whether captures are measured", ["all", "none"], "all"),
    quick: flag("a short form, to see that it works"),
    profile: flag("also show where the time of a pass goes, step by step"),
    trace: text("file for the profile as a trace for Perfetto (ui.perfetto.dev)", "FILE"),
    out: text("folder for the figures: Arrow tables, a picture, its Plotly JSON", "DIR"),
    save: flag("keep the figures in bench/results/, under the device's name"),
    markdown: flag("print tables in Markdown"),
    json: flag("print one line of JSON, and nothing on the way"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    ...TUNE_OPTIONS,
  },
  async main({ options, signal }) {
    const { model: name, out, json, quick, trace, backend } = options;
    const tune = tuneMode(options);
    const tuneArgs = tune === "never" ? ["--no-tune"] : [];
    if (options.peers?.includes("none") && options.peers.length > 1) {
      throw new UsageError("--peers none goes with no other");
    }
    const peerNames = (options.peers ?? []).filter((peer) => peer !== "none");
    const rounds = quick ? QUICK.rounds : options.rounds;
    await using traceFile = trace === undefined ? undefined : await openOutput(trace);
    if (out !== undefined) await Deno.mkdir(out, { recursive: true });
    const status = createStatus({ quiet: json });
    const say = (line: string) => status.update(line);

    const found = await findOrPull(name, { quiet: json, signal });
    const starting: BenchRow[] = quick
      ? []
      : await startUp(name, [`--backend=${backend}`, ...tuneArgs], signal, say);
    const load = async () => {
      const start = performance.now();
      const progress = createLoadProgress(name, { quiet: json });
      const model = await loadModel(name, { backend, tune, signal, ...progress })
        .finally(progress.finish);
      return { model, ms: performance.now() - start };
    };
    // Only the first time opens the device and compiles kernels.
    const first = await load();
    const memory = await memoryRows(first.model, quick);
    first.model.dispose();
    const loads: number[] = [];
    for (let i = 1; i < (quick ? 1 : Math.min(LOADS, rounds)); i++) {
      const again = await load();
      loads.push(again.ms);
      again.model.dispose();
    }
    const last = await load();
    using model = last.model;
    loads.push(last.ms);

    await using onDisk = await modelOnDisk(found);
    const peerOptions = { path: onDisk.path, name: found.name, config: model.config };
    const { peers, missing } = await openPeers(peerNames, {
      ...peerOptions,
      signal,
      onProgress: say,
    });
    await using _closing = {
      async [Symbol.asyncDispose]() {
        for (const peer of peers) await peer[Symbol.asyncDispose]();
      },
    };
    const rows = await benchModel(model, rounds, {
      prompts: (options.prompts ?? (quick ? QUICK.prompts : [32, 128, 512])).toSorted(ascending),
      contexts: (options.contexts ?? (quick ? QUICK.contexts : [16, 1000])).toSorted(ascending),
      captures: options.captures === "all",
      probeBytes: quick ? QUICK.probeBytes : PROBE_BYTES,
      peers,
      signal,
      onProgress: (done, total) => say(`measured ${done} of ${total}`),
    }).finally(status.finish);
    const own: BenchRow[] = [
      ...rows,
      ...starting,
      { section: "speed", what: "load, again", unit: "ms", ...spread(loads) },
      ...memory,
    ];
    const report: BenchReport = {
      model: found.name,
      device: deviceName(model),
      version: denoJson.version,
      deno: Deno.version.deno,
      time: new Date().toISOString(),
      rounds,
      rows: SECTIONS.flatMap((section) => own.filter((row) => row.section === section)),
      peers: peers.map(({ name, description }) => ({ name, description })),
      missing,
    };
    const profiles = options.profile || traceFile
      ? await medianProfiles(model, profiledTokens(model), Math.min(rounds, 3), signal)
      : [];
    const readLimit = report.rows.find(({ what }) => what === "streaming read")?.median;
    if (out !== undefined) await writeFolder(out, report, profiles, readLimit);
    await traceFile?.write(profileTrace(report.model, profiles));
    if (options.save) await save(report);
    if (json) {
      printLine(jsonLine(options.profile ? { ...report, profiles } : report));
      return;
    }
    printLine(options.markdown ? benchMarkdown(report) : benchText(report));
    if (options.profile) {
      for (const profile of profiles) printLine(`\n${profileText(profile, readLimit)}`);
    }
  },
});

const ascending = (a: number, b: number) => a - b;

function deviceName({ device }: Model): string {
  return device ? device.description || device.device : "CPU backend";
}

function profiledTokens({ config }: Model): number {
  return Math.min(PROFILED, config.contextLength - 1);
}

/** How long it takes from starting a process to its end, with one token generated. The first time may compile kernels. */
async function startUp(
  model: string,
  options: readonly string[],
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<BenchRow[]> {
  const ids = Array.from({ length: FIRST_PROMPT }, (_, i) => i + 3).join(",");
  const times: number[] = [];
  for (let i = 0; i <= LOADS; i++) {
    say(`starting generate.ts, ${i + 1} of ${LOADS + 1}`);
    const start = performance.now();
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "--no-prompt", "-P", "generate.ts", "--model", model, "--json"]
        .concat(options, "--ignore-eos", "--max-tokens", "1", "--prompt-ids", ids),
      cwd: fileURLToPath(ROOT),
      stdin: "null",
      stdout: "null",
      signal,
    }).output();
    signal.throwIfAborted();
    if (!success) throw new Error(`generate.ts: ${new TextDecoder().decode(stderr).trim()}`);
    if (i > 0) times.push(performance.now() - start);
  }
  const what = "start to first token, a process of its own";
  return [{ section: "speed", what, unit: "ms", ...spread(times) }];
}

/** What a model takes in memory: once it has run a prompt and some tokens, before anything else is measured. */
async function memoryRows(model: Model, quick: boolean): Promise<BenchRow[]> {
  const { prefillMs } = await timeGeneration(model, FIRST_PROMPT, 1);
  const prompt = Math.min(quick ? FIRST_PROMPT : PROFILED, model.config.contextLength - 8);
  await timeGeneration(model, prompt, 8);
  const { device, config } = model;
  const allocated = model.loaded.device?.allocated;
  const peak = process.resourceUsage().maxRSS * 1024;
  // Weights are in this process's memory where there is no other.
  const here = !device || device.fallback;
  const row = (what: string, bytes: number, more: Partial<BenchRow> = {}): BenchRow => ({
    ...{ section: "memory", what, unit: "MB", ...spread([bytes / 1e6]) },
    ...more,
  });
  return [
    {
      section: "speed",
      what: `first token after ${FIRST_PROMPT} tokens, kernels not compiled yet`,
      unit: "ms",
      ...spread([prefillMs]),
    },
    row(`most resident memory: loaded, a prompt of ${prompt}, 8 tokens`, peak, {
      atMost: here ? (model.weightBytes + 2 ** 30) / 1e6 : undefined,
      note: here ? "at most: weights + 1 GiB" : undefined,
    }),
    row("weights on the device", model.weightBytes, { note: `${config.layers} layers` }),
    ...(allocated === undefined ? [] : [row("all buffers on the device", allocated)]),
  ];
}

async function writeFolder(
  folder: string,
  report: BenchReport,
  profiles: readonly PassProfile[],
  readLimit: number | undefined,
): Promise<void> {
  const { benchRatios } = await import("../../inspect/figures/bench.ts");
  const table = benchTable(report);
  const figure = benchRatios(table);
  await writeTable(join(folder, "bench.arrow"), table);
  await Deno.writeTextFile(join(folder, "bench.plotly.json"), JSON.stringify(figure));
  await Deno.writeFile(join(folder, "bench.png"), await figure.png());
  if (profiles.length > 0) {
    await writeTable(join(folder, "profile.arrow"), profileTable(profiles, readLimit));
  }
}

/** Puts the figures in place of those of the same model on the same device; older ones are in the repository's history. */
async function save(report: BenchReport): Promise<void> {
  const device = report.device.toLowerCase().replaceAll(/[^a-z0-9.]+/g, "-").replace(/-$/, "");
  const folder = new URL("bench/results/", ROOT);
  await Deno.mkdir(folder, { recursive: true });
  const path = new URL(`${device}.json`, folder);
  const before: BenchReport[] = await Deno.readTextFile(path).then(JSON.parse, (error) => {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  });
  const all = [...before.filter(({ model }) => model !== report.model), report];
  all.sort((a, b) => a.model < b.model ? -1 : 1);
  await Deno.writeTextFile(path, `${JSON.stringify(all, undefined, 1)}\n`);
}

if (import.meta.main) await runCommand(command);
