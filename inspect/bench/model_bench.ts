/** What `task bench` measures of a loaded model, of the device under it, and of other engines beside it. */
import { patchingSweep } from "../analyses/patching_sweep.ts";
import type { Model } from "../run/model.ts";
import { type Bars, barsOf } from "./bars.ts";
import type { ProbeOptions } from "./device_probes.ts";
import { DeviceShare } from "./device_share.ts";
import type { Peer, Task, TaskKind } from "./peer.ts";
import type { NotMeasured } from "./probe.ts";
import { benchPrompt } from "./prompt.ts";
import { alternate, ratios, type RoundOptions, type Sample, seldom, spread } from "./rounds.ts";
import { type BenchRow, SECTIONS } from "./bench_row.ts";

/** What is measured. */
export interface BenchOptions extends RoundOptions {
  /** Prompts, in tokens; those that the context does not hold are left out. */
  readonly prompts: readonly number[];
  /** Contexts after which decoding is measured. */
  readonly contexts: readonly number[];
  /** Whether captures are measured, and the patching sweep where a peer makes one. */
  readonly captures: boolean;
  /** How the device is probed; undefined leaves it out. */
  readonly probe?: ProbeOptions;
  readonly peers: readonly Peer[];
}

/** What was measured, and what was not. */
export interface BenchResult {
  readonly rows: BenchRow[];
  readonly missing: readonly NotMeasured[];
}

/** Tokens that are generated to measure decoding. */
const DECODED = 32;
/** The prompt that is compared with other engines, and held against the device. */
const PROMPT = 128;
/** Tokens of the patching sweep's prompts, and the rounds in which it is taken: elsewhere it takes minutes. */
const SWEEP = 16;
const SWEEP_ROUNDS = 2;

/** What is captured, and how much longer that may take. */
const CAPTURES = [
  {
    name: "residual streams + attention maps",
    capture: ["token_embd", "blk.*.ffn_inp", "blk.*.out", "blk.*.attn_probs"],
    atMost: 1.3,
  },
  { name: "everything", capture: ["*"], atMost: 2 },
] as const;
const PLAIN = { name: "nothing", capture: [] } as const;

/** What a task is called. */
function words({ kind, tokens }: Task): string {
  switch (kind) {
    case "prefill":
      return `prefill, ${tokens} tokens`;
    case "prefill captured":
      return `prefill, ${tokens} tokens, everything captured`;
    case "decode":
      return `decode after ${tokens} tokens`;
    case "decode captured":
      return `decode after ${tokens} tokens, everything captured`;
    case "patching sweep":
      return `patching sweep, layers × positions, ${tokens} tokens`;
  }
}

const keyOf = (engine: string, { kind, tokens }: Task) => `${engine}: ${kind} ${tokens}`;
const OURS = "lamina";

/** Measures a model, in alternating rounds: ratios first. Captures are held in memory while they are measured. */
export async function benchModel(
  model: Model,
  rounds: number,
  options: BenchOptions,
): Promise<BenchResult> {
  const { contextLength } = model.config;
  const bars = barsOf(model);
  const fits = (tokens: number) => tokens + DECODED <= contextLength;
  const prompts = options.prompts.filter(fits);
  const contexts = options.contexts.filter(fits);
  const [shortest] = contexts;
  const prompt = prompts.filter((tokens) => tokens <= PROMPT).at(-1);
  const positions = Math.min(prompt ?? 0, model.engine.maxTokens);
  using share = options.probe && positions > 0 && shortest !== undefined
    ? new DeviceShare(model, positions, options.probe)
    : undefined;

  const tasks: Task[] = [
    ...(shortest === undefined ? [] : [{ kind: "decode", tokens: shortest } as const]),
    ...(prompt === undefined ? [] : [{ kind: "prefill", tokens: prompt } as const]),
    ...(options.captures
      ? [
        { kind: "decode captured", tokens: CAPTURED_CONTEXT } as const,
        { kind: "prefill captured", tokens: capturedPrompt(model) } as const,
        { kind: "patching sweep", tokens: Math.min(SWEEP, contextLength) } as const,
      ]
      : []),
  ];
  const both = (peer: Peer) => tasks.filter(({ kind }) => peer.kinds.includes(kind));
  const sweeps = options.peers.flatMap(both).filter(({ kind }) => kind === "patching sweep");

  const bytes = new Map<string, number>();
  const own = (tokens: number | undefined) =>
    tokens === undefined
      ? []
      : [ownSpeed(model, tokens, contexts.includes(tokens), options.signal)];
  const theirs = (kind: TaskKind) =>
    options.peers.flatMap((peer) =>
      both(peer).filter((task) => task.kind === kind).map((task): Sample => {
        const sample = async () => ({ [keyOf(peer.name, task)]: await peer.measure(task) });
        return kind === "patching sweep" ? seldom(SWEEP_ROUNDS, sample) : sample;
      })
    );
  // What is compared is taken one after the other.
  const samples: Sample[] = [
    ...own(shortest),
    ...(share?.decodeSamples ?? []),
    ...theirs("decode"),
    ...(prompt === shortest ? [] : own(prompt)),
    ...(share?.prefillSamples ?? []),
    ...theirs("prefill"),
    ...[...new Set([...contexts, ...prompts])]
      .filter((tokens) => tokens !== shortest && tokens !== prompt).flatMap(own),
    ...(options.captures ? captureSamples(model, "generate", bytes, options.signal) : []),
    ...theirs("decode captured"),
    ...(options.captures ? captureSamples(model, "run", bytes, options.signal) : []),
    ...theirs("prefill captured"),
    ...sweeps.slice(0, 1).map((task) =>
      seldom(
        SWEEP_ROUNDS,
        async () => ({ [keyOf(OURS, task)]: await sweep(model, task.tokens, options.signal) }),
      )
    ),
    ...theirs("patching sweep"),
  ];
  const figures = await alternate(samples, rounds, options);
  const of = (name: string) => figures.get(name) ?? [];

  const rows: BenchRow[] = [
    ...options.peers.flatMap((peer) =>
      both(peer).map((task) => againstPeer(bars, peer, task, of)).filter((row) => row !== undefined)
    ),
    ...(share?.rows(
      of,
      of(keyOf(OURS, { kind: "decode", tokens: shortest! })),
      of(keyOf(OURS, { kind: "prefill", tokens: prompt! })),
      bars,
    ) ?? []),
    ...longContext(contexts, of, bars),
    ...(options.captures ? captureCosts(model, bytes, of) : []),
    ...ownRows(prompts, contexts, of),
    ...options.peers.flatMap((peer) =>
      both(peer).map((task) => speedRow(peer.name, task, of)).filter((row) => row !== undefined)
    ),
  ];
  return {
    rows: SECTIONS.flatMap((section) => rows.filter((row) => row.section === section)),
    missing: share?.missing ?? [],
  };
}

type Figures = (name: string) => readonly number[];

/** A prompt, and perhaps decoding after it. */
function ownSpeed(
  model: Model,
  tokens: number,
  decoding: boolean,
  signal?: AbortSignal,
): Sample {
  return async () => {
    const count = decoding ? DECODED : 1;
    const { prefillMs, decodeMs } = await timeGeneration(model, tokens, count, { signal });
    return {
      [keyOf(OURS, { kind: "prefill", tokens })]: prefillMs,
      ...(decoding ? { [keyOf(OURS, { kind: "decode", tokens })]: decodeMs / (count - 1) } : {}),
    };
  };
}

/** Our speed over another engine's. */
function againstPeer(
  { against }: Bars,
  peer: Peer,
  task: Task,
  of: Figures,
): BenchRow | undefined {
  const [ours, theirs] = [of(keyOf(OURS, task)), of(keyOf(peer.name, task))];
  if (ours.length === 0 || theirs.length === 0) return undefined;
  return {
    ...{ section: "against others", what: words(task), engine: peer.name, unit: "×" },
    ...spread(ratios(theirs, ours)),
    againstBest: Math.min(...theirs) / spread(ours).median,
    atLeast: against[`${task.kind} ${peer.name}`],
  };
}

/** Tokens per second, or milliseconds where there are no tokens to count. */
function speedRow(engine: string | undefined, task: Task, of: Figures): BenchRow | undefined {
  const times = of(keyOf(engine ?? OURS, task));
  if (times.length === 0) return undefined;
  const { kind, tokens } = task;
  const row = { section: "speed", what: words(task), engine } as const;
  if (kind === "patching sweep") return { ...row, unit: "ms", ...spread(times) };
  const count = kind.startsWith("decode") ? 1 : tokens;
  return { ...row, unit: "tokens/s", ...spread(times.map((ms) => count / ms * 1000)) };
}

function ownRows(
  prompts: readonly number[],
  contexts: readonly number[],
  of: Figures,
): BenchRow[] {
  const tasks: Task[] = [
    ...prompts.map((tokens) => ({ kind: "prefill", tokens }) as const),
    ...contexts.map((tokens) => ({ kind: "decode", tokens }) as const),
    { kind: "patching sweep", tokens: SWEEP },
  ];
  return tasks.map((task) => speedRow(undefined, task, of)).filter((row) => row !== undefined);
}

/** How much longer a token takes after a long context. */
function longContext(contexts: readonly number[], of: Figures, bars: Bars): BenchRow[] {
  const [short, long] = [Math.min(...contexts), Math.max(...contexts)];
  if (contexts.length < 2) return [];
  const decode = (tokens: number) => of(keyOf(OURS, { kind: "decode", tokens }));
  return [{
    ...{ section: "against itself", what: `a token after ${long} tokens, to one after ${short}` },
    ...{ unit: "×", ...spread(ratios(decode(long), decode(short))) },
    atMost: bars.longContext,
  }];
}

const CAPTURED_CONTEXT = 16;

function capturedPrompt({ config }: Model): number {
  return Math.min(PROMPT, config.contextLength);
}

/** Tokens that are decoded while something is captured. */
function capturedTokens({ config }: Model): number {
  return Math.min(DECODED, config.contextLength - CAPTURED_CONTEXT);
}

/**
 * Without a capture, and with each.
 *
 * @param bytes gets what each capture holds
 */
function captureSamples(
  model: Model,
  action: "run" | "generate",
  bytes: Map<string, number>,
  signal?: AbortSignal,
): Sample[] {
  return [PLAIN, ...CAPTURES].map(({ name, capture }) => async () => {
    const options = {
      capture,
      signal,
      captureLimit: Infinity,
      onCapture: (count: number) => void bytes.set(`${action} ${name}`, count),
    };
    const { ms, key, each } = await (action === "run" ? timeRun : timeDecoding)(model, options);
    return { [`${action} ${name}`]: ms, ...(name === "everything" ? { [key]: each } : {}) };
  });
}

/** Milliseconds in all and, for comparisons, of what they name. */
interface CapturedTime {
  readonly ms: number;
  readonly key: string;
  readonly each: number;
}

async function timeRun(
  model: Model,
  options: Parameters<Model["run"]>[1],
): Promise<CapturedTime> {
  const tokens = capturedPrompt(model);
  const start = performance.now();
  await model.run([benchPrompt(model, tokens)], options);
  const ms = performance.now() - start;
  return { ms, each: ms, key: keyOf(OURS, { kind: "prefill captured", tokens }) };
}

async function timeDecoding(
  model: Model,
  options: Parameters<Model["generate"]>[1],
): Promise<CapturedTime> {
  const tokens = CAPTURED_CONTEXT;
  const count = capturedTokens(model);
  const { decodeMs: ms } = await timeGeneration(model, tokens, count, options);
  return { ms, each: ms / (count - 1), key: keyOf(OURS, { kind: "decode captured", tokens }) };
}

/** What capturing costs, as ratios to the same without it. */
function captureCosts(
  model: Model,
  bytes: ReadonlyMap<string, number>,
  of: Figures,
): BenchRow[] {
  const costs = (action: string, what: string): BenchRow[] =>
    CAPTURES.map(({ name, atMost }) => ({
      ...{ section: "against itself", what: `${what}, ${name} captured`, unit: "×" },
      ...spread(ratios(of(`${action} ${name}`), of(`${action} ${PLAIN.name}`))),
      atMost,
      bytes: bytes.get(`${action} ${name}`),
    }));
  return [
    ...costs("run", `prompt of ${capturedPrompt(model)}`),
    ...costs("generate", `decoding ${capturedTokens(model)}`),
  ];
}

/** Milliseconds of a sweep over layers and positions, from prompts to the table. */
async function sweep(model: Model, tokens: number, signal?: AbortSignal): Promise<number> {
  const prompts = {
    clean: benchPrompt(model, tokens, 1),
    corrupted: benchPrompt(model, tokens),
  };
  const start = performance.now();
  await patchingSweep(model, prompts, {
    metric: [0, 1],
    over: ["position"],
    signal,
  });
  return performance.now() - start;
}

/** Generates greedily; milliseconds up to the first token, and for all the others together. */
export async function timeGeneration(
  model: Model,
  prompt: number,
  maxTokens: number,
  options: Parameters<Model["generate"]>[1] = {},
): Promise<{ prefillMs: number; decodeMs: number }> {
  const ids = benchPrompt(model, prompt);
  const generation = model.generate(ids, { ...options, maxTokens, ignoreEos: true });
  // deno-lint-ignore no-unused-vars -- only the time counts
  for await (const token of generation);
  // An aborted generation ends without an error.
  options.signal?.throwIfAborted();
  const { firstTokenMs, decodeTokensPerSecond } = generation.timings;
  const decodeMs = maxTokens > 1 ? (maxTokens - 1) / decodeTokensPerSecond * 1000 : 0;
  return { prefillMs: firstTokenMs, decodeMs };
}
