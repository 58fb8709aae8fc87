/** Walking through a forward pass: stop at any step, look, change a value, go on, go back. */
import { computationName } from "../../kernels/kernel.ts";
import type { Engine, Session, StepRun } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import { compile } from "../../engine/plan/compile.ts";
import { EditError } from "../../engine/plan/edits.ts";
import type { PassKind } from "../../engine/plan/pass_size.ts";
import { resolveShape, stepName } from "../../engine/plan/plan.ts";
import { editedNumbers, type EditList, resolveEdits } from "./interventions.ts";
import { asAsked, asStored, type Point, type ResolvedPoint } from "../points/points.ts";
import { mask, unmask, visibleKeys } from "../points/visible_keys.ts";
import { TensorView } from "../tensor/tensor.ts";
import { stoppable, untilStop } from "../work.ts";

/** A value that a step read. */
export interface StepInput {
  /** The value's name: mostly a point. */
  readonly name: string;
  /** Its size along each axis in this pass. */
  readonly shape: readonly number[];
}

/** What a function given to {@linkcode Stepper.edit} leaves: new numbers; or nothing, when it changed the view's `data`. */
export type EditedValue = TensorView | Float32Array | void;

/** A step that has run. */
export interface StepInfo {
  /** Its place in the plan, from 0. */
  readonly index: number;
  /** The name of the value that it made: the point. */
  readonly name: string;
  /** The kernel that it ran on. */
  readonly kernel: string;
  /** The values that it read, in the kernel's order. */
  readonly inputs: readonly StepInput[];
  /** Names of the weights that it read. */
  readonly weights: readonly string[];
  /** The value that it made. Attention scores are −∞ at keys that a query does not see. */
  readonly output: TensorView;
  /**
   * Milliseconds that the last call ran: the step, or all steps that {@linkcode Stepper.until} a point ran. On the CPU, those of
   * the computation alone. On the GPU, those from the submission of the commands to the arrival of the value here, which is 10
   * and more however little was computed: Deno gives no clock of the device's own whose unit is known. NaN after `edit` and
   * `rewind`, which run nothing.
   */
  readonly ms: number;
  /** Looks at other values, edits, rewinds; a loop over {@linkcode Model.steps} goes on from where it then stands. */
  readonly stepper: Stepper;
}

/** Where to stop: a point, or a look at each step ({@linkcode firstNaN}, {@linkcode normAbove}, any function). */
export type StopCondition = string | ((step: StepInfo) => boolean | Promise<boolean>);

/** Options of {@linkcode Model.stepper}. */
export interface StepperOptions {
  /** Edits that are made on the way, as in a run. */
  readonly edit?: EditList;
  /** Points that only run when they are named (`blk.*.head_result`). */
  readonly include?: readonly string[];
  /**
   * How many of the prompt's last positions are walked through; those before them are run first and lie in the KV cache. 1 walks
   * through what a generation does for its next token. Default: as many as one pass takes (128; fewer
   * where a device has no room for their attention rows), or the whole prompt.
   */
  readonly last?: number;
}

/** A notebook's Stop is heard between so many steps. */
const STEPS_AT_ONCE = 16;

/** Options of {@linkcode Model.steps}. */
export interface StepsOptions extends StepperOptions {
  /**
   * The last step of the loop. It is looked for where the stepper stands after the loop's body: a body that rewinds, or edits
   * what the condition looks at, makes the loop go on.
   */
  readonly until?: StopCondition;
}

/** What was asked of a stepper cannot be done; the message says why. */
export class StepperError extends Error {
  /** The class's name. */
  override readonly name = "StepperError";
}

/** Stops at the first step whose value has a NaN in it. */
export function firstNaN({ output }: StepInfo): boolean {
  return visibleRows(output).some((row) => row.some(Number.isNaN));
}

/** Stops at the first step whose value has a row longer than this; infinite ones are. */
export function normAbove(limit: number): (step: StepInfo) => boolean {
  const norm = (row: Float32Array) => Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  return ({ output }) => visibleRows(output).some((row) => norm(row) > limit);
}

/** The rows along the last axis, of attention the keys that the query sees. */
function visibleRows(view: TensorView): Float32Array[] {
  const { axes, shape, labels } = view;
  const numbers = view.toFloat32Array();
  const width = shape.at(-1)!;
  return Array.from({ length: numbers.length / width }, (_, i) => {
    const row = numbers.subarray(i * width, (i + 1) * width);
    if (!axes.includes("key")) return row;
    const query = i % shape[axes.indexOf("query")];
    return row.subarray(...visibleKeys(labels.query?.[query] ?? query));
  });
}

/** What a stepper needs of its model. */
export interface StepperModel {
  readonly engine: Engine;
  readonly points: readonly Point[];
  readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
}

/** What a stepper will run. */
export interface Walk {
  readonly ids: readonly number[];
  /** Absolute position of the first row that is walked through. */
  readonly start: number;
  readonly request: PassRequest;
  readonly passes: PassKind;
}

/**
 * Checks what is asked of a stepper and prepares it; nothing runs yet.
 *
 * @throws {UnknownPointError | EditError | StepperError | CapacityError}
 */
export function planWalk(
  { engine, points, resolve }: StepperModel,
  ids: readonly number[],
  options: StepperOptions,
): Walk {
  const edits = resolveEdits(options.edit ?? [], (pattern) => resolve([pattern]), {
    promptLength: ids.length,
    sequence: 0,
  });
  const included = resolve(options.include ?? []).map(({ point }) => point.name);
  const all = points.filter(({ onRequest }) => !onRequest).map(({ name }) => name);
  const wanted = [...new Set([...all, ...included])];
  const passes = { wanted: [], points: wanted, edits, stepwise: true };
  const most = engine.passTokens({ capacity: ids.length, passes });
  const { last = most } = options;
  if (!Number.isInteger(last) || last < 1 || last > most) {
    throw new StepperError(
      `Cannot walk through the last ${last} positions: a pass takes 1 to ${most} of the prompt's ${ids.length}`,
    );
  }
  const start = ids.length - last;
  const request = { ids: ids.slice(start), rows: last, wanted, edits };
  compile(engine.plan, request, ids.length); // refuses what cannot be edited
  return { ids, start, request, passes };
}

/**
 * A pass over a prompt, one step at a time. Every value stays until the stepper is closed, so that any of them can be looked at or
 * changed, and the pass resumed from there.
 */
export class Stepper implements Disposable {
  readonly #model: StepperModel;
  readonly #session: Session;
  readonly #run: StepRun;
  /** The prompt's ids. */
  readonly ids: readonly number[];
  /** The step that runs next. */
  #next = 0;
  #current: StepInfo | undefined;
  #closed = false;

  private constructor(model: StepperModel, session: Session, { ids, request }: Walk) {
    this.#model = model;
    this.#session = session;
    this.#run = session.steps(request);
    this.ids = ids;
  }

  /** Runs what comes before the positions that are walked through. Use {@linkcode Model.stepper}. */
  static async open(model: StepperModel, walk: Walk): Promise<Stepper> {
    const { ids, start, request: { edits }, passes } = walk;
    const session = model.engine.session({ capacity: ids.length, passes });
    using stop = untilStop(() => "Opening the stepper was stopped");
    try {
      while (session.position < start) {
        stop.check();
        const end = Math.min(start, session.position + session.maxTokens);
        await session.pass({ ids: ids.slice(session.position, end), wanted: [], edits });
      }
      return new Stepper(model, session, walk);
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  /** Absolute position of the first row of its values; those before it are in the KV cache. */
  get start(): number {
    return this.#run.start;
  }

  /** The names of all steps, in order. */
  get steps(): string[] {
    return this.#run.plan.map(stepName);
  }

  /** The step that ran last; undefined before the first. */
  get current(): StepInfo | undefined {
    return this.#current;
  }

  /**
   * The value that the last step made.
   *
   * @throws {StepperError} before the first step
   */
  get value(): TensorView {
    if (!this.#current) {
      throw new StepperError("Cannot show a value: no step has run; call next() first");
    }
    return this.#current.output;
  }

  /** Whether all steps have run. */
  get done(): boolean {
    return this.#next === this.#run.plan.length;
  }

  /** Runs one step; undefined when all have run. */
  async next(): Promise<StepInfo | undefined> {
    this.#check();
    return this.done ? undefined : await this.#advance(this.#next);
  }

  /**
   * Runs on until a point's step has run, or until a look at a step says so; undefined when that did not happen to the end.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a pattern that fits several points, and for a point that lies behind: rewind first
   */
  async until(condition: StopCondition): Promise<StepInfo | undefined> {
    this.#check();
    if (typeof condition === "function") {
      for (let step = await this.next(); step; step = await this.next()) {
        if (await condition(step)) return step;
      }
      return undefined;
    }
    const { index } = this.#find(condition);
    if (index < this.#next) {
      throw new StepperError(
        `Cannot go on to ${condition}: it has run; rewind(${JSON.stringify(condition)}) goes back`,
      );
    }
    return await this.#advance(index);
  }

  /** Runs on step by step; see {@linkcode StepsOptions.until}. */
  async *walk(until?: StopCondition): AsyncGenerator<StepInfo, void, undefined> {
    const last = typeof until === "string" ? this.#find(until).index : this.#run.plan.length;
    for (let step = await this.next(); step; step = await this.next()) {
      yield step;
      const current = this.#current!;
      if (current.index >= last || typeof until === "function" && await until(current)) return;
    }
  }

  /**
   * Looks at any value that has been made.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a step that has not run
   */
  async look(name: string): Promise<TensorView> {
    this.#check();
    return await stoppable(() => this.#look(this.#findBehind("look at", name)));
  }

  /**
   * Changes the value of the last step, or of one that is named; the steps after it read the new one, so after a change of an
   * earlier value the stepper goes back to just behind it. Under an alias, it is changed as {@linkcode Stepper.look} shows it.
   *
   * @param change new numbers, or a function that gets the value and returns them or changes its `data`
   * @throws {EditError} for another shape, and for a value that nothing in the pass reads
   */
  async edit(
    change:
      | ArrayLike<number>
      | TensorView
      | ((value: TensorView) => EditedValue | Promise<EditedValue>),
    name: string = this.value.name!,
  ): Promise<void> {
    this.#check();
    const place = this.#findBehind("edit", name);
    const { index, resolved } = place;
    const point = stepName(this.#run.plan[index]);
    if (!this.#run.plan.some(({ inputs }) => inputs.some((input) => input.name === point))) {
      throw new EditError(point, "nothing in the pass reads it, so that would change nothing");
    }
    const old = await this.#look(place);
    const edited = editedNumbers(old, typeof change === "function" ? await change(old) : change);
    const data = resolved ? asStored(resolved, edited) : edited;
    mask(this.#point(point)?.kind ?? "", { shape: old.shape, data, start: this.start });
    this.#run.write(point, data);
    await stoppable(() => this.#goBack(index));
  }

  /**
   * Goes back to just after a point's step: its value stands, what comes after runs again.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a step that has not run
   */
  async rewind(name: string): Promise<StepInfo> {
    this.#check();
    return await stoppable(() => this.#goBack(this.#findBehind("rewind to", name).index));
  }

  /** Frees everything. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#run.dispose();
    this.#session.dispose();
  }

  /** `close`, at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) throw new StepperError("Cannot go on: the stepper was closed");
  }

  /** The step that makes a point, by its name or alias. */
  #find(name: string): FoundStep {
    const { plan } = this.#run;
    const indexOf = (wanted: string) => plan.findIndex((step) => stepName(step) === wanted);
    const exact = indexOf(name);
    if (exact >= 0) return { index: exact };
    const [resolved, ...others] = this.#model.resolve([name]);
    if (others.length > 0) {
      const names = [resolved, ...others].slice(0, 4).map(({ name }) => name).join(", ");
      throw new StepperError(
        `Cannot tell which point ${JSON.stringify(name)} is: it fits ${
          others.length + 1
        }: ${names}${others.length > 3 ? ", …" : ""}; name one`,
      );
    }
    const point = resolved.point.name;
    const index = indexOf(point);
    if (index < 0) {
      throw new StepperError(
        `Cannot step to ${point}: it runs only when it is asked for; open the stepper with include: ["${point}"]`,
      );
    }
    return { index, resolved };
  }

  /** The same of a step that has run. */
  #findBehind(doing: string, name: string): FoundStep {
    const place = this.#find(name);
    if (place.index < this.#next) return place;
    throw new StepperError(`Cannot ${doing} ${name}: its step has not run; until() goes there`);
  }

  /** Runs on to a step, this one included. */
  async #advance(index: number): Promise<StepInfo> {
    using stop = untilStop(() => `Stepping was stopped behind ${this.#current?.name ?? "nothing"}`);
    const started = performance.now();
    while (this.#next <= index && !stop.signal?.aborted) {
      const end = Math.min(index + 1, this.#next + STEPS_AT_ONCE);
      await this.#run.run(this.#next, end);
      this.#next = end;
    }
    const ran = performance.now();
    const last = this.#next - 1;
    const output = await this.#read(last);
    const ended = this.#model.engine.backend === "cpu" ? ran : performance.now();
    this.#current = this.#info(last, output, ended - started);
    stop.check();
    return this.#current;
  }

  /** Makes the step after a given one the next. */
  async #goBack(index: number): Promise<StepInfo> {
    this.#next = index + 1;
    return this.#current = this.#info(index, await this.#read(index), NaN);
  }

  /** A value as its name, or the alias that was asked for, has it. */
  async #look({ index, resolved }: FoundStep): Promise<TensorView> {
    const view = await this.#read(index);
    if (!resolved) return view;
    const { data, shape, axes, labels } = view;
    return new TensorView(asAsked(resolved, data), shape, axes, { name: resolved.name, labels });
  }

  /** What is known of a value's point; what an edit changed is named after it: `<point>~1`. */
  #point(name: string): Point | undefined {
    const point = name.replace(/~\d+$/, "");
    return this.#model.points.find((each) => each.name === point);
  }

  async #read(index: number): Promise<TensorView> {
    const { start } = this;
    const name = stepName(this.#run.plan[index]);
    const { shape, data: own } = await this.#run.read(name);
    const data = own.slice(); // on the CPU it is the pass's own
    const { kind = "", axes = shape.map((_, i) => `axis${i}`) } = this.#point(name) ?? {};
    unmask(kind, { shape, data, start });
    const along = axes.findIndex((axis) => axis === "position" || axis === "query");
    const labels = start > 0 && along >= 0
      ? { [axes[along]]: Array.from({ length: shape[along] }, (_, i) => start + i) }
      : {};
    return new TensorView(data, shape, axes, { name, labels });
  }

  #info(index: number, output: TensorView, ms: number): StepInfo {
    const step = this.#run.plan[index];
    const { inputs, weights } = step;
    return {
      index,
      name: stepName(step),
      kernel: computationName(step),
      inputs: inputs.map(({ name, shape }) => ({
        name,
        shape: resolveShape(shape, this.#run.lengths),
      })),
      weights,
      output,
      ms,
      stepper: this,
    };
  }
}

/** A step of the plan and, where an alias or a pattern led there, what it resolved to. */
interface FoundStep {
  readonly index: number;
  readonly resolved?: ResolvedPoint;
}
