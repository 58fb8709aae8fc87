/** A session on the processor: passes in order, each run by all threads. */
import { MATMUL_FROM } from "../../kernels/products/products.ts";
import { samplingWords } from "../../kernels/sampling/sampling.ts";
import {
  checkRestore,
  checkRewind,
  nextIds,
  type PassNumbers,
  passNumbers,
  rowsWanted,
  type Session,
  type SessionOptions,
  type StepCost,
  type StepRun,
  withinSession,
} from "../backend.ts";
import { letEventsIn } from "../event_loop.ts";
import type { HostTensor } from "../host_tensor.ts";
import { Lifetime } from "../lifetime.ts";
import type { Config } from "../model/config.ts";
import { type RopeFactors, ropeTables } from "../model/rope_table.ts";
import type { Weights } from "../model/weights.ts";
import type { PassRequest } from "../pass_request.ts";
import { checkLength, compile, extract, firstPosition, hostEdit } from "../plan/compile.ts";
import { type Edit, NO_EDITS } from "../plan/edits.ts";
import { branch, branchInputs } from "../plan/passes/branch.ts";
import { fuse } from "../plan/passes/fuse.ts";
import { narrow } from "../plan/passes/narrow.ts";
import { portions } from "../plan/portions.ts";
import {
  elementCount,
  type Lengths,
  onLastRows,
  type Plan,
  planValues,
  type Step,
  type Value,
} from "../plan/plan.ts";
import { stepCost } from "../plan/step_cost.ts";
import { numbersOf } from "../sampling.ts";
import type { Block } from "./heap.ts";
import { Places } from "./places.ts";
import type { Processor } from "./processor.ts";
import { Program } from "./program.ts";
import { hasRecord } from "./records.ts";
import { weightBlock, weightBytes } from "./tile_memory.ts";

/** Values that are a choice of the next id, the one that counts first. */
const CHOICES = ["sample", "argmax"];

/** Most programs that a session keeps, the ones used last: each edit list has its own, with memory for its values. */
const MOST_PROGRAMS = 16;

/** What a session needs of its model. */
export interface SessionModel {
  readonly processor: Processor;
  readonly config: Config;
  readonly plan: Plan;
  readonly weights: Weights<Block>;
  readonly ropeFactors: RopeFactors;
  /** Of all matrices together. */
  readonly numbers: number;
  /** What caches leave of a heap for the values of passes, in bytes. */
  readonly spared: number;
  /** Told of steps that ran as 64-bit twins, by their kernels' names. */
  onTwins(names: readonly string[]): void;
}

/** What a session is made with. */
export interface CpuSessionOptions extends SessionOptions {
  readonly maxTokens: number;
  readonly handle: Lifetime;
}

/** A program that is ready, and what it is for. */
interface Ready {
  readonly edits: readonly Edit[];
  readonly kind: string;
  readonly program: Program;
}

/** Positions and passes of one sequence. */
export class CpuSession implements Session {
  readonly capacity: number;
  readonly maxTokens: number;
  position = 0;
  readonly #model: SessionModel;
  readonly #values: ReadonlyMap<string, Value>;
  readonly #places: Places;
  readonly #life: Lifetime;
  /** The latest pass: the next one begins when it has ended. */
  #last: Promise<unknown> = Promise.resolve();
  #programs: Ready[] = [];
  /** The ids so far. */
  readonly #history: Uint32Array;
  /** The id that the pass before chose for its last row. */
  #choice: number | undefined;

  constructor(model: SessionModel, options: CpuSessionOptions) {
    this.#model = model;
    this.capacity = options.capacity;
    this.maxTokens = options.maxTokens;
    this.#history = new Uint32Array(this.capacity);
    const { processor, plan, weights, config, ropeFactors } = model;
    this.#values = planValues(plan);
    const makers = new Map(plan.flatMap((step) => {
      const [output] = step.outputs;
      return output?.kind === "cache" ? [[output.name, layerWeight(plan, step.inputs[0])]] : [];
    }));
    this.#places = new Places(processor, {
      plan,
      capacity: this.capacity,
      maxTokens: this.maxTokens,
      tables: ropeTables(config, this.capacity, options.ropeBuilder, ropeFactors),
      heapOf: (cache) => weightBlock(weights, makers.get(cache)!).heap,
      spared: model.spared,
    });
    this.#life = new Lifetime("session", () => this.#free(), options.handle, options.signal);
  }

  get hasNext(): boolean {
    return this.#choice !== undefined;
  }

  async pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    const run = this.#last.then(() => this.#life.use("run a pass", () => this.#pass(request)));
    this.#last = run.catch(() => {});
    return await run;
  }

  async #pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    const numbers = passNumbers(request, this, this.#model.config);
    const program = this.#program(request, numbers);
    try {
      this.#begin(request, numbers);
      for (const { from, to } of portions(program.plan, numbers)) {
        await letEventsIn();
        this.#life.checkAbandoned("run a pass");
        await this.#run(program, request, numbers, from, to);
      }
      const { wanted = ["logits"] } = request;
      const tensors = new Map<string, HostTensor>();
      for (const name of wanted) {
        tensors.set(name, this.#read(program, name, numbers, rowsWanted(request, name, numbers)));
      }
      this.#advance(request, numbers, (name) => tensors.get(name)!.data);
      return tensors;
    } finally {
      if (request.given) program.dispose();
    }
  }

  async profile(request: PassRequest): Promise<readonly StepCost[]> {
    return await this.#life.use("profile a pass", async () => {
      await letEventsIn();
      const numbers = passNumbers(request, this, this.#model.config);
      const program = this.#program(request, numbers);
      const { pass, tail, lengths } = numbers;
      this.#begin(request, numbers);
      const costs = program.plan.map((step, i) => {
        const from = performance.now();
        program.run(i, i + 1, pass, tail);
        const ms = performance.now() - from;
        return stepCost(step, ms, lengths, (name) => weightBytes(this.#model.weights, name));
      });
      this.#advance(request, numbers, (name) => this.#read(program, name, numbers).data);
      return costs;
    });
  }

  steps(request: PassRequest): StepRun {
    this.check();
    const numbers = passNumbers(request, this, this.#model.config);
    const { lengths, pass } = numbers;
    const compiled = compile(this.#model.plan, request, this.capacity);
    const plan = request.branches ? branch(compiled.plan) : compiled.plan;
    // Nothing is fused and every value has a place of its own, so that any step can run again.
    const program = this.#newProgram(
      plan,
      compiled.operands,
      lengths,
      new Set(planValues(plan).keys()),
    );
    const values = new Map([...this.#values, ...planValues(plan)]);
    this.#begin(request, numbers);
    return withinSession({
      plan,
      lengths,
      start: pass.start,
      run: async (from, to) => {
        for (let i = from; i < to; i++) {
          await letEventsIn();
          this.#life.checkAbandoned("run a pass");
          await this.#run(program, request, numbers, i, i + 1);
        }
      },
      read: (name) => Promise.resolve(this.#read(program, name, numbers, undefined, values)),
      write: (name, data) => program.write(values.get(name)!, data),
      finish: () =>
        this.#advance(request, numbers, (name) => this.#read(program, name, numbers).data),
      dispose: () => program.dispose(),
    }, this.#life);
  }

  rewind(position: number): void {
    checkRewind(position, this);
    if (position < this.position) this.#choice = undefined;
    this.position = position;
  }

  restore(position: number, cache: ReadonlyMap<string, Float32Array>): void {
    checkRestore(position, cache, this, this.#model.config);
    for (const [name, data] of cache) this.#places.cache(name).set(data);
    this.#history.fill(0xffffffff, 0, position); // no id
    this.#places.write("history", this.#history, 0, position);
    this.position = position;
    this.#choice = undefined;
  }

  check(): void {
    this.#life.check("run a pass");
  }

  dispose(): void {
    this.#life.abandon();
  }

  #free(): void {
    for (const { program } of this.#programs.splice(0)) program.dispose();
    this.#places.dispose();
  }

  /** The program for passes of this kind: decoding, or a prompt; one row of logits, or all. */
  #program(request: PassRequest, { pass }: PassNumbers): Program {
    const { wanted = ["logits"], edits = [], given, branches } = request;
    const one = !branches;
    const asked: Lengths = {
      T: !one || pass.tokens >= MATMUL_FROM
        ? this.maxTokens
        : pass.tokens === 1
        ? 1
        : MATMUL_FROM - 1,
      S: this.capacity,
      R: pass.rows === 1 && one ? 1 : this.maxTokens,
    };
    const make = () => {
      const compiled = compile(this.#model.plan, request, this.capacity);
      const few = (step: Step) => (onLastRows(step) ? asked.R : asked.T) < MATMUL_FROM;
      const fused = fuse(one ? compiled.plan : narrow(compiled.plan, compiled.wanted), {
        wanted: compiled.wanted,
        // Each matrix has a descriptor of its own, but those of a variant may lie in other heaps.
        adjacent: (names) =>
          new Set(names.map((name) => weightBlock(this.#model.weights, name).heap)).size === 1,
        branches: !one,
        few: one ? few : undefined,
        has: hasRecord,
      });
      const plan = branches ? branch(fused) : fused;
      return this.#newProgram(plan, compiled.operands, asked, compiled.wanted);
    };
    if (given) return make();
    const list = edits.length > 0 ? edits : NO_EDITS;
    const kind = [one ? "" : "branches", asked.T, asked.R, ...wanted.toSorted()].join(" ");
    const at = this.#programs.findIndex((each) => each.edits === list && each.kind === kind);
    const ready = at < 0 ? { edits: list, kind, program: make() } : this.#programs.splice(at, 1)[0];
    this.#programs.push(ready);
    if (this.#programs.length > MOST_PROGRAMS) this.#programs.shift()!.program.dispose();
    return ready.program;
  }

  #newProgram(
    plan: Plan,
    operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
    largest: Lengths,
    kept: ReadonlySet<string>,
  ): Program {
    const { processor, weights, onTwins } = this.#model;
    const program = new Program(processor, weights, this.#places, plan, {
      operands,
      largest,
      kept,
    });
    onTwins(program.twins);
    return program;
  }

  /** Writes what the pass is told. */
  #begin(request: PassRequest, { pass, tail }: PassNumbers): void {
    const { ids, branches, sampling, wanted } = request;
    this.#model.processor.expect(this.#model.numbers * pass.tokens);
    const words = Uint32Array.from(ids === "next" ? [this.#choice!] : ids);
    this.#places.begin(pass, tail);
    this.#places.write("ids", words);
    this.#history.set(words, pass.start);
    this.#places.write("history", this.#history, pass.start, pass.start + pass.tokens);
    if (branches) {
      for (const [name, rows] of Object.entries(branchInputs(branches, pass.start))) {
        this.#places.write(name, Uint32Array.from(rows));
      }
    }
    if (wanted?.includes("surprisal")) this.#places.write("next_ids", nextIds(request, pass));
    if (wanted?.includes("sample")) {
      this.#places.write("sampling", samplingWords(numbersOf(sampling ?? {})));
    }
  }

  /** Runs steps; functions of the user are called where they stand. */
  async #run(
    program: Program,
    request: PassRequest,
    { pass, tail, lengths }: PassNumbers,
    from: number,
    to: number,
  ): Promise<void> {
    for (let i = from; (i = program.run(i, to, pass, tail)) < to; i++) {
      const { inputs: [input], outputs: [output], constants } = program.plan[i];
      const edit = hostEdit(request, constants);
      const count = elementCount(input.shape, lengths);
      const { shape } = extract(input, lengths, pass.start);
      const tensor = { shape, data: program.read(input, 0, count) };
      const data = edit.apply(tensor, firstPosition(input, lengths, pass.start)) ?? tensor.data;
      checkLength(edit, data, tensor);
      program.write(output!, data);
      await letEventsIn();
      this.#life.checkAbandoned("run a pass");
    }
  }

  /** The rows of a value at the given positions (all without), in memory of their own. */
  #read(
    program: Program,
    name: string,
    { lengths, pass }: PassNumbers,
    rows?: readonly number[],
    values: ReadonlyMap<string, Value> = this.#values,
  ): HostTensor {
    const value = values.get(name)!;
    const { shape, regions, positions } = extract(value, lengths, pass.start, rows);
    if (regions.length === 1) {
      const [{ offset, count }] = regions;
      return { shape, data: program.read(value, offset, count), positions };
    }
    const data = new Float32Array(regions.reduce((sum, { count }) => sum + count, 0));
    let at = 0;
    for (const { offset, count } of regions) {
      data.set(program.read(value, offset, count), at);
      at += count;
    }
    return { shape, data, positions };
  }

  /** Moves past the positions of a pass that has run. */
  #advance(
    { wanted, branches }: PassRequest,
    { pass }: PassNumbers,
    chosen: (name: string) => Float32Array,
  ): void {
    const name = branches ? undefined : CHOICES.find((name) => wanted?.includes(name));
    this.#choice = name ? chosen(name).at(-1) : undefined;
    if (!branches) this.position = pass.start + pass.tokens;
  }
}

/** The weight whose product goes into a value, before it is biased or turned. */
function layerWeight(plan: Plan, value: Value): string {
  const step = plan.find(({ outputs }) => outputs.includes(value))!;
  return step.weights[0] ?? layerWeight(plan, step.inputs[0]);
}
