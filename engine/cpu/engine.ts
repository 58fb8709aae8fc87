/** The CPU backend: the plan's steps one by one, each by its kernel's 64-bit twin. Slow and correct. */
import { kernelOf } from "../../kernels/mod.ts";
import { samplingWords } from "../../kernels/sampling/sampling.ts";
import {
  checkRequest,
  checkRestore,
  type Engine,
  engineOf,
  type Session,
  type SessionOptions,
  type StepRun,
  withinSession,
} from "../backend.ts";
import type { PassRequest } from "../pass_request.ts";
import type { HostTensor } from "../host_tensor.ts";
import { freeMemory } from "../model/capacity.ts";
import { branch, branchInputs } from "../plan/passes/branch.ts";
import {
  checkLength,
  compile,
  extract,
  firstPosition,
  hostEdit,
  pickRows,
} from "../plan/compile.ts";
import type { Config } from "../model/config.ts";
import { letEventsIn } from "../event_loop.ts";
import { forward } from "../plan/forward.ts";
import type { GgufFile } from "../gguf/reader.ts";
import { Lifetime } from "../lifetime.ts";
import {
  elementCount,
  type Lengths,
  onLastRows,
  type Plan,
  planValues,
  resolveShape,
  type Step,
  type Value,
} from "../plan/plan.ts";
import { ropeFactors } from "../model/rope_factors.ts";
import { ropeTable } from "../model/rope_table.ts";
import { numbersOf } from "../sampling.ts";
import {
  type Base,
  hostMemory,
  type LoadOptions,
  loadWeights,
  rowReader,
  type Weights,
} from "../model/weights.ts";

/** Values that are a choice of the next id, the one that counts first. */
const CHOICES = ["sample", "argmax"];

/** Positions of one prompt pass. */
const MAX_TOKENS = 128;

/** How the CPU backend is made. */
export interface CpuOptions extends LoadOptions {
  /** Threads at work; twins have one. */
  readonly threads?: number;
}

/**
 * Loads a model's weights into host memory, packed as on a GPU.
 *
 * @param base as for {@linkcode loadWeights}
 */
export async function cpuEngine(
  file: GgufFile,
  config: Config,
  options: CpuOptions = {},
  base?: Base<Uint32Array>,
): Promise<Engine> {
  const weights = await loadWeights(file, config, hostMemory, options, base);
  const factors = await ropeFactors(file, config);
  const plan = forward(config);
  return engineOf({
    backend: "cpu",
    config,
    plan,
    weightBytes: weights.bytes,
    maxTokens: MAX_TOKENS,
    variant: (other, config, { signal } = {}) =>
      cpuEngine(other, config, { signal }, { file, weights }),
    room: () => ({ buffer: hostMemory.limit, total: freeMemory() }),
    session: (options, maxTokens, handle) =>
      new CpuSession(config, plan, weights, { ...options, maxTokens, handle, factors }),
    free: () => weights.destroy(),
  });
}

class CpuSession implements Session {
  readonly capacity: number;
  readonly maxTokens: number;
  position = 0;
  /** The latest pass: the next one begins when it has ended. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #values: ReadonlyMap<string, Value>;
  /** Caches, the RoPE table, the ids so far and the last choice. */
  readonly #kept = new Map<string, Float32Array<ArrayBuffer>>();
  readonly #life: Lifetime;

  constructor(
    readonly config: Config,
    readonly plan: Plan,
    readonly weights: Weights<Uint32Array>,
    options: SessionOptions & {
      readonly maxTokens: number;
      readonly handle: Lifetime;
      readonly factors?: Float32Array;
    },
  ) {
    this.capacity = options.capacity;
    this.maxTokens = options.maxTokens;
    this.#values = planValues(plan);
    const largest: Lengths = { T: this.maxTokens, S: this.capacity, R: 1 };
    for (const value of this.#values.values()) {
      if (value.kind === "cache") {
        this.#kept.set(value.name, new Float32Array(elementCount(value.shape, largest)));
      }
    }
    const { ropeBuilder, factors, handle, signal } = options;
    this.#kept.set("history", new Float32Array(this.capacity));
    this.#kept.set("rope_table", ropeTable(config, this.capacity, ropeBuilder, factors));
    this.#life = new Lifetime("session", () => this.#kept.clear(), handle, signal);
  }

  get hasNext(): boolean {
    return this.#choice() !== undefined;
  }

  async pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    const run = this.#last.then(() => this.#life.use("run a pass", () => this.#pass(request)));
    this.#last = run.catch(() => {});
    return await run;
  }

  async #pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    const steps = this.#prepare(request);
    await steps.run(0, steps.plan.length);
    const { wanted = ["logits"], positions, whole } = request;
    const values = planValues(steps.plan);
    const tensors = new Map<string, HostTensor>();
    for (const name of wanted) {
      const value = values.get(name) ?? this.#values.get(name)!;
      const rows = extract(
        value,
        steps.lengths,
        steps.start,
        whole?.includes(name) ? undefined : positions,
      );
      tensors.set(name, pickRows(await steps.read(name), rows));
    }
    steps.finish();
    return tensors;
  }

  steps(request: PassRequest): StepRun {
    this.check();
    return withinSession(this.#prepare(request), this.#life);
  }

  #prepare(request: PassRequest): StepRun {
    const tokens = checkRequest(request, this, this.config);
    const { rows = 1 } = request;
    const ids = request.ids === "next" ? [this.#choice()!] : request.ids;
    const start = this.position;
    this.#kept.get("history")!.set(ids, start);
    const pass = { tokens, start, rows };
    const tail = { tokens: rows, start: start + tokens - rows, rows };
    const lengths: Lengths = { T: tokens, S: start + tokens, R: rows };
    const compiled = compile(this.plan, request, this.capacity);
    const { operands } = compiled;
    const { branches } = request;
    const plan = branches ? branch(compiled.plan) : compiled.plan;
    const shapes = new Map([...this.#values, ...planValues(plan)]);
    const values = new Map<string, Float32Array<ArrayBuffer>>([
      ...this.#kept,
      ...operands,
      ["ids", Float32Array.from(ids)],
      ...Object.entries(branchInputs(branches ?? [], start))
        .map(([name, rows]) => [name, Float32Array.from(rows)] as const),
      ["sampling", new Float32Array(samplingWords(numbersOf(request.sampling ?? {})).buffer)],
    ]);

    const read = (name: string): HostTensor => {
      const { shape, kind } = shapes.get(name)!;
      const data = values.get(name)!;
      // The cache's own memory changes with the next pass.
      const used = kind === "cache" ? data.slice(0, elementCount(shape, lengths)) : data;
      return { shape: resolveShape(shape, lengths), data: used };
    };
    const runStep = (step: Step) => {
      for (const output of step.outputs) {
        if (output?.kind === "result") {
          values.set(output.name, new Float32Array(elementCount(output.shape, lengths)));
        }
      }
      if (step.operation === "host") {
        const edit = hostEdit(request, step.constants);
        const [input] = step.inputs;
        const tensor = read(input.name);
        const own = { ...tensor, data: tensor.data.slice() };
        const data = edit.apply(own, firstPosition(input, lengths, start)) ?? own.data;
        checkLength(edit, data, tensor);
        values.get(step.outputs[0]!.name)!.set(data);
        return;
      }
      kernelOf(step)!.twin({
        pass: onLastRows(step) ? tail : pass,
        constants: step.constants,
        inputs: step.inputs.map((input) => values.get(input.name)!),
        weights: step.weights.map((name) => rowReader(this.weights, name)),
        outputs: step.outputs.map((output) => output && values.get(output.name)!),
      });
    };
    return {
      plan,
      lengths,
      start,
      run: async (from, to) => {
        for (const step of plan.slice(from, to)) {
          await letEventsIn();
          this.#life.checkAbandoned("run a pass");
          runStep(step);
        }
      },
      // What was read stays as it was when the value is changed.
      read(name) {
        const { shape, data } = read(name);
        return Promise.resolve({ shape, data: data.slice() });
      },
      write: (name, data) => values.get(name)!.set(data),
      finish: () => {
        for (const name of CHOICES) {
          if (!branches && request.wanted?.includes(name)) this.#kept.set(name, values.get(name)!);
          else this.#kept.delete(name);
        }
        if (!branches) this.position = start + tokens;
      },
      dispose: () => values.clear(),
    };
  }

  /** The id that the previous pass chose for its last row. */
  #choice(): number | undefined {
    return CHOICES.map((name) => this.#kept.get(name)?.at(-1)).find((id) => id !== undefined);
  }

  #forgetChoice(): void {
    for (const name of CHOICES) this.#kept.delete(name);
  }

  rewind(position: number): void {
    if (!Number.isInteger(position) || position < 0 || position > this.position) {
      throw new RangeError(
        `Cannot rewind to position ${position}: the session stands at ${this.position}`,
      );
    }
    if (position < this.position) this.#forgetChoice();
    this.position = position;
  }

  restore(position: number, cache: ReadonlyMap<string, Float32Array>): void {
    checkRestore(position, cache, this, this.config);
    for (const [name, data] of cache) this.#kept.get(name)!.set(data);
    this.#kept.get("history")!.fill(Infinity, 0, position); // no id
    this.position = position;
    this.#forgetChoice();
  }

  check(): void {
    this.#life.check("run a pass");
  }

  dispose(): void {
    this.#life.abandon();
  }
}
