/** Text generation: a prompt, then one token after the other, with captures and edits on the way. */
import type { Engine, Session } from "../../engine/backend.ts";
import type { Edit } from "../../engine/plan/edits.ts";
import { choiceOf, type SamplingOptions, samplingOptions } from "../../engine/sampling.ts";
import type { Tokenizer } from "../../text/mod.ts";
import { chosenIds, type Decoding } from "./decoding.ts";
import { resolveEdits } from "./interventions.ts";
import type { ResolvedPoint } from "../points/points.ts";
import { checkPositions, type Extent, positionsIn } from "./positions.ts";
import { checkPrompt } from "./prompt.ts";
import { lastPosition, type Run, type RunMaker, sinkSource } from "./run.ts";
import {
  captureBytes,
  type CaptureOptions,
  checkCaptureOptions,
  Collector,
  patternsOf,
  prepareCapture,
  promptPasses,
} from "./runner.ts";
import { Surprisals } from "./surprisals.ts";
import { Stopped, untilStop } from "../work.ts";

/** How text is generated. Sampling is greedy where no temperature is given. */
export interface GenerateOptions extends SamplingOptions, CaptureOptions {
  /** Most tokens to generate; default 256. The model's context ends generation too. */
  readonly maxTokens?: number;
  /** Goes on after end-of-text tokens. */
  readonly ignoreEos?: boolean;
  /** Captures only the passes of every n-th generated token (the prompt's always); default 1. */
  readonly captureEvery?: number;
  /** Ends generation; what was generated stays. */
  readonly signal?: AbortSignal;
}

/** One generated token and the text that it completes; empty while a character's bytes are not all there. */
export interface GeneratedToken {
  /** Its place in the vocabulary. */
  readonly id: number;
  /** Whole characters; special tokens show nothing. */
  readonly text: string;
}

/** Why generation ended. */
export type FinishReason = "end-of-text" | "max-tokens" | "context-full" | "aborted";

/** What generation took. */
export interface GenerationTimings {
  /** From the start to the first token; 0 while there is none. */
  readonly firstTokenMs: number;
  /** Prompt tokens per second, up to the first generated token. */
  readonly prefillTokensPerSecond: number;
  /** Generated tokens per second after the first one; 0 when there was only one. */
  readonly decodeTokensPerSecond: number;
}

/** What a generation needs of its model. */
export interface GenerationModel {
  readonly engine: Engine;
  /** A model without one generates ids only. */
  readonly tokenizer?: Tokenizer;
  /** The prompt's text, where it was given as a text. */
  readonly prompt?: string;
  readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
  readonly runMaker: () => Promise<RunMaker>;
}

/** Tokens as they are generated: iterate it once, with `for await`. */
export class Generation implements AsyncIterable<GeneratedToken> {
  /** The ids generated so far; an end-of-text token that ended generation is among them. */
  readonly ids: number[] = [];
  /** The text generated so far. */
  text = "";
  /** Why it ended; undefined while it goes on. */
  finishReason: FinishReason | undefined;
  readonly #model: GenerationModel;
  #collector = new Collector([]);
  #makeRun: RunMaker | undefined;
  readonly #options: GenerateOptions;
  readonly #maxTokens: number;
  /** Prompt and generated ids. */
  readonly #sequence: number[];
  readonly #surprisals: Surprisals;
  #begun = false;
  #started = 0;
  #first = 0;
  #last = 0;

  /**
   * Use {@linkcode Model.generate}.
   *
   * @param promptIds the prompt's ids
   * @throws {PromptError} for an empty prompt, ids outside the vocabulary, or no room in the model's context
   * @throws {CapacityError} for more positions than there is memory for
   * @throws {RangeError | TypeError} for options that cannot be
   */
  constructor(
    model: GenerationModel,
    readonly promptIds: readonly number[],
    options: GenerateOptions = {},
  ) {
    const { config } = model.engine;
    checkPrompt(config, promptIds, 1);
    const { maxTokens = 256, captureEvery = 1 } = options;
    if (!isCount(maxTokens)) {
      throw new RangeError(
        `Cannot generate ${maxTokens} tokens: maxTokens must be an integer, 1 or more`,
      );
    }
    if (!isCount(captureEvery)) {
      throw new RangeError(
        `Cannot capture every ${captureEvery} tokens: captureEvery must be an integer, 1 or more`,
      );
    }
    checkCaptureOptions(options);
    this.#model = model;
    this.#options = options;
    this.#maxTokens = Math.min(maxTokens, config.contextLength - promptIds.length);
    model.engine.checkCapacity(this.#capacity);
    checkPositions(options.positions, [this.#extent]);
    this.#sequence = [...promptIds];
    this.#surprisals = new Surprisals(this.#sequence);
  }

  /** The prompt's text, where it was given as a text. */
  get prompt(): string | undefined {
    return this.#model.prompt;
  }

  /**
   * −ln p of each token of the prompt and of those generated so far, given what is before it, in nats. NaN where its logits did not
   * come by: they do where they are captured, and for generated tokens where ids are sampled while something is captured.
   */
  get surprisals(): Float64Array {
    return this.#surprisals.values;
  }

  /** How far the sequence may reach. */
  get #extent(): Extent {
    const promptLength = this.promptIds.length;
    return { promptLength, length: promptLength + this.#maxTokens };
  }

  /** Positions that are run: the last generated token is not. */
  get #capacity(): number {
    return this.promptIds.length + this.#maxTokens - 1;
  }

  /** What it took so far. */
  get timings(): GenerationTimings {
    const prefill = this.ids.length > 0 ? this.#first - this.#started : 0;
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
    // As they are now: generation may go on.
    return this.#runOf(this.#makeRun, [...this.#sequence]);
  }

  /** A run over ids, with what was captured so far. */
  #runOf(makeRun: RunMaker, ids: readonly number[]): Run {
    const promptLength = this.promptIds.length;
    const sequence = {
      ids,
      promptLength,
      lastLogits: this.#surprisals.logitsAt(lastPosition({ ids, promptLength })),
      surprisals: this.#surprisals.values,
    };
    return makeRun({ sequences: [sequence], pieces: this.#collector.pieces }, this.#prompts);
  }

  get #prompts(): string[] | undefined {
    const { prompt } = this.#model;
    return prompt === undefined ? undefined : [prompt];
  }

  /**
   * Generates; leaving the loop ends it as `aborted`, and so does the signal. What it has so far stays, after a notebook's Stop too.
   *
   * @throws {Stopped} by a notebook's Stop
   * @throws {TypeError} for a second time
   * @throws {SamplingOptionError | LogitsError} when no id can be chosen
   * @throws {UnknownPointError | EditError | CaptureLimitError | CapacityError | DisposedError}
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    if (this.#begun) {
      throw new TypeError("Cannot iterate a generation twice: call generate again for another one");
    }
    this.#begun = true;
    const { ignoreEos } = this.#options;
    const { engine, tokenizer, resolve, runMaker } = this.#model;
    const sampling = samplingOptions(this.#options);
    if (patternsOf(this.#options).length > 0) this.#makeRun = await runMaker();
    this.#collector = this.#prepareCapture();
    const capacity = this.#capacity;
    const edits = resolveEdits(
      this.#options.edit ?? [],
      (pattern) => resolve([pattern]),
      { promptLength: this.promptIds.length, capacity, sequence: 0 },
    );
    const stream = tokenizer?.stream({ after: this.promptIds });
    const sink = this.#makeRun && this.#options.sink;
    sink?.begin?.(sinkSource(this.#runOf(this.#makeRun!, this.#sequence)));
    let session: Session | undefined;
    let failed = false;
    using stop = untilStop(
      () => `Generating was stopped after ${this.ids.length} tokens, which stay in the generation`,
      this.#options.signal,
    );
    const { signal } = stop;
    this.#started = performance.now();
    try {
      const wanted = [choiceOf(sampling), ...this.#collector.names];
      const passes = { wanted, edits, oneRow: !this.#collector.allRows };
      session = engine.session({ capacity, passes, signal });
      for await (const id of chosenIds(this.#decoding(session, edits, sampling))) {
        this.#last = performance.now();
        if (this.ids.length === 0) this.#first = this.#last;
        this.ids.push(id);
        this.#sequence.push(id);
        const ended = !ignoreEos && tokenizer?.endOfGeneration.has(id);
        if (ended) this.finishReason = "end-of-text";
        else if (this.ids.length === this.#maxTokens) {
          const full = this.#extent.length === engine.config.contextLength;
          this.finishReason = full ? "context-full" : "max-tokens";
        } else if (signal?.aborted) this.finishReason = "aborted";
        let text = stream?.push(id) ?? "";
        if (this.finishReason) text += stream?.end() ?? "";
        this.text += text;
        yield { id, text };
        if (this.finishReason === "aborted") stop.check();
        if (this.finishReason) return;
      }
    } catch (error) {
      if (signal?.aborted && error === signal.reason && !(error instanceof Stopped)) return;
      failed = true;
      throw error;
    } finally {
      this.finishReason ??= "aborted";
      session?.dispose();
      await (failed ? sink?.close?.() : sink?.finish?.());
    }
  }

  #decoding(session: Session, edits: readonly Edit[], sampling: SamplingOptions): Decoding {
    const { captureEvery = 1, positions } = this.#options;
    return {
      session,
      prompt: this.promptIds,
      count: this.#maxTokens,
      collector: this.#collector,
      captureEvery,
      positions: positionsIn(positions, this.#extent),
      edits,
      sampling,
      ahead: this.#model.engine.backend !== "cpu",
      // Where nobody can ask for a run, logits that only choose ids need no second look.
      onLogits: this.#makeRun && ((logits, start) => this.#surprisals.take(logits, start)),
    };
  }

  #prepareCapture(): Collector {
    const { engine, resolve } = this.#model;
    const { captureEvery = 1, positions } = this.#options;
    const prompt = this.promptIds.length;
    return prepareCapture(this.#options, resolve, (points) => {
      const passes = promptPasses(prompt, engine.maxTokens);
      for (let step = captureEvery; step < this.#maxTokens; step += captureEvery) {
        passes.push({ T: 1, S: prompt + step, R: 1 });
      }
      return captureBytes(points, passes, positionsIn(positions, this.#extent));
    });
  }
}

/** Whether a number counts something that there is at least one of. */
function isCount(value: number): boolean {
  return Number.isInteger(value) && value >= 1;
}
