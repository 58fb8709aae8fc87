/** What `task bench` measures of a loaded model: reading prompts, decoding, and what capturing costs. */
import type { Model } from "../model.ts";
import {
  alternate,
  ratios,
  type RoundOptions,
  type Sample,
  type Spread,
  spread,
} from "./rounds.ts";

/** A line of the bench. */
export interface BenchRow extends Spread {
  /** What was measured, in words: `prefill, 128 tokens`. */
  readonly what: string;
  /** `×` is time over that of the plain run; more is better only in tokens/s. */
  readonly unit: "×" | "tokens/s" | "ms";
  /** What the median of a ratio may be at most. */
  readonly bar?: number;
  /** Bytes that were captured. */
  readonly bytes?: number;
}

/** Prompts whose prefill is measured, in tokens; those that the context does not hold are left out. */
const PROMPTS = [32, 128, 512];
/** Contexts at which decoding is measured. */
const CONTEXTS = [16, 512];
/** Tokens that are generated to measure decoding. */
const DECODED = 32;
/** The prompts under capture, for a run and for a generation. */
const CAPTURED_PROMPT = 128;
const CAPTURED_CONTEXT = 16;

/** What is captured, and how much longer that may take. */
const CAPTURES = [
  {
    name: "residual streams + attention maps",
    capture: ["token_embd", "blk.*.ffn_inp", "blk.*.out", "blk.*.attn_probs"],
    bar: 1.3,
  },
  { name: "everything", capture: ["*"], bar: 2 },
] as const;
const PLAIN = { name: "nothing", capture: [] } as const;

/** Ids for a prompt: which ones does not matter for the time that they take. */
function benchPrompt({ config }: Model, tokens: number): number[] {
  return Array.from({ length: tokens }, (_, i) => (i * 7919 + 101) % config.vocabSize);
}

/** Measures a model, in alternating rounds: ratios first. Captures are held in memory while they are measured. */
export async function benchModel(
  model: Model,
  rounds: number,
  options: RoundOptions = {},
): Promise<BenchRow[]> {
  const { contextLength } = model.config;
  const bytes = new Map<string, number>();
  const samples: Sample[] = [];
  const prompt = Math.min(CAPTURED_PROMPT, contextLength);
  const decoded = Math.min(DECODED, contextLength - CAPTURED_CONTEXT);

  for (const { name, capture } of [PLAIN, ...CAPTURES]) {
    samples.push(async () => {
      const start = performance.now();
      await model.run([benchPrompt(model, prompt)], {
        capture,
        captureLimit: Infinity,
        onCapture: (count) => bytes.set(`run ${name}`, count),
      });
      return { [`run ${name}`]: performance.now() - start };
    });
  }
  for (const { name, capture } of [PLAIN, ...CAPTURES]) {
    samples.push(async () => {
      const { decodeMs } = await timeGeneration(model, CAPTURED_CONTEXT, decoded, {
        capture,
        captureLimit: Infinity,
        onCapture: (count) => bytes.set(`generate ${name}`, count),
      });
      return { [`generate ${name}`]: decodeMs };
    });
  }
  const prompts = PROMPTS.filter((tokens) => tokens + DECODED <= contextLength);
  const contexts = CONTEXTS.filter((tokens) => tokens + DECODED <= contextLength);
  for (const tokens of new Set([...contexts, ...prompts])) {
    samples.push(async () => {
      const count = contexts.includes(tokens) ? DECODED : 1;
      const { prefillMs, decodeMs } = await timeGeneration(model, tokens, count);
      return { [`prefill ${tokens}`]: prefillMs, [`decode ${tokens}`]: decodeMs };
    });
  }

  const figures = await alternate(samples, rounds, options);
  const of = (name: string) => figures.get(name)!;
  const rate = (name: string, tokens: number) => spread(of(name).map((ms) => tokens / ms * 1000));
  const costs = (action: string, what: string): BenchRow[] =>
    CAPTURES.map(({ name, bar }) => ({
      what: `${what}, ${name} captured`,
      unit: "×",
      ...spread(ratios(of(`${action} ${name}`), of(`${action} ${PLAIN.name}`))),
      bar,
      bytes: bytes.get(`${action} ${name}`),
    }));
  return [
    ...costs("run", `prompt of ${prompt}`),
    ...costs("generate", `decoding ${decoded}`),
    ...prompts.map((tokens): BenchRow => ({
      what: `prefill, ${tokens} tokens`,
      unit: "tokens/s",
      ...rate(`prefill ${tokens}`, tokens),
    })),
    ...contexts.map((tokens): BenchRow => ({
      what: `decode after ${tokens} tokens`,
      unit: "tokens/s",
      ...rate(`decode ${tokens}`, DECODED - 1),
    })),
    ...contexts.slice(0, 1).map((tokens): BenchRow => ({
      what: `first token after ${tokens} tokens`,
      unit: "ms",
      ...spread(of(`prefill ${tokens}`)),
    })),
  ];
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
  const { firstTokenMs, decodeTokensPerSecond } = generation.timings;
  const decodeMs = maxTokens > 1 ? (maxTokens - 1) / decodeTokensPerSecond * 1000 : 0;
  return { prefillMs: firstTokenMs, decodeMs };
}
