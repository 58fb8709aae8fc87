/** Generation beside another engine: both run every token, and are compared as it goes. */
import { asCompared } from "./setup.ts";
import { layerOf } from "../../base/layer_names.ts";
import { nextId, type SamplingOptions, samplingOptions } from "../../engine/sampling.ts";
import { largest } from "../../inspect/analyses/numbers.ts";
import { analysisTable } from "../../inspect/analyses/analysis_table.ts";
import type { Table } from "../../inspect/tables/arrow.ts";
import { previewBundle } from "../../inspect/tables/html.ts";
import { previewText } from "../../inspect/tables/preview.ts";
import type { FinishReason } from "../../inspect/run/generation.ts";
import type { Loaded, LoadModelOptions } from "../../inspect/run/loading.ts";
import type { Model } from "../../inspect/run/model.ts";
import { checkPrompt, onePrompt, type Prompt } from "../../inspect/run/prompt.ts";
import { listPoints, resolvePoints } from "../../inspect/points/points.ts";
import type { Candidate } from "../../inspect/run/run.ts";
import { hasVocabulary, pieceOf, tokenizerOf } from "../../inspect/run/vocabulary.ts";
import { untilStop } from "../../inspect/work.ts";
import { compareTensors, localAllowance } from "../parity/compare.ts";
import { isCompared } from "../parity/contract.ts";
import { openModel, promptIdsOf } from "../files/model_argument.ts";
import { type EngineOptions, openEngine } from "../references/mod.ts";
import { divergence, surprisalOf } from "../parity/predictions.ts";
import {
  activationsOf,
  type FollowedPass,
  type Follower,
  type Provenance,
  ReferenceFailure,
} from "../references/reference.ts";
import { runPass } from "../parity/lamina.ts";

/** What is generated, and what is compared on the way. Sampling is greedy where no temperature is given. */
export interface CompareGenerationOptions
  extends SamplingOptions, EngineOptions, Pick<LoadModelOptions, "backend" | "tune"> {
  /** The other engine: `llama.cpp` (default) or `llama.cpp:vulkan`. */
  readonly reference?: string;
  /** Points to compare, by name, alias or glob, one or several; default `blk.*.out`. */
  readonly points?: string | readonly string[];
  /** How many candidates of each side are kept; default 5. */
  readonly top?: number;
  /** Most tokens to generate; default 64. The model's context ends generation too. */
  readonly maxTokens?: number;
  /** Goes on after end-of-text tokens. */
  readonly ignoreEos?: boolean;
}

/** How far apart both sides are at a point, in the pass that chose a token. */
export interface PointError {
  /** `blk.3.out` */
  readonly point: string;
  /** Of the point; undefined outside of blocks. */
  readonly layer?: number;
  /** The largest absolute difference. */
  readonly largest: number;
  /** Root mean square of the difference. */
  readonly rms: number;
  /** What its checkpoint allows, as a share: the largest one that a number takes. Above 1 it is too far. */
  readonly share: number;
}

/** A generated token, seen from both sides. Both ran the same ids before it: ours. */
export interface ComparedToken {
  /** 1 for the first generated token. */
  readonly step: number;
  /** Its absolute position. */
  readonly position: number;
  /** What we chose. */
  readonly id: number;
  /** The token as people read it. */
  readonly token: string;
  /** The text that it completes; empty while a character's bytes are not all there. */
  readonly text: string;
  /** What we gave it, at temperature 1. */
  readonly probability: number;
  /** What the other engine gave it. */
  readonly referenceProbability: number;
  /** Our likeliest tokens. */
  readonly top: readonly Candidate[];
  /** The other engine's. */
  readonly referenceTop: readonly Candidate[];
  /** Whether both find the same token the likeliest. */
  readonly agrees: boolean;
  /** Kullback–Leibler divergence of the other engine's distribution from ours, in nats. */
  readonly divergence: number;
  /** The largest absolute difference of the logits. */
  readonly logitError: number;
  /** Of the compared points, in the order of computation. */
  readonly errors: readonly PointError[];
}

/** Tokens that are generated where nobody says how many. */
const MOST_TOKENS = 64;

const TOKENS = {
  step: "int32",
  position: "int32",
  token_id: "int32",
  token: "utf8",
  probability: "float64",
  reference_probability: "float64",
  reference_token: "utf8",
  agrees: "bool",
  kl: "float64",
  logit_error: "float64",
  largest_share: "float64",
} as const;

const ERRORS = {
  step: "int32",
  layer: "int32",
  point: "utf8",
  largest: "float64",
  rms: "float64",
  share: "float64",
} as const;

const CANDIDATES = {
  step: "int32",
  side: "utf8",
  rank: "int32",
  token_id: "int32",
  token: "utf8",
  probability: "float64",
  logit: "float64",
} as const;

/** Tokens as they are generated and compared: iterate it once, with `for await`. Its tables hold what was there so far. */
export class ComparedGeneration implements AsyncIterable<ComparedToken> {
  /** What was generated so far. */
  readonly tokens: ComparedToken[] = [];
  /** The text generated so far. */
  text = "";
  /** Why it ended; undefined while it goes on. */
  finishReason: FinishReason | undefined;
  /** What it is compared with; undefined before it begins. */
  reference: Provenance | undefined;
  readonly #model: Model | string;
  readonly #prompt: Prompt;
  readonly #options: CompareGenerationOptions;
  #begun = false;
  #name = "";

  /** Use {@linkcode compareGeneration}. */
  constructor(model: Model | string, prompt: Prompt, options: CompareGenerationOptions) {
    this.#model = model;
    this.#prompt = onePrompt(prompt);
    this.#options = options;
    const { maxTokens = MOST_TOKENS } = options;
    if (!(Number.isInteger(maxTokens) && maxTokens >= 1)) {
      throw new RangeError(
        `Cannot generate ${maxTokens} tokens: maxTokens must be an integer, 1 or more`,
      );
    }
  }

  /**
   * Generates; leaving the loop ends it as `aborted`, and so does the signal.
   *
   * @throws {Stopped} by a notebook's Stop
   * @throws {TypeError} for a second time
   * @throws {ReferenceFailure} when the other engine cannot be had, cannot follow or fails
   * @throws {UnknownPointError | PromptError | SamplingOptionError | LogitsError | DisposedError}
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ComparedToken, void, undefined> {
    if (this.#begun) {
      throw new TypeError(
        "Cannot iterate a generation twice: call compareGeneration again for another one",
      );
    }
    this.#begun = true;
    using stop = untilStop(
      () =>
        `Generating was stopped after ${this.tokens.length} tokens, which stay in the generation`,
      this.#options.signal,
    );
    const options = { ...this.#options, signal: stop.signal };
    try {
      using own = await openModel(this.#model, options);
      using loaded = await asCompared(own, options);
      await using open = new AsyncDisposableStack();
      const name = options.reference ?? "llama.cpp";
      const reference = await openEngine(name, loaded, options, open);
      this.reference = reference.provenance;
      this.#name = loaded.found.name;
      const ids = promptIdsOf(loaded, this.#prompt);
      checkPrompt(loaded.engine.config, ids, 1);
      const points = wantedPoints(loaded, options.points ?? "blk.*.out");
      const follower = reference.follow?.({
        points,
        longestPass: ids.length,
        positions: ids.length + this.#count(loaded, ids),
        signal: options.signal,
      });
      if (!follower) throw new ReferenceFailure(name, "it cannot follow a generation step by step");
      open.use(follower);
      yield* this.#generate(loaded, follower, ids, points, options.signal);
    } catch (error) {
      stop.check(); // the other engine's process is interrupted too
      const { signal } = options;
      if (!(signal?.aborted && error === signal.reason)) throw error;
    } finally {
      this.finishReason ??= "aborted";
    }
  }

  async *#generate(
    loaded: Loaded,
    follower: Follower,
    ids: readonly number[],
    points: readonly string[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ComparedToken, void, undefined> {
    const { engine, file } = loaded;
    const { maxTokens = MOST_TOKENS, ignoreEos = false, onProgress } = this.#options;
    const { rope } = this.reference!;
    const sampling = samplingOptions(this.#options);
    const piece = pieceOf(file);
    const tokenizer = hasVocabulary(file) ? tokenizerOf(file) : undefined;
    const stream = tokenizer?.stream({ after: ids });
    const count = this.#count(loaded, ids);
    const history = [...ids];
    const session = engine.session({
      capacity: ids.length + count - 1,
      passes: { wanted: [...points, "logits"] },
      ropeBuilder: rope,
      signal,
    });
    try {
      let next = ids;
      for (let step = 1; step <= count; step++) {
        signal?.throwIfAborted();
        onProgress?.(step - 1, count, `token ${step}`);
        const start = session.position;
        const [ours, theirs] = await Promise.all([
          runPass(engine, session, next, points),
          follower.pass(next),
        ]);
        const id = nextId(ours.logits, history, sampling);
        const isLast = step === count;
        const ended = !ignoreEos && tokenizer?.endOfGeneration.has(id);
        if (ended) this.finishReason = "end-of-text";
        else if (isLast) this.finishReason = count < maxTokens ? "context-full" : "max-tokens";
        let text = stream?.push(id) ?? "";
        if (this.finishReason) text += stream?.end() ?? "";
        const place = { step, position: history.length, id, token: piece(id), text };
        history.push(id);
        const token = {
          ...place,
          ...this.#predictions(id, ours.logits, theirs.logits, piece),
          errors: points.flatMap((point) => {
            const [a, b] = [ours.tensors.get(point), theirs.tensors.get(point)];
            if (!a || !b) return [];
            const allowance = localAllowance(point, activationsOf(point, this.reference!));
            const { maxError, rms, share } = compareTensors(point, a, b, allowance, start);
            return [{ point, layer: layerOf(point), largest: maxError, rms, share }];
          }),
        };
        this.tokens.push(token);
        this.text += text;
        yield token;
        if (this.finishReason) return;
        next = [id];
      }
    } finally {
      session.dispose();
    }
  }

  /** Tokens that are generated at most. */
  #count({ engine: { config } }: Loaded, ids: readonly number[]): number {
    const { maxTokens = MOST_TOKENS } = this.#options;
    return Math.min(maxTokens, config.contextLength - ids.length);
  }

  #predictions(
    id: number,
    ours: Float32Array,
    theirs: FollowedPass["logits"],
    piece: (id: number) => string,
  ) {
    const { top: count = 5 } = this.#options;
    const probability = (logits: Float32Array, id: number) => Math.exp(-surprisalOf(logits, id));
    const candidates = (logits: Float32Array) =>
      largest(logits, count).map((id): Candidate => ({
        id,
        token: piece(id),
        probability: probability(logits, id),
        logit: logits[id],
      }));
    const [top, referenceTop] = [candidates(ours), candidates(theirs)];
    return {
      probability: probability(ours, id),
      referenceProbability: probability(theirs, id),
      top,
      referenceTop,
      agrees: largest(ours, 1)[0] === largest(theirs, 1)[0],
      divergence: divergence(theirs, ours),
      logitError: ours.reduce((most, logit, i) => Math.max(most, Math.abs(logit - theirs[i])), 0),
    };
  }

  /** A row per generated token: both probabilities, the other engine's likeliest token, `kl`, and the largest share of a tolerance. */
  table(): Table {
    const rows = this.tokens.map((each) => ({
      step: each.step,
      position: each.position,
      token_id: each.id,
      token: each.token,
      probability: each.probability,
      reference_probability: each.referenceProbability,
      reference_token: each.referenceTop.at(0)?.token ?? null,
      agrees: each.agrees,
      kl: each.divergence,
      logit_error: each.logitError,
      largest_share: each.errors.reduce((most, { share }) => Math.max(most, share), 0),
    }));
    return analysisTable("compared_generation", TOKENS, rows, this.#notes("every token"));
  }

  /** A row per generated token and compared point: `largest` and `rms` difference, and the `share` of what is allowed. */
  errorTable(): Table {
    const rows = this.tokens.flatMap(({ step, errors }) =>
      errors.map(({ layer = null, ...each }) => ({ step, layer, ...each }))
    );
    return analysisTable("generation_errors", ERRORS, rows, this.#notes("every point"));
  }

  /** A row per generated token, `side` (`ours`, `reference`) and candidate: the likeliest tokens, from rank 0 on. */
  candidateTable(): Table {
    const rows = this.tokens.flatMap(({ step, top, referenceTop }) =>
      [["ours", top] as const, ["reference", referenceTop] as const].flatMap(([side, list]) =>
        list.map(({ id: token_id, token, probability, logit }, rank) => ({
          ...{ step, side, rank, token_id, token, probability, logit },
        }))
      )
    );
    return analysisTable("candidates", CANDIDATES, rows, this.#notes("the likeliest tokens"));
  }

  #notes(what: string) {
    const { name = "", version = "", weights = "" } = this.reference ?? {};
    return {
      meaning: `${what} of ours and of ${name || "the reference"}`,
      model: this.#name,
      ...{ reference: name, reference_version: version, weights },
    };
  }

  /** What a notebook cell shows: the table of tokens. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return previewBundle(this.table().preview());
  }

  /** What `console.log` shows. */
  [Symbol.for("Deno.customInspect")](): string {
    return previewText(this.table().preview());
  }
}

/**
 * Generates with Lamina while another engine runs the same ids, and compares both at every token: predictions, and tensors at the
 * points that are named. Ours are the ids that both run, so that they stay together past a disagreement. llama.cpp runs on a 32-bit copy
 * of the weights; with `asIs` on the file as people run it, with its roundings.
 *
 * ```ts
 * import { compareGeneration } from "../../mod.ts";
 * const generation = compareGeneration("tiny", "Once upon a time", { maxTokens: 3 });
 * for await (const { token, agrees, divergence } of generation) console.log(token, agrees, divergence);
 * console.log(generation.errorTable());
 * ```
 *
 * @param model a loaded one, or its name or path
 * @param prompt a text or token ids
 * @throws {PromptError} for what is no prompt
 * @throws {RangeError} for a number of tokens that cannot be
 */
export function compareGeneration(
  model: Model | string,
  prompt: Prompt,
  options: CompareGenerationOptions = {},
): ComparedGeneration {
  return new ComparedGeneration(model, prompt, options);
}

/** Names of points that both engines may have. */
function wantedPoints({ engine }: Loaded, patterns: string | readonly string[]): string[] {
  const list = typeof patterns === "string" ? [patterns] : patterns;
  const points = resolvePoints(listPoints(engine.config, engine.plan), list);
  return [...new Set(points.map(({ point }) => point.name))]
    .filter((point) => isCompared(point) && point !== "logits" && point !== "probs");
}
