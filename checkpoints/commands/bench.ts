/**
 * `./denow task bench`: how fast a model runs here, held against what the device can do and against other engines.
 *
 * @module
 */
import { join } from "node:path";
import os from "node:os";
import denoJson from "../../deno.json" with { type: "json" };
import { barsOf } from "../../inspect/bench/bars.ts";
import { benchModel } from "../../inspect/bench/model_bench.ts";
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
  texts,
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
import { besides, firstPasses, firstPassesRows, startRow, startTimes } from "../bench/processes.ts";
import { modelOnDisk } from "../references/mod.ts";
import { jsonLine } from "../../inspect/escape.ts";

const ROOT = new URL("../../", import.meta.url);
/** Times that a model is loaded again to measure it, and that a process is started. */
const LOADS = 3;
/** A model of so many bytes is loaded once: again it takes long, and two may not fit. */
const LARGE = 2 ** 30;
/** The model whose start is always measured: nothing is quicker to load. */
const SMALLEST = "tiny";
/** The pass that the profile shows, and that peak memory is measured with. */
const PROFILED = 128;
/** More than the caches of most processors hold. */
const PROBE_BYTES = 512 * 2 ** 20;
/** What a quick run measures. */
const QUICK = { prompts: [32], contexts: [16], rounds: 1, probeBytes: 16 * 2 ** 20, memory: 16 };

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
    besides: texts(
      "also decode this model, in a process of its own: its share of the streaming read, its memory; repeatable",
      "FILE|NAME",
    ),
    captures: choice("whether captures are measured", ["all", "none"], "all"),
    starts: choice("whether starts of a process are measured", ["all", "none"], "all"),
    quick: flag("a short form, to see that it works"),
    profile: flag("also show where the time of a pass goes, step by step"),
    trace: text("file for the profile as a trace for Perfetto (ui.perfetto.dev)", "FILE"),
    out: text("folder for the figures: Arrow tables, a picture, its Plotly JSON", "DIR"),
    save: flag("keep the figures in bench/results/, under the device's name"),
    markdown: flag("print tables in Markdown"),
    json: flag("print one line of JSON, and nothing on the way"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    threads: number(
      "threads on the CPU, of Lamina and of its peers (default: as many as serve each best)",
      { integer: true, min: 1 },
    ),
    ...TUNE_OPTIONS,
  },
  async main({ options, signal }) {
    const { model: name, out, json, quick, trace, backend, threads } = options;
    const tune = tuneMode(options);
    const args = [
      `--backend=${backend}`,
      ...(threads === undefined ? [] : [`--threads=${threads}`]),
      ...(tune === "never" ? ["--no-tune"] : []),
    ];
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
    const processes = { rounds: Math.min(LOADS, rounds), signal, onProgress: say };
    // Before this process has a model in memory: not all of them fit beside another.
    const others: BenchRow[] = [];
    for (const other of options.besides ?? []) {
      others.push(...await besides(other, quick ? [...args, "--quick"] : args, processes));
    }
    const starts = new Map<string, number[]>();
    for (const each of quick || options.starts === "none" ? [] : new Set([name, SMALLEST])) {
      starts.set(each, await startTimes(each, args, processes));
    }
    const passes = await firstPasses({
      ...{ model: name, backend, tune: tune === "now" ? "known" : tune, threads },
      prompt: quick ? QUICK.memory : PROFILED,
    }, processes);
    const load = async () => {
      const start = performance.now();
      const progress = createLoadProgress(name, { quiet: json });
      const model = await loadModel(name, { backend, tune, threads, signal, ...progress })
        .finally(progress.finish);
      return { model, ms: performance.now() - start };
    };
    // Only the first time opens the device and compiles kernels.
    let { model: loaded, ms } = await load();
    const loads: number[] = [];
    while (loaded.weightBytes < LARGE && loads.length < (quick ? 1 : processes.rounds)) {
      loaded.dispose();
      ({ model: loaded, ms } = await load());
      loads.push(ms);
    }
    using model = loaded;
    const bars = barsOf(model);
    await using onDisk = await modelOnDisk(found);
    const peerOptions = { path: onDisk.path, name: found.name, config: model.config };
    const { peers, missing: missingPeers } = await openPeers(peerNames, {
      ...peerOptions,
      ...{ backend: model.backend, threads },
      signal,
      onProgress: say,
    });
    await using _closing = {
      async [Symbol.asyncDispose]() {
        for (const peer of peers) await peer[Symbol.asyncDispose]();
      },
    };
    const { rows, missing } = await benchModel(model, rounds, {
      prompts: (options.prompts ?? (quick ? QUICK.prompts : [32, 128, 512])).toSorted(ascending),
      contexts: (options.contexts ?? (quick ? QUICK.contexts : [16, 1000])).toSorted(ascending),
      captures: options.captures === "all",
      probe: { bytes: quick ? QUICK.probeBytes : PROBE_BYTES, threads },
      peers,
      signal,
      onProgress: (done, total) => say(`measured ${done} of ${total}`),
    }).finally(status.finish);
    const profiles = options.profile || traceFile
      ? await medianProfiles(model, profiledTokens(model), Math.min(rounds, 3), signal)
      : [];
    const own: BenchRow[] = [
      ...rows,
      ...[...starts].map(([each, times]) => startRow(each, times, bars)),
      {
        ...{ section: "speed", what: loads.length > 0 ? "load, again" : "load", unit: "ms" },
        ...spread(loads.length > 0 ? loads : [ms]),
      },
      ...firstPassesRows(model, passes, bars),
      ...others,
    ];
    const report: BenchReport = {
      model: found.name,
      device: deviceName(model, threads),
      version: denoJson.version,
      deno: Deno.version.deno,
      time: new Date().toISOString(),
      rounds,
      rows: SECTIONS.flatMap((section) => own.filter((row) => row.section === section)),
      peers: peers.map(({ name, description }) => ({ name, description })),
      missing: [...missingPeers, ...missing],
    };
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

/** The GPU, or the processor with the threads that are at work. */
function deviceName({ device }: Model, threads: number = navigator.hardwareConcurrency): string {
  if (device) return device.description || device.device;
  const processor = os.cpus()[0]?.model.trim() || `${Deno.build.arch} processor`;
  return `${processor}, ${threads} thread${threads === 1 ? "" : "s"}`;
}

function profiledTokens({ config }: Model): number {
  return Math.min(PROFILED, config.contextLength - 1);
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
