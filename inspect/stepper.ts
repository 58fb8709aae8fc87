/** Walking through a forward pass: stop at any step, look, change a value, go on, go back. */
import type { Session, StepRun } from "../engine/backend.ts";
import type { Config } from "../engine/config.ts";
import { type Step, stepName, type Value } from "../engine/plan.ts";
import { type EditList, resolveEdits } from "./interventions.ts";
import { asAsked, type Point, type ResolvedPoint, UnknownPointError } from "./points.ts";
import { TensorView } from "./tensor.ts";

/** A step that has run. */
export interface StepInfo {
  /** Its place in the plan, from 0. */
  readonly index: number;
  /** The name of the value that it made: the point. */
  readonly name: string;
  /** The kernel that it ran on. */
  readonly kernel: string;
  readonly inputs: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /** Names of the weights that it read. */
  readonly weights: readonly string[];
  /** The value that it made. */
  readonly output: TensorView;
  /** From its start to the arrival of its value here, in milliseconds. */
  readonly ms: number;
}

/** Where to stop: a point, or a look at each step. */
export type StopCondition = string | ((step: StepInfo) => boolean);

/** Options of {@linkcode Model.stepper}. */
export interface StepperOptions {
  /** Edits that are made on the way, as in a run. */
  readonly edit?: EditList;
  /** Points that only run when they are named (`blk.*.head_result`). */
  readonly include?: readonly string[];
}

/** What was asked of a stepper cannot be done; the message says why. */
export class StepperError extends Error {
  override readonly name = "StepperError";
}

/** Stops at the first step whose value has a NaN in it. */
export function firstNaN(step: StepInfo): boolean {
  return step.output.toFloat32Array().some(Number.isNaN);
}

/** Stops at the first step whose value has a row longer than this. */
export function normAbove(limit: number): (step: StepInfo) => boolean {
  return ({ output }) => {
    const norms = output.shape.length < 2 ? output : output.norm(output.axes.at(-1));
    return norms.toFloat32Array().some((norm) => Number.isFinite(norm) && norm > limit);
  };
}

/** What a stepper needs of its model. */
export interface StepperModel {
  readonly config: Config;
  readonly session: Session;
  readonly points: readonly Point[];
  readonly resolve: (patterns: readonly string[]) => readonly ResolvedPoint[];
}

/**
 * A pass over a prompt, one step at a time. Every value stays until the stepper is closed, so that any of them can be looked at or
 * changed, and the pass resumed from there.
 */
export class Stepper implements Disposable {
  readonly #model: StepperModel;
  readonly #run: StepRun;
  readonly #byName: ReadonlyMap<string, Value>;
  /** The step that runs next. */
  #next = 0;
  #current: StepInfo | undefined;
  #closed = false;

  /** Use {@linkcode Model.stepper}. */
  constructor(
    model: StepperModel,
    /** The prompt's ids. */
    readonly ids: readonly number[],
    options: StepperOptions = {},
  ) {
    this.#model = model;
    const edits = resolveEdits(options.edit ?? [], (pattern) => model.resolve([pattern]), {
      promptLength: ids.length,
      sequence: 0,
    });
    const included = model.resolve(options.include ?? []).map(({ point }) => point.name);
    const all = model.points.filter(({ onRequest }) => !onRequest).map(({ name }) => name);
    this.#run = model.session.steps({
      ids,
      rows: ids.length,
      wanted: [...new Set([...all, ...included])],
      edits,
    });
    this.#byName = new Map(
      this.#run.plan.flatMap((step) =>
        step.outputs.flatMap((output) => output ? [[output.name, output] as const] : [])
      ),
    );
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
    if (this.done) return undefined;
    const started = performance.now();
    const index = this.#next;
    await this.#run.run(index, index + 1);
    this.#next = index + 1;
    return this.#current = await this.#info(index, started);
  }

  /**
   * Runs on until a point's step has run, or until a look at a step says so; undefined when that did not happen to the end.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a point that lies behind: rewind first
   */
  async until(condition: StopCondition): Promise<StepInfo | undefined> {
    this.#check();
    if (typeof condition === "function") {
      for (let step = await this.next(); step; step = await this.next()) {
        if (condition(step)) return step;
      }
      return undefined;
    }
    const index = this.#indexOf(condition);
    if (index < this.#next) {
      throw new StepperError(
        `Cannot go on to ${condition}: it has run; rewind(${JSON.stringify(condition)}) goes back`,
      );
    }
    const started = performance.now();
    await this.#run.run(this.#next, index + 1);
    this.#next = index + 1;
    return this.#current = await this.#info(index, started);
  }

  /**
   * Looks at any value that has been made.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a step that has not run
   */
  async look(name: string): Promise<TensorView> {
    this.#check();
    const index = this.#indexOf(name);
    if (index >= this.#next) {
      throw new StepperError(`Cannot look at ${name}: its step has not run; until() goes there`);
    }
    const [resolved] = this.#model.resolve([name]);
    const view = await this.#read(resolved.point.name);
    const asked = asAsked(resolved, view.toFloat32Array());
    return new TensorView(asked, view.shape, view.axes, { name });
  }

  /**
   * Changes the value of the last step, or of one that is named; the steps after it read the new one, so after a change of an
   * earlier value the stepper goes back to just behind it.
   *
   * @param change new numbers, or a function that gets the value and returns them or changes its `data`
   */
  async edit(
    change:
      | ArrayLike<number>
      | TensorView
      | ((value: TensorView) => TensorView | Float32Array | void),
    name: string = this.value.name!,
  ): Promise<void> {
    this.#check();
    const index = this.#indexOf(name);
    if (index >= this.#next) {
      throw new StepperError(`Cannot edit ${name}: its step has not run; until() goes there`);
    }
    const point = stepName(this.#run.plan[index]);
    const old = await this.#read(point);
    const result = typeof change === "function" ? change(old) ?? old : change;
    const data = result instanceof TensorView ? result.toFloat32Array() : Float32Array.from(result);
    if (data.length !== old.size) {
      throw new StepperError(
        `Cannot edit ${point}: it has ${old.size} numbers (${
          old.shape.join(" × ")
        }), ${data.length} were given`,
      );
    }
    this.#run.write(point, data);
    this.#next = index + 1;
    this.#current = await this.#info(index, performance.now());
  }

  /**
   * Goes back to just after a point's step: its value stands, what comes after runs again.
   *
   * @throws {UnknownPointError} for a name that is none
   * @throws {StepperError} for a step that has not run
   */
  async rewind(name: string): Promise<StepInfo> {
    this.#check();
    const index = this.#indexOf(name);
    if (index >= this.#next) {
      throw new StepperError(`Cannot rewind to ${name}: its step has not run`);
    }
    this.#next = index + 1;
    return this.#current = await this.#info(index, performance.now());
  }

  /** Frees everything. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#run.dispose();
    this.#model.session.dispose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) throw new StepperError("Cannot go on: the stepper was closed");
  }

  /** The step that makes a point, by its name or alias. */
  #indexOf(name: string): number {
    const { plan } = this.#run;
    const exact = plan.findIndex((step) => stepName(step) === name);
    if (exact >= 0) return exact;
    const [{ point }] = this.#model.resolve([name]);
    const index = plan.findIndex((step) => stepName(step) === point.name);
    if (index < 0) throw new UnknownPointError(name, [], this.#model.config.layers);
    return index;
  }

  async #read(name: string): Promise<TensorView> {
    const { shape, data } = await this.#run.read(name);
    const axes =
      this.#model.points.find((point) => point.name === name.replace(/~\d+$/, ""))?.axes ??
        shape.map((_, i) => `axis${i}`);
    return new TensorView(data, shape, axes, { name });
  }

  async #info(index: number, started: number): Promise<StepInfo> {
    const step: Step = this.#run.plan[index];
    const output = await this.#read(stepName(step));
    const { T, S, R } = this.#run.lengths;
    const size = (dim: Value["shape"][number]) => typeof dim === "number" ? dim : { T, S, R }[dim];
    return {
      index,
      name: stepName(step),
      kernel: step.kernel,
      inputs: step.inputs.map(({ name, shape }) => ({ name, shape: shape.map(size) })),
      weights: step.weights,
      output,
      ms: performance.now() - started,
    };
  }
}
