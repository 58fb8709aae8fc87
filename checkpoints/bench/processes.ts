/** What is measured in processes of their own: from the start to the first token, the most memory, and other models. */
import { fileURLToPath } from "node:url";
import type { Bars } from "../../inspect/bench/bars.ts";
import type { BenchRow } from "../../inspect/bench/bench_row.ts";
import type { BenchReport } from "../../inspect/bench/report.ts";
import { spread } from "../../inspect/bench/rounds.ts";
import type { Model } from "../../inspect/run/model.ts";
import type { FirstPasses, FirstPassesRequest } from "./first_passes.ts";

const ROOT = new URL("../../", import.meta.url);
/** Tokens of the prompt of the very first token. */
const FIRST_PROMPT = 16;
/** Tokens that are generated before memory is looked at. */
const DECODED = 8;

/** How processes are started. */
export interface ProcessOptions {
  /** How often each is started, to be measured. */
  readonly rounds: number;
  readonly signal: AbortSignal;
  /** Told a line before each. */
  readonly onProgress: (line: string) => void;
}

/**
 * Milliseconds from starting `generate.ts` to its first token. A first time, which may compile kernels, does not count.
 *
 * @param args of it that say where it runs: `--backend=cpu`
 */
export async function startTimes(
  model: string,
  args: readonly string[],
  { rounds, signal, onProgress }: ProcessOptions,
): Promise<number[]> {
  const ids = Array.from({ length: FIRST_PROMPT }, (_, i) => i + 3).join(",");
  const times: number[] = [];
  for (let i = 0; i <= rounds; i++) {
    onProgress(`starting generate.ts on ${model}, ${i + 1} of ${rounds + 1}`);
    const { firstMs } = await runDeno("generate.ts", [
      ...["-P", "generate.ts", "--model", model, "--json", ...args],
      ...["--ignore-eos", "--max-tokens", "1", "--prompt-ids", ids],
    ], signal);
    if (i > 0) times.push(firstMs);
  }
  return times;
}

/** A line of {@linkcode startTimes}. */
export function startRow(model: string, times: readonly number[], bars: Bars): BenchRow {
  return {
    section: "speed",
    what: `from starting a process to the first token, ${model}`,
    ...{ unit: "ms", ...spread(times), atMost: bars.start[model] },
  };
}

/** What a model's first passes take, each time in a process that does nothing else: time and memory. */
export async function firstPasses(
  request: Omit<FirstPassesRequest, "first" | "decode">,
  { rounds, signal, onProgress }: ProcessOptions,
): Promise<FirstPasses[]> {
  const asked: FirstPassesRequest = { ...request, first: FIRST_PROMPT, decode: DECODED };
  const all: FirstPasses[] = [];
  for (let i = 0; i < rounds; i++) {
    onProgress(`first passes, ${i + 1} of ${rounds}`);
    const { out } = await runDeno("first passes", [
      ...["-P=bench", "checkpoints/bench/first_passes.ts", JSON.stringify(asked)],
    ], signal);
    all.push(JSON.parse(out));
  }
  return all;
}

/** The lines of {@linkcode firstPasses}. */
export function firstPassesRows(
  { weightBytes, config }: Model,
  all: readonly FirstPasses[],
  { memory }: Bars,
): BenchRow[] {
  const megabytes = (of: (passes: FirstPasses) => number) =>
    spread(all.map((passes) => of(passes) / 1e6));
  const [{ prompt }] = all;
  const row = { section: "memory", unit: "MB" } as const;
  return [
    {
      section: "speed",
      what: `first token after ${FIRST_PROMPT} tokens, right after loading`,
      unit: "ms",
      ...spread(all.map(({ firstTokenMs }) => firstTokenMs)),
    },
    {
      ...{ ...row, what: `most resident memory: loaded, a prompt of ${prompt}, ${DECODED} tokens` },
      ...megabytes(({ peakBytes }) => peakBytes),
      atMost: memory === undefined ? undefined : (weightBytes + memory) / 1e6,
      note: memory === undefined ? undefined : `at most: weights + ${memory / 2 ** 30} GiB`,
    },
    {
      ...{ ...row, what: "weights on the device", ...spread([weightBytes / 1e6]) },
      note: `${config.layers} layers`,
    },
    ...(all.every(({ allocatedBytes }) => allocatedBytes !== undefined)
      ? [{
        ...{ ...row, what: "all buffers on the device" },
        ...megabytes(({ allocatedBytes }) => allocatedBytes!),
      }]
      : []),
  ];
}

/**
 * Measures another model, large as it may be, where only it is in memory: how much of the streaming read its decoding reaches, and the most
 * memory.
 *
 * @param args of `task bench` that say where it runs: `--backend=cpu`
 */
export async function besides(
  model: string,
  args: readonly string[],
  { rounds, signal, onProgress }: ProcessOptions,
): Promise<BenchRow[]> {
  onProgress(`measuring ${model}`);
  const { out } = await runDeno(model, [
    ...["-P=bench", "checkpoints/commands/bench.ts", "--model", model, "--json", ...args],
    ...["--rounds", `${rounds}`, "--prompts", "32", "--contexts", "16"],
    ...["--captures", "none", "--starts", "none"],
  ], signal);
  const { rows, model: name }: BenchReport = JSON.parse(out);
  return rows.filter(({ what }) => /^(weights read|most resident|decode|prefill)/.test(what))
    .map((row) => ({ ...row, what: `${name}: ${row.what}` }));
}

/**
 * Runs a script of this repository with Deno: what it printed, and the milliseconds until it began to.
 *
 * @throws {Error} with what it said, when it fails
 */
async function runDeno(
  name: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly out: string; readonly firstMs: number }> {
  const start = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--no-prompt", ...args],
    ...{ cwd: fileURLToPath(ROOT), stdin: "null", stdout: "piped", stderr: "piped", signal },
  }).spawn();
  const said = new Response(child.stderr).text();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let firstMs = NaN;
  for await (const chunk of child.stdout) {
    if (chunks.length === 0) firstMs = performance.now() - start;
    chunks.push(chunk);
  }
  const { success } = await child.status;
  signal.throwIfAborted();
  if (!success) throw new Error(`${name}: ${(await said).trim()}`);
  await said;
  return { out: await new Blob(chunks).text(), firstMs };
}
