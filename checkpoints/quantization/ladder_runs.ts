/** A text on mixtures of a model and its quantized copies: what the ladder and the layers' sensitivity measure. */
import type { Engine } from "../../engine/backend.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { type GgufFile, openGgufFile } from "../../engine/gguf/reader.ts";
import type { Row } from "../../inspect/analyses/analysis_table.ts";
import type { Loaded, LoadModelOptions } from "../../inspect/run/loading.ts";
import type { Model } from "../../inspect/run/model.ts";
import { checkPrompt, onePrompt, type Prompt } from "../../inspect/run/prompt.ts";
import { pieceOf } from "../../inspect/run/vocabulary.ts";
import type { WorkOptions } from "../../inspect/work.ts";
import { largest } from "../../inspect/analyses/numbers.ts";
import { mixedFile } from "../files/mixed_file.ts";
import { promptIdsOf } from "../files/model_argument.ts";
import { divergence, surprisalOf } from "../parity/predictions.ts";
import { type QuantizationType, quantizeModel } from "./quantize.ts";
import { ownRun } from "../parity/lamina.ts";

/** From a file that loses nothing of `tiny` to the smallest. */
export const LADDER: readonly QuantizationType[] = [
  "F16",
  "Q8_0",
  "Q6_K",
  "Q5_K_M",
  "Q4_K_M",
  "Q4_0",
  "Q3_K_M",
  "Q2_K",
];

/** What is quantized, and over which text it is compared. */
export interface LadderOptions extends WorkOptions, Pick<LoadModelOptions, "backend" | "tune"> {
  /** Default: F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q3_K_M, Q2_K. */
  readonly types?: readonly QuantizationType[];
}

/** Columns of what is predicted after each position. */
export const PREDICTIONS = {
  type: "utf8",
  position: "int32",
  token_id: "int32",
  token: "utf8",
  kl: "float64",
  surprisal: "float64",
  base_surprisal: "float64",
  same_top: "bool",
  next: "utf8",
  base_next: "utf8",
  next_probability: "float64",
  base_next_probability: "float64",
} as const;

/** What a model makes of the text: the residual stream and the logits, [T, D] and [T, V]. */
export interface Outcome {
  readonly streams: ReadonlyMap<string, Float32Array>;
  readonly logits: readonly Float32Array[];
}

/** The text, and what the model as it is makes of it. */
export interface Ground {
  readonly model: Loaded;
  readonly ids: readonly number[];
  readonly token: (id: number) => string;
  readonly base: Outcome;
  readonly signal?: AbortSignal;
}

/**
 * Runs a text on a model as it is.
 *
 * @throws {PromptError} for a text that is too long, and for a file without a vocabulary
 * @throws {RangeError} for fewer than two tokens
 */
export async function groundOf(model: Loaded, text: Prompt, signal?: AbortSignal): Promise<Ground> {
  const ids = promptIdsOf(model, onePrompt(text));
  checkPrompt(model.engine.config, ids, 0);
  if (ids.length < 2) throw new RangeError("Cannot foretell one token: give a text of two or more");
  const base = await outcomeOf(model.engine, ids, signal);
  return { model, ids, token: pieceOf(model.file), base, signal };
}

/** A quantized copy, made where it is not there yet. */
export async function openQuantized(
  model: Model | string,
  type: QuantizationType,
  signal?: AbortSignal,
): Promise<{ readonly file: GgufFile } & Disposable> {
  const file = await openGgufFile(await quantizeModel(model, type, { signal }));
  return { file, [Symbol.dispose]: () => file.close() };
}

/** Runs the text on the model with some tensors taken from a quantized copy. */
export async function runMixed(
  { model, ids, signal }: Ground,
  quantized: GgufFile,
  takes: (name: string) => boolean,
): Promise<Outcome> {
  const file = mixedFile(model.file, quantized, takes);
  const engine = await model.engine.variant(file, readConfig(file), { signal });
  try {
    return await outcomeOf(engine, ids, signal);
  } finally {
    engine.dispose();
  }
}

async function outcomeOf(
  engine: Engine,
  ids: readonly number[],
  signal?: AbortSignal,
): Promise<Outcome> {
  const { layers, vocabSize } = engine.config;
  const streams = ["token_embd", ...Array.from({ length: layers }, (_, i) => `blk.${i}.out`)];
  const points = [...streams, "logits"];
  const request = { ids, generate: 0, steps: [0], points, signal };
  const { passes: [{ tensors }] } = await ownRun(engine, request, "exact");
  const data = (point: string) => tensors.get(point)!.data as Float32Array;
  const logits = data("logits");
  return {
    streams: new Map(streams.map((point) => [point, data(point)])),
    logits: ids.map((_, i) => logits.subarray(i * vocabSize, (i + 1) * vocabSize)),
  };
}

/** What is predicted after each position, against the model as it is. */
export function predictionRows(
  type: string,
  { ids, token, base }: Ground,
  { logits }: Outcome,
): Row<typeof PREDICTIONS>[] {
  return ids.map((id, position) => {
    const [own, original] = [logits[position], base.logits[position]];
    const [next, baseNext] = [largest(own, 1)[0], largest(original, 1)[0]];
    return {
      type,
      position,
      token_id: id,
      token: token(id),
      kl: divergence(original, own),
      surprisal: position === 0 ? null : surprisalOf(logits[position - 1], id),
      base_surprisal: position === 0 ? null : surprisalOf(base.logits[position - 1], id),
      same_top: next === baseNext,
      next: token(next),
      base_next: token(baseNext),
      next_probability: Math.exp(-surprisalOf(own, next)),
      base_next_probability: Math.exp(-surprisalOf(original, baseNext)),
    };
  });
}

/** Means over the positions, losses in nats. */
export function summaryOf(rows: readonly Row<typeof PREDICTIONS>[]) {
  const mean = (values: readonly number[]) =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const kls = rows.map(({ kl }) => kl!);
  const loss = mean(rows.slice(1).map(({ surprisal }) => surprisal!));
  return {
    kl: mean(kls),
    kl_max: Math.max(...kls),
    same_top: mean(rows.map(({ same_top }) => same_top ? 1 : 0)),
    loss,
    perplexity: Math.exp(loss),
  };
}

/** Why a copy is not run. */
export function doesNotRun(types: readonly string[]): string {
  return `${types.join(" and ")} ${types.length > 1 ? "do" : "does"} not run here yet`;
}
