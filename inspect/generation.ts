/** Text generation: a prompt, then one token after the other, with captures and edits on the way. */
import type { Engine } from "../engine/backend.ts";
import type { Config } from "../engine/config.ts";
import { createSampler, type SamplerOptions } from "../engine/sampler.ts";
import type { Tokenizer } from "../text/mod.ts";
import { greedyIds, sampledIds } from "./decoding.ts";
import { resolveEdits } from "./interventions.ts";
import type { ResolvedPoint } from "./points.ts";
import { type Run, type RunMaker, sinkSource } from "./run.ts";
import {
  absolutePositions,
  captureBytes,
  type CaptureOptions,
  Collector,
  prepareCapture,
  promptPasses,
} from "./runner.ts";

/** How text is generated. Sampling is greedy where no temperature is given. */
export interface GenerateOptions extends SamplerOptions, CaptureOptions {
  /** Most tokens to generate; default 256. The model's context ends generation too. */
  readonly maxTokens?: number;
  /** Goes on after end-of-text tokens. */
  readonly ignoreEos?: boolean;
  /** Captures only the steps of every n-th generated token (the prompt always); default 1. */
  readonly captureEvery?: number;
  /** Ends generation; what was generated stays. */
  readonly signal?: AbortSignal;
}

/** One generated token and the text that it completes; empty while a character's bytes are not all there. */
export interface GeneratedToken {
  readonly id: number;
  readonly text: string;
}

/** Why generation ended. */
export type FinishReason = "end-of-text" | "max-tokens" | "context-full" | "aborted";

/** What generation took. */
export interface GenerationTimings {
  /** From the start to the first token. */
  readonly firstTokenMs: number;
  /** Prompt tokens per second, up to the first generated token. */
  readonly prefillTokensPerSecond: number;
  /** Generated tokens per second after the first one; 0 when there was only one. */
  readonly decodeTokensPerSecond: number;
}

/** A prompt that does not fit. */
export class PromptError extends RangeError {
  override readonly name = "PromptError";
}

/**
 * Checks a prompt's ids.
 *
 * @param room positions that must be left in the model's context
 * @throws {PromptError} for an empty prompt, ids outside the vocabulary, or too little room
 */
export function checkPrompt(config: Config, ids: readonly number[], room: number): void {
  const { contextLength, vocabSize } = config;
  if (ids.length === 0) throw new PromptError("The prompt is empty: give at least one token");
  if (ids.length + room > contextLength) {
    throw new PromptError(
      `The prompt has ${ids.length} tokens and the model's context holds ${contextLength}` +
        `${room > 0 ? ", with one to generate" : ""}; shorten the prompt`,
    );
  }
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined) {
    throw new PromptError(`Cannot run token id ${wrong}: ids go from 0 to ${vocabSize - 1}`);
  }
}

/** What a generation needs of its model. */
export interface GenerationModel {
  readonly engine: Engine;
  /** A model without one generates ids only. */
  readonly tokenizer?: Tokenizer;
  /** The prompt's text, where it was given as a text. */
  readonly prompt?: string;
  /** What captures and edits need; plain text generation goes without. */
  readonly capturing?: {
    readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
    readonly runMaker: () => Promise<RunMaker>;
  };
}

/** Tokens as they are generated: iterate it once, with `for await`. */
export class Generation implements AsyncIterable<GeneratedToken> {
  /** The ids generated so far; an end-of-text token that ended generation is among them. */
  readonly ids: number[] = [];
  /** The text generated so far. */
  text = "";
  finishReason: FinishReason | undefined;
  readonly #model: GenerationModel;
  #collector = new Collector([]);
  #lastLogits: Float32Array | undefined;
  #makeRun: RunMaker | undefined;
  readonly #options: GenerateOptions;
  readonly #maxTokens: number;
  #started = 0;
  #first = 0;
  #last = 0;

  /** @throws {PromptError} for an empty prompt, ids outside the vocabulary, or no room in the model's context */
  constructor(
    model: GenerationModel,
    readonly promptIds: readonly number[],
    options: GenerateOptions = {},
  ) {
    const { config } = model.engine;
    checkPrompt(config, promptIds, 1);
    const { maxTokens = 256 } = options;
    if (!Number.isInteger(maxTokens) || maxTokens < 1) {
      throw new RangeError(
        `Cannot generate ${maxTokens} tokens: maxTokens must be an integer, 1 or more`,
      );
    }
    this.#model = model;
    this.#options = options;
    this.#maxTokens = Math.min(maxTokens, config.contextLength - promptIds.length);
  }

  /** What it took so far. */
  get timings(): GenerationTimings {
    const prefill = this.#first - this.#started;
    const decode = this.#last - this.#first;
    return {
      firstTokenMs: prefill,
      prefillTokensPerSecond: prefill > 0 ? this.promptIds.length / prefill * 1000 : 0,
      decodeTokensPerSecond: decode > 0 ? (this.ids.length - 1) / decode * 1000 : 0,
    };
  }

  /**
   * What was captured so far, as a run over the prompt and the generated tokens.
   *
   * @throws {TypeError} before generation has begun, and where it was begun without a capture
   */
  get run(): Run {
    if (!this.#makeRun) {
      throw new TypeError(
        "Cannot show a run: nothing is captured; iterate a generation with a capture",
      );
    }
    return this.#runOf(this.#makeRun, [...this.promptIds, ...this.ids]);
  }

  /** A run over ids, with what was captured so far. */
  #runOf(makeRun: RunMaker, ids: readonly number[]): Run {
    const sequence = {
      ids,
      promptLength: this.promptIds.length,
      lastLogits: this.#lastLogits,
      surprisals: new Float64Array(ids.length).fill(NaN),
    };
    return makeRun({ sequences: [sequence], pieces: this.#collector.pieces }, this.#prompts);
  }

  get #prompts(): string[] | undefined {
    const { prompt } = this.#model;
    return prompt === undefined ? undefined : [prompt];
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    const { signal, ignoreEos, captureEvery = 1 } = this.#options;
    const { engine, tokenizer } = this.#model;
    const sampler = createSampler(this.#options);
    const { temperature, repeatPenalty } = sampler.options;
    const positions = absolutePositions(this.#options.positions, this.promptIds.length);
    const { capturing } = this.#model;
    if (this.#options.capture?.length) this.#makeRun = await capturing?.runMaker();
    this.#collector = this.#prepareCapture(captureEvery, positions);
    const edits = resolveEdits(
      this.#options.edit ?? [],
      (pattern) => capturing?.resolve([pattern]) ?? [],
      {
        promptLength: this.promptIds.length,
        sequence: 0,
      },
    );
    // One position less: the last generated token is never run.
    const session = engine.session({ capacity: this.promptIds.length + this.#maxTokens - 1 });
    const stream = tokenizer?.stream({ after: this.promptIds });
    const decoding = {
      session,
      prompt: this.promptIds,
      count: this.#maxTokens,
      collector: this.#collector,
      captureEvery,
      positions,
      edits,
    };
    const ids = temperature === 0 && repeatPenalty === 1
      ? greedyIds(decoding)
      : sampledIds(decoding, (logits, history) => {
        this.#lastLogits = logits;
        return sampler.next(logits, history);
      });
    const sink = this.#makeRun && this.#options.sink;
    const sequence = [...this.promptIds];
    let failed = false;
    this.#started = performance.now();
    try {
      sink?.begin?.(sinkSource(this.#runOf(this.#makeRun!, sequence)));
      for await (const id of ids) {
        this.#last = performance.now();
        if (this.ids.length === 0) this.#first = this.#last;
        this.ids.push(id);
        sequence.push(id);
        const ended = !ignoreEos && tokenizer?.endOfGeneration.has(id);
        if (ended) this.finishReason = "end-of-text";
        else if (this.ids.length === this.#maxTokens) {
          const full = this.promptIds.length + this.#maxTokens === engine.config.contextLength;
          this.finishReason = full ? "context-full" : "max-tokens";
        } else if (signal?.aborted) this.finishReason = "aborted";
        let text = stream?.push(id) ?? "";
        if (this.finishReason) text += stream?.end() ?? "";
        this.text += text;
        yield { id, text };
        if (this.finishReason) return;
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      this.finishReason ??= "aborted";
      session.dispose();
      await (failed ? sink?.close?.() : sink?.finish?.());
    }
  }

  #prepareCapture(every: number, positions?: readonly number[]): Collector {
    const { engine, capturing } = this.#model;
    const resolve = capturing?.resolve ?? (() => []);
    const prompt = this.promptIds.length;
    return prepareCapture(this.#options, resolve, (points) => {
      const passes = promptPasses(prompt, engine.maxTokens, 1);
      for (let step = every; step < this.#maxTokens; step += every) {
        passes.push({ T: 1, S: prompt + step, R: 1 });
      }
      return captureBytes(points, passes, positions);
    });
  }
}
