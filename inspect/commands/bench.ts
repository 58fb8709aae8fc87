/**
 * `./denow task bench`: how fast a model runs here, and what it costs to look at it.
 *
 * @module
 */
import { join } from "node:path";
import denoJson from "../../deno.json" with { type: "json" };
import { benchModel, type BenchRow, timeGeneration } from "../bench/model_bench.ts";
import { type BenchReport, benchTable, benchText } from "../bench/report.ts";
import { spread } from "../bench/rounds.ts";
import { loadModel } from "../model.ts";
import { writeTable } from "../tables/files.ts";
import { choice, flag, number, text } from "./args.ts";
import { createProgress, progressLine } from "./progress.ts";
import { defineCommand, runCommand } from "./run_command.ts";

/** Times that a model is loaded again to measure it. */
const LOADS = 3;
/** The prompt of the very first token. */
const FIRST_PROMPT = 16;

const command = defineCommand({
  name: "./denow task bench",
  summary:
    "Measures a model on this device, in alternating rounds: what capturing costs (as ratios to " +
    "the same without it), prompts and decoding in tokens per second, loading.",
  options: {
    model: text("known name or path of a GGUF file", "FILE|NAME", "tiny"),
    rounds: number("figures per median", { integer: true, min: 1, default: 5 }),
    out: text("folder for the figures as a table, bench.arrow", "DIR"),
    backend: choice("where to run", ["auto", "webgpu", "cpu"], "auto"),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  async main({ options, signal }) {
    const { model: name, rounds, out, backend, json } = options;
    const load = async () => {
      const start = performance.now();
      const { update, finish } = createProgress(`loading ${name}`, { quiet: json });
      const model = await loadModel(name, {
        backend,
        signal,
        onProgress: (_phase, done, total) => update(done, total),
      }).finally(finish);
      return { model, ms: performance.now() - start };
    };
    // Only the first time opens the device and compiles kernels: that is what a start takes.
    const first = await load();
    const { prefillMs } = await timeGeneration(first.model, FIRST_PROMPT, 1);
    first.model.dispose();
    const loads: number[] = [];
    for (let i = 1; i < Math.min(LOADS, rounds); i++) {
      const again = await load();
      loads.push(again.ms);
      again.model.dispose();
    }
    const last = await load();
    using model = last.model;
    loads.push(last.ms);

    const show = progressLine(json);
    const rows = await benchModel(model, rounds, {
      signal,
      onProgress: (done, total) => show(`measured ${done} of ${total}`),
    }).finally(() => show(""));
    const starting: BenchRow[] = [
      { what: "load, again", unit: "ms", ...spread(loads) },
      { what: "start to first token, once", unit: "ms", ...spread([first.ms + prefillMs]) },
    ];
    const report: BenchReport = {
      model: name,
      device: model.device ? model.device.description || model.device.device : "CPU backend",
      version: denoJson.version,
      deno: Deno.version.deno,
      rounds,
      rows: [...rows, ...starting],
    };
    if (out !== undefined) {
      await Deno.mkdir(out, { recursive: true });
      await writeTable(join(out, "bench.arrow"), benchTable(report));
    }
    console.log(json ? JSON.stringify(report) : benchText(report));
  },
});

if (import.meta.main) await runCommand(command);
