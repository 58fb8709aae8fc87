/** A model as people use it: text in, text out. */
import { sizeOf } from "../../base/shape.ts";
import type { Engine, ProcessorUse } from "../../engine/backend.ts";
import type { Config } from "../../engine/model/config.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import { DisposedError } from "../../engine/lifetime.ts";
import type { Plan } from "../../engine/plan/plan.ts";
import type { DeviceInfo } from "../../engine/webgpu/device.ts";
import { nearest } from "../../models/nearest.ts";
import type { Tokenizer } from "../../text/mod.ts";
import deno from "../../deno.json" with { type: "json" };
import { type GenerateOptions, Generation } from "./generation.ts";
import { load, type Loaded, type LoadModelOptions, type LoadPhase } from "./loading.ts";
import { listPoints, type Point, type ResolvedPoint, resolvePoints } from "../points/points.ts";
import { checkPrompt, onePrompt, type Prompt, promptList } from "./prompt.ts";
import { Run, type RunMaker, sinkSource } from "./run.ts";
import { captureBytes, type RunOptions, runPrompts } from "./runner.ts";
import type { Table } from "../tables/mod.ts";
import { TensorView } from "../tensor/tensor.ts";
import {
  planWalk,
  type StepInfo,
  Stepper,
  type StepperOptions,
  type StepsOptions,
} from "./stepper.ts";
import { hasVocabulary, pieceOf, tokenizerOf } from "./vocabulary.ts";
import { longWork, type WorkOptions } from "../work.ts";

export { DisposedError };

/** Lamina's version. */
const VERSION = deno.version;

/** Rows of a weight that a table has unless more are asked for. */
const MOST_ROWS = 65_536;

/** A text that is not exactly one token. */
export class TokenError extends RangeError {
  /** The class's name. */
  override readonly name = "TokenError";
  /**
   * Thrown by {@linkcode Model.tokenId}, and by what else takes tokens by their text.
   *
   * @param text what was to be one token
   * @param pieces what encoding makes of it
   * @param ids tokens that all have this text
   */
  constructor(
    readonly text: string,
    readonly pieces: readonly string[],
    readonly ids: readonly number[] = [],
  ) {
    const asked = JSON.stringify(text);
    const list = pieces.map((piece) => JSON.stringify(piece)).join(", ");
    super(
      ids.length > 0
        ? `${asked} is the text of several tokens: name one by its id, ${ids.join(", ")}`
        : pieces.length === 1
        ? `${asked} is not a token by itself: encoding makes it ${list}`
        : `${asked} is not one token but ${pieces.length}${list && `: ${list}`}`,
    );
  }
}

/** A loaded model. Loading the same file again shares its weights; `dispose` (or `using`) gives it back. */
export class Model {
  readonly #loaded: Loaded;
  #points: readonly Point[] | undefined;
  /** The tokens of each text. */
  #byText: ReadonlyMap<string, readonly number[]> | undefined;
  #stepper: Stepper | undefined;
  #disposed = false;

  /** Use {@linkcode loadModel}. */
  constructor(loaded: Loaded) {
    this.#loaded = loaded;
  }

  /** The hyperparameters. */
  get config(): Config {
    return this.#loaded.engine.config;
  }

  /**
   * The name that it was loaded by, or its file's without `.gguf`. Tables and figures bear it: quantizations of one model have the
   * same `config.name`.
   */
  get name(): string {
    return this.#loaded.found.name;
  }

  /** What runs its passes, on ids and buffers: analyses resume passes on it from values of their own. */
  get engine(): Engine {
    this.#check("run a pass");
    return this.#loaded.engine;
  }

  /**
   * Its file, its engine and its device: what compares and diagnoses models works on them. They stay the model's.
   *
   * @internal
   */
  get loaded(): Loaded {
    this.#check("look into it");
    return this.#loaded;
  }

  /** The steps of a forward pass. */
  get plan(): Plan {
    return this.#loaded.engine.plan;
  }

  /** Where it runs. */
  get backend(): "webgpu" | "cpu" {
    return this.#loaded.engine.backend;
  }

  /** The GPU; undefined on the CPU. */
  get device(): DeviceInfo | undefined {
    return this.#loaded.device?.info;
  }

  /** How many threads compute, and what they have no fast kernels for; undefined on a GPU. */
  get processor(): ProcessorUse | undefined {
    return this.#loaded.engine.processor;
  }

  /** Bytes of weights on the device. */
  get weightBytes(): number {
    return this.#loaded.engine.weightBytes;
  }

  /**
   * The tokenizer of the model's file.
   *
   * @throws {TokenizerError} when the file has none that is known; token ids still work
   */
  get tokenizer(): Tokenizer {
    return tokenizerOf(this.#loaded.file);
  }

  /** The file's metadata. */
  get metadata(): ReadonlyMap<string, unknown> {
    return this.#loaded.file.metadata;
  }

  /**
   * The id of the token with exactly that text: `tokenId(" Paris")`, without any space that encoding puts before a text. Tokens
   * are written as {@linkcode Run.top} shows them (a newline for the byte 0x0A), or as in the file (`▁Paris`).
   *
   * @throws {TokenError} when there is none, or when several tokens have that text
   */
  tokenId(text: string): number {
    const { tokenizer } = this;
    // The file's own token where several read the same: encoding prefers it too.
    const spelled = tokenizer.id(text);
    if (spelled !== undefined && tokenizer.piece(spelled) === text) return spelled;
    this.#byText ??= Map.groupBy(
      Array.from({ length: tokenizer.size }, (_, id) => id),
      (id) => tokenizer.piece(id),
    );
    const [id = spelled, ...others] = this.#byText.get(text) ?? [];
    if (id !== undefined && others.length === 0) return id;
    throw new TokenError(
      text,
      tokenizer.encode(text, { bos: false, eos: false }).map((id) => tokenizer.piece(id)),
      id === undefined ? [] : [id, ...others],
    );
  }

  /**
   * Rows of a weight, dequantized: [count, columns], from row `first` (0) on; all that follow without a `count`. A vector is
   * one row.
   *
   * @throws {RangeError} for a weight that the file does not have, or rows that leave it
   */
  async weightRows(
    name: string,
    options: { readonly first?: number; readonly count?: number } = {},
  ): Promise<Float32Array> {
    this.#check("read a weight");
    const { file } = this.#loaded;
    const tensor = file.tensors.get(name);
    if (!tensor) {
      const [likely] = nearest(name, file.tensors.keys());
      throw new RangeError(
        `No weight ${JSON.stringify(name)} in ${file.name}` +
          (likely ? `: did you mean ${likely}` : ""),
      );
    }
    const { type, shape: [, ...rows], bytes } = tensor;
    const all = sizeOf(rows);
    const { first = 0, count = all - first } = options;
    const whole = Number.isInteger(first) && Number.isInteger(count);
    if (!whole || first < 0 || count < 0 || first + count > all) {
      throw new RangeError(`Cannot read ${count} rows of ${name} from row ${first}: it has ${all}`);
    }
    const rowBytes = bytes / all;
    return dequantize(type, await file.readTensor(tensor, first * rowBytes, count * rowBytes));
  }

  /**
   * A whole weight, dequantized, as a view: a matrix [row, column] makes an output per row from an input per column
   * (`x.matmul(w, { over: ["feature", "column"] })`); a vector is [feature].
   *
   * @throws {RangeError} for a weight that the file does not have
   */
  async weight(name: string): Promise<TensorView> {
    const data = await this.weightRows(name);
    const shape = this.#loaded.file.tensors.get(name)!.shape.toReversed();
    const rows = sizeOf(shape.slice(0, -1));
    return shape.length === 1
      ? new TensorView(data, shape, ["feature"], { name })
      : new TensorView(data, [rows, shape.at(-1)!], ["row", "column"], { name });
  }

  /**
   * Rows of a weight, dequantized, as an Arrow table: columns `row` and `value`; at most 65,536 rows where no count is given.
   *
   * @throws {RangeError} for a weight that the file does not have, or rows that leave it
   */
  async table(
    name: string,
    options: { readonly first?: number; readonly count?: number } = {},
  ): Promise<Table> {
    const { tensorRowsTable } = await import("../tables/mod.ts");
    const { first = 0 } = options;
    const tensor = this.#loaded.file.tensors.get(name);
    const all = tensor ? sizeOf(tensor.shape.slice(1)) : 0;
    const count = options.count ?? Math.min(MOST_ROWS, all - first);
    const data = await this.weightRows(name, tensor ? { first, count } : {});
    const shape = tensor!.shape.toReversed();
    return tensorRowsTable(
      { name, type: tensor!.type.name, shape, firstRow: first },
      data,
      this.#tableMeta,
    );
  }

  /** The file's tensors as an Arrow table: name, type, shape (rows first), bytes and offset. */
  async tensorTable(): Promise<Table> {
    this.#check("list the tensors");
    const { rowsTable, float64, utf8 } = await import("../tables/mod.ts");
    const tensors = [...this.#loaded.file.tensors.values()];
    return rowsTable("tensors", {
      name: utf8(tensors.map(({ name }) => name)),
      type: utf8(tensors.map(({ type }) => type.name)),
      shape: utf8(tensors.map(({ shape }) => JSON.stringify(shape.toReversed()))),
      bytes: float64(tensors.map(({ bytes }) => bytes)),
      offset: float64(tensors.map(({ offset }) => offset)),
    }, this.#tableMeta);
  }

  /** The hyperparameters as an Arrow table of keys and values (in JSON). */
  async configTable(): Promise<Table> {
    this.#check("show the config");
    const { rowsTable, utf8 } = await import("../tables/mod.ts");
    const entries = Object.entries(this.config);
    return rowsTable("config", {
      key: utf8(entries.map(([key]) => key)),
      value: utf8(entries.map(([, value]) => JSON.stringify(value))),
    }, this.#tableMeta);
  }

  /**
   * Everything that can be captured, in the order of computation, as an Arrow table: name, shape, axes, bytes per position,
   * aliases, meaning. {@linkcode Model.pointList} has the same as objects.
   */
  async points(): Promise<Table> {
    this.#check("list the points");
    const { rowsTable, float64, utf8 } = await import("../tables/mod.ts");
    const points = this.pointList;
    return rowsTable("points", {
      point: utf8(points.map(({ name }) => name)),
      shape: utf8(points.map(({ shape }) => JSON.stringify(shape))),
      axes: utf8(points.map(({ axes }) => axes.join(" × "))),
      bytes: float64(points.map((point) => captureBytes([point], [{ T: 1, S: 1, R: 1 }]))),
      aliases: utf8(points.map(({ aliases }) => aliases.join(" "))),
      meaning: utf8(points.map(({ meaning }) => meaning)),
    }, { ...this.#tableMeta, meaning: "bytes are those of one position" });
  }

  /** Everything in the forward pass that has a name, in the order of computation. */
  get pointList(): readonly Point[] {
    return this.#points ??= listPoints(this.config, this.plan);
  }

  get #tableMeta() {
    return { model: this.name, device: this.#deviceName, version: VERSION };
  }

  /**
   * Runs a prompt (or several: a ragged batch) and keeps what is asked for, in the same pass.
   *
   * @param prompt text, texts, or token ids of each sequence
   * @throws {CaptureLimitError} before anything runs, when the capture does not fit
   * @throws {CapacityError} for more positions than there is memory for
   * @throws {UnknownPointError | PositionError | EditError | PromptError | DisposedError | TypeError}
   */
  async run(
    prompt: string | readonly string[] | readonly (readonly number[])[],
    options: RunOptions = {},
  ): Promise<Run> {
    this.#check("run");
    const prompts = promptList(prompt);
    const ids = prompts.map((each) => this.#idsOf(each));
    for (const each of ids) checkPrompt(this.config, each, 0);
    const makeRun = await this.#runMaker();
    const texts = prompts.every((each) => typeof each === "string") ? prompts : undefined;
    const source = () => {
      const sequences = ids.map((ids) => ({
        ids,
        promptLength: ids.length,
        surprisals: new Float64Array(ids.length),
      }));
      return sinkSource(makeRun({ sequences, pieces: [] }, texts));
    };
    const context = { resolve: this.#resolve, source };
    return await longWork(
      "Running the prompt",
      options,
      async (options) =>
        makeRun(await runPrompts(this.#loaded.engine, ids, options, context), texts),
    );
  }

  /**
   * Generates text after a prompt, given as text or as token ids. Iterate the result with `for await`; its `run` holds what
   * was captured.
   *
   * @throws {PromptError} for an empty prompt, or one that leaves no room in the model's context
   * @throws {CapacityError} for more positions than there is memory for
   * @throws {RangeError | TypeError} for options that cannot be
   */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    this.#check("generate");
    const ids = this.#idsOf(onePrompt(prompt));
    return new Generation(
      {
        engine: this.#loaded.engine,
        tokenizer: hasVocabulary(this) ? this.tokenizer : undefined,
        prompt: typeof prompt === "string" ? prompt : undefined,
        resolve: this.#resolve,
        runMaker: () => this.#runMaker(),
      },
      ids,
      options,
    );
  }

  /**
   * Prepares a pass over a prompt to be walked through: `next`, `until`, `value`, `look`, `edit`, `rewind`, `close`. A new one
   * closes the one before it, so that an abandoned stepper in a notebook holds nothing; one that is refused leaves it open.
   *
   * Of a prompt that is longer than one pass, or of which only the `last` positions are asked for, the beginning is run first:
   * `(await model.stepper(ids, { last: 1 }))` walks through one step of decoding.
   *
   * @throws {PromptError} for a prompt that is empty or longer than the context
   * @throws {UnknownPointError | EditError | StepperError} for options that cannot be served
   */
  async stepper(
    prompt: Prompt,
    options: StepperOptions = {},
  ): Promise<Stepper> {
    this.#check("step");
    const ids = this.#idsOf(onePrompt(prompt));
    checkPrompt(this.config, ids, 0);
    const model = {
      engine: this.#loaded.engine,
      points: this.pointList,
      resolve: this.#resolve,
    };
    const walk = planWalk(model, ids, options);
    this.#stepper?.close();
    const stepper = await Stepper.open(model, walk);
    this.#stepper?.close(); // one that was opened in the meantime
    return this.#stepper = stepper;
  }

  /**
   * Walks through a pass step by step; leaving the loop frees everything. Each step's `stepper` looks at other values, edits and
   * rewinds: the loop goes on from where it then stands.
   *
   * ```ts
   * import { loadModel } from "../../mod.ts";
   * using model = await loadModel("tiny");
   * for await (const step of model.steps("Once", { until: "blk.1.attn_probs" })) {
   *   console.log(step.name, step.kernel, step.output.shape, step.ms);
   *   if (step.name === "blk.0.out") await step.stepper.edit((value) => value.mul(2));
   * }
   * ```
   */
  async *steps(
    prompt: Prompt,
    options: StepsOptions = {},
  ): AsyncGenerator<StepInfo, void, undefined> {
    const stepper = await this.stepper(prompt, options);
    try {
      yield* stepper.walk(options.until);
    } finally {
      stepper.close();
    }
  }

  #idsOf(prompt: Prompt): readonly number[] {
    return typeof prompt === "string" ? this.tokenizer.encode(prompt) : Array.from(prompt);
  }

  readonly #resolve = (patterns: readonly string[]): readonly ResolvedPoint[] =>
    resolvePoints(this.pointList, patterns);

  /** What makes runs of captured pieces; loads Arrow on first use. */
  async #runMaker(): Promise<RunMaker> {
    const tables = await import("../tables/mod.ts");
    const model = {
      model: this.name,
      sha256: await this.#loaded.sha256(),
      device: this.#deviceName,
      version: VERSION,
    };
    return (parts, prompts) =>
      new Run({
        ...parts,
        points: this.pointList,
        resolve: this.#resolve,
        token: pieceOf(this.#loaded.file),
        tokenId: (text) => this.tokenId(text),
        tables,
        model,
        prompts,
      });
  }

  get #deviceName(): string {
    return this.device ? this.device.description || this.device.device : "CPU backend";
  }

  #check(what: string): void {
    if (this.#disposed) throw new DisposedError(what);
  }

  /**
   * Gives the model back. Its runs, generations and steppers that are under way end with a {@linkcode DisposedError} at their next
   * pass; when nobody else has the model, its weights are freed after them.
   */
  dispose(): void {
    this.#disposed = true;
    this.#loaded.release();
  }

  /** `dispose`, at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What is said of a phase of loading. */
const PHASES: Readonly<Record<LoadPhase, string>> = {
  pull: "pulling",
  load: "reading weights",
  check: "checking the GPU's kernels",
  tune: "timing the GPU's kernels",
};

/**
 * Loads a model: a known name (`tiny`, `smollm2-135m`, …; pulled when it is not there), or a path of a GGUF file. In a
 * notebook a bar shows how far it is.
 *
 * @throws {UnknownModelError | PullError} when there is no such model
 * @throws {GgufError} when its file is no model that can be run
 * @throws {DeviceError} when the GPU is asked for and there is none
 * @throws {AdapterError} when the GPU computes wrongly
 */
export async function loadModel(
  nameOrPath: string,
  options: LoadModelOptions = {},
): Promise<Model> {
  const { signal, onProgress } = options;
  // Whoever listens to the phases needs no bar.
  const work: WorkOptions = { signal, onProgress: onProgress && (() => {}) };
  return await longWork(`Loading ${nameOrPath}`, work, async (work) => {
    const tell = (phase: LoadPhase, done: number, total = 0) =>
      work.onProgress?.(done, total, PHASES[phase]);
    const all = { ...options, signal: work.signal, onProgress: onProgress ?? tell };
    return new Model(await load(nameOrPath, all));
  });
}
