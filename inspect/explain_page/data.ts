/** What a page knows of a pass: one run of the model with everything captured, cut to what the page has room for. */
import type { Config, Rope } from "../../engine/model/config.ts";
import { ropeFactors, ropeTable } from "../../engine/model/rope_table.ts";
import type { Model } from "../run/model.ts";
import type { Run } from "../run/run.ts";
import {
  deflated,
  fitHalves,
  layOut,
  type NumberWidth,
  packNumbers,
  type PageTensor,
  rounded,
  type StoredTensor,
} from "./pack.ts";
import { type PageStep, pageSteps } from "./steps.ts";
import { type LogitFacts, logitFacts, pickOf, valueOf, weightsOf } from "./values.ts";

/** The text of a pass. */
interface Words {
  /** The text that was given. */
  readonly prompt: string;
  /** How many of the tokens are the prompt; the others were generated. */
  readonly promptLength: number;
  /** The text of the generated ones. */
  readonly written: string;
}

/** Everything in a page but its looks. Lists of the kept positions are in the order of `positions`. */
export interface PageData extends Words {
  readonly model:
    & Pick<Config, "name" | "layers" | "heads" | "kvHeads" | "width">
    & Pick<Run["meta"], "sha256" | "device" | "version">
    & { readonly vocabulary: number };
  readonly tokens: readonly PageToken[];
  /** Absolute positions whose vectors the page holds, ascending. Keys and values are there of all. */
  readonly positions: readonly number[];
  /** The likeliest next token at each kept position. */
  readonly chosen: readonly number[];
  readonly steps: readonly (PageStep & { readonly pick: number })[];
  readonly tensors: Readonly<Record<string, StoredTensor>>;
  /** Bytes of a number in the page. */
  readonly width: NumberWidth;
  readonly logits: Pick<LogitFacts, "columns" | "normalizers">;
  /** Texts of the tokens in `logits.columns` and of the chosen ones. */
  readonly vocabulary: Readonly<Record<number, string>>;
  /** By the table of RoPE's turns: the base of its angles, and what changes them beside it, in words. */
  readonly ropes: Readonly<Record<string, { readonly base: number; readonly extra?: string }>>;
}

/** A token of the sequence. */
export interface PageToken {
  readonly id: number;
  readonly text: string;
}

/** A page's data, and its numbers both ways. */
export interface PageContent {
  readonly data: PageData;
  /** As the page gives them back. */
  readonly numbers: Float32Array;
  /** Deflated, in base64. */
  readonly packed: string;
}

/** Options of {@linkcode pageContent}. */
export interface PageOptions {
  /** Tokens to generate; all but the last become positions of the page. Default 1: the pass over the prompt, and its choice. */
  readonly maxTokens?: number;
  /** Most bytes of the page's numbers; where they do not fit, only the last positions are kept. Default 4,400,000. */
  readonly maxBytes?: number;
  /** Ends the run. */
  readonly signal?: AbortSignal;
  /** Told the bytes of the capture. */
  readonly onCapture?: (bytes: number) => void;
}

/** A prompt that makes no page. */
export class ExplainError extends RangeError {
  /** The class's name. */
  override readonly name = "ExplainError";
}

/** More tokens make maps that nobody reads. */
export const MAX_POSITIONS = 64;
/** Numbers get more than two bytes where all then stay below this. */
const COMFORTABLE_BYTES = 1_150_000;
const MAX_BYTES = 4_400_000;

/**
 * Runs a prompt and keeps all that its page shows.
 *
 * @throws {ExplainError} for a prompt that is too long for a page
 * @throws {PromptError | CaptureLimitError | DisposedError}
 */
export async function pageContent(
  model: Model,
  prompt: string,
  options: PageOptions = {},
): Promise<PageContent> {
  const { maxTokens = 1, maxBytes = MAX_BYTES, signal, onCapture } = options;
  const { ids, ...words } = await continued(model, prompt, maxTokens, signal);
  const names = model.pointList.filter(({ onRequest }) => !onRequest).map(({ name }) => name);
  const run = await model.run([ids], { capture: names, signal, onCapture });
  const everything = Array.from(ids.keys());
  for (let positions = everything;;) {
    const content = await cut(model, words, run, positions, Math.min(COMFORTABLE_BYTES, maxBytes));
    const fits = content.packed.length <= maxBytes || positions.length === 1;
    if (fits) return content;
    const share = maxBytes / content.packed.length;
    const count = Math.min(positions.length - 1, Math.floor(positions.length * share));
    positions = everything.slice(-Math.max(1, count));
  }
}

/** The prompt's ids and the generated ones but the last, which never runs. */
async function continued(
  model: Model,
  prompt: string,
  maxTokens: number,
  signal: AbortSignal | undefined,
): Promise<Words & { readonly ids: readonly number[] }> {
  const ids = Array.from(model.tokenizer.encode(prompt));
  const all = ids.length + maxTokens - 1;
  if (all > MAX_POSITIONS) {
    const what = maxTokens > 1
      ? `${ids.length} tokens and ${maxTokens - 1} generated ones`
      : `${ids.length} tokens`;
    throw new ExplainError(
      `The prompt makes ${what}; a page shows at most ${MAX_POSITIONS}: shorten the prompt` +
        (maxTokens > 1 ? " or lower --max-tokens" : ""),
    );
  }
  const promptLength = ids.length;
  if (maxTokens === 1) return { ids, prompt, promptLength, written: "" };
  const generation = model.generate(ids, { maxTokens: maxTokens - 1, signal });
  // deno-lint-ignore no-unused-vars -- only the ids are wanted
  for await (const token of generation);
  signal?.throwIfAborted();
  return { ids: [...ids, ...generation.ids], prompt, promptLength, written: generation.text };
}

/** Everything about the kept positions, in as many bytes a number as there is room for; two take whatever they take. */
async function cut(
  model: Model,
  words: Words,
  run: Run,
  kept: readonly number[],
  room: number,
): Promise<PageContent> {
  const { config, tokenizer } = model;
  const { ids } = run;
  const logits = logitFacts(run, kept);
  const tensors = new Map<string, PageTensor>();
  const steps = [];
  for (const step of await pageSteps(model, ids.length)) {
    const value = valueOf(run, step, kept, logits.columns);
    if (value) tensors.set(step.name, value);
    const pick = value ? pickOf(step, value, logits) : 0;
    const weights = await weightsOf(model, step, { pick, logits, ids, run, positions: kept });
    for (const { name, tensor } of weights) tensors.set(`${step.name}/${name}`, tensor);
    steps.push({ ...step, pick, weights: weights.map(({ facts }) => facts) });
  }
  const factors = await ropeFactors(model.loaded.file, config);
  for (const rope of config.ropes) {
    tensors.set(rope.table, {
      data: ropeTable(rope, ids.length, "exact", factors),
      shape: [ids.length, rope.width / 2, 2],
      axes: ["slot", "pair", "part"],
    });
  }
  const { numbers, directory } = layOut(tensors);
  const { width, packed } = await pack(numbers, room);
  const text = (id: number) => id < 0 ? "no token: a logit is not finite" : tokenizer.piece(id);
  const shown = new Set([...logits.columns, ...logits.chosen]);
  const { sha256, device, version } = run.meta;
  const { name, layers, heads, kvHeads, width: modelWidth, vocabSize } = config;
  const data: PageData = {
    model: {
      ...{ sha256, device, version, name, layers, heads, kvHeads },
      ...{ width: modelWidth, vocabulary: vocabSize },
    },
    ...words,
    tokens: Array.from(ids, (id) => ({ id, text: text(id) })),
    positions: kept,
    chosen: logits.chosen,
    steps,
    tensors: directory,
    width,
    logits: { columns: logits.columns, normalizers: logits.normalizers },
    vocabulary: Object.fromEntries([...shown].map((id) => [id, text(id)])),
    ropes: Object.fromEntries(config.ropes.map((rope) => [rope.table, ropeText(rope)])),
  };
  return { data, numbers: rounded(numbers, width), packed };
}

/** Four bytes a number where there is room, else three, else two, if 16-bit floats reach that far. */
async function pack(
  numbers: Float32Array,
  room: number,
): Promise<{ width: NumberWidth; packed: string }> {
  for (const width of [4, 3] as const) {
    // The last bytes of a float do not deflate: no need to try.
    if (numbers.length * (width - 1) > room) continue;
    const packed = await deflated(packNumbers(numbers, width));
    if (packed.length <= room) return { width, packed };
  }
  const width = fitHalves(numbers) ? 2 : 3;
  return { width, packed: await deflated(packNumbers(numbers, width)) };
}

/** What changes RoPE's angles beside the position and the base. */
function ropeText({ base, scaling, factors, magnitude }: Rope): PageData["ropes"][string] {
  const parts = [
    scaling.type === "linear" ? `divided by ${scaling.factor}` : "",
    scaling.type === "yarn" ? `squeezed by YaRN (factor ${scaling.factor})` : "",
    scaling.type === "longrope" ? "divided by LongRoPE's factor of this pair" : "",
    factors === undefined ? "" : "divided by the file's factor of this pair",
    magnitude === 1 ? "" : `cos and sin times ${magnitude}`,
  ].filter((part) => part !== "");
  return { base, extra: parts.length > 0 ? parts.join(", ") : undefined };
}
