/** A session on the GPU: passes in order, submitted whole or, where they are long, in portions. */
import type { Dtype } from "../../kernels/kernel.ts";
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
  type StepCost,
  type StepRun,
  withinSession,
} from "../backend.ts";
import type { PassRequest } from "../pass_request.ts";
import type { HostTensor } from "../host_tensor.ts";
import {
  checkLength,
  compile,
  type Extract,
  extract,
  firstPosition,
  hostEdit,
} from "../plan/compile.ts";
import { letEventsIn } from "../event_loop.ts";
import { Lifetime } from "../lifetime.ts";
import { branch, branchInputs } from "../plan/passes/branch.ts";
import { fuse } from "../plan/passes/fuse.ts";
import { narrow } from "../plan/passes/narrow.ts";
import { passTokens } from "../plan/pass_size.ts";
import { portions } from "../plan/portions.ts";
import { stepCost } from "../plan/step_cost.ts";
import { planeBytes } from "../model/weights.ts";
import {
  type Lengths,
  onLastRows,
  type Plan,
  planValues,
  type Step,
  type Value,
} from "../plan/plan.ts";
import { numbersOf, SAMPLING_DEFAULTS, type SamplingOptions } from "../sampling.ts";
import { Executable, wordsOf } from "./executable.ts";
import { GpuTimer } from "./gpu_timer.ts";
import { NO_EDITS } from "../plan/edits.ts";
import { MAX_TOKENS, type SessionModel, type Workspace } from "./workspace.ts";

/** An id that is none. */
const NO_ID = 0xffffffff;

/** What is read back of a pass. */
type Readable = Pick<PassRequest, "wanted" | "positions" | "whole" | "lastRow">;

/** A step run that reads several points at once and asks nobody whether it may. */
interface PreparedSteps extends Omit<StepRun, "read"> {
  read(points: Readable): Promise<Map<string, HostTensor>>;
}

/** What a session is made with. */
export interface WebgpuSessionOptions {
  readonly capacity: number;
  readonly maxTokens: number;
  readonly handle: Lifetime;
  readonly signal?: AbortSignal;
  /** Takes the workspace back. */
  readonly release: () => void;
}

/** Positions and passes of one sequence. */
export class WebgpuSession implements Session {
  readonly capacity: number;
  readonly maxTokens: number;
  position = 0;
  readonly #model: SessionModel;
  readonly #workspace: Workspace;
  readonly #values: ReadonlyMap<string, Value>;
  readonly #life: Lifetime;
  /** Settles when all commands of the passes so far are submitted; undefined where they are: a pass begins behind those before. */
  #submitting: Promise<void> | undefined;
  /** Where the previous pass chose an id for its last row. */
  #choice: { readonly name: "argmax" | "sample"; readonly row: number } | undefined;
  /** What the choice goes by, as it is on the device. */
  #sampling: SamplingOptions | undefined;

  constructor(model: SessionModel, workspace: Workspace, options: WebgpuSessionOptions) {
    this.#model = model;
    this.#workspace = workspace;
    this.capacity = options.capacity;
    this.maxTokens = options.maxTokens;
    this.#values = planValues(model.plan);
    this.#life = new Lifetime("session", options.release, options.handle, options.signal);
  }

  get hasNext(): boolean {
    return this.#choice !== undefined;
  }

  async pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    const stops = request.edits?.some(({ kind }) => kind === "function") ?? false;
    const before = this.#submitting;
    const { promise, resolve } = Promise.withResolvers<void>();
    const submitted = () => {
      if (this.#submitting === promise) this.#submitting = undefined;
      resolve();
    };
    this.#submitting = promise;
    try {
      if (before) await before;
      return await this.#life.use(
        "run a pass",
        () => stops ? this.#passThroughHost(request) : this.#pass(request, submitted),
      );
    } finally {
      submitted();
    }
  }

  /** A pass that is submitted without waiting for any of it. */
  async #pass(request: PassRequest, submitted: () => void): Promise<Map<string, HostTensor>> {
    const numbers = this.#numbers(request);
    const executable = this.#executable(request, numbers);
    const { gpu } = this.#model.device;
    let encoder = this.#begin(request, numbers);
    let readBack;
    try {
      for (const { from, to, last } of portions(executable.plan, numbers)) {
        encodeSteps(encoder, executable, numbers, from, to);
        if (last) break;
        gpu.queue.submit([encoder.finish()]);
        await letEventsIn();
        this.#life.checkAbandoned("run a pass");
        encoder = gpu.createCommandEncoder();
      }
      readBack = this.#copyOut(encoder, executable, request, numbers);
      gpu.queue.submit([encoder.finish()]);
    } finally {
      if (request.given) executable.dispose();
    }
    this.#advance(request, numbers);
    submitted();
    return await readBack();
  }

  /** A pass with function edits: it stops at each of them. */
  async #passThroughHost(request: PassRequest): Promise<Map<string, HostTensor>> {
    const steps = this.#prepare(request);
    try {
      await steps.run(0, steps.plan.length);
      const tensors = await steps.read(request);
      steps.finish();
      return tensors;
    } finally {
      steps.dispose();
    }
  }

  async profile(request: PassRequest): Promise<readonly StepCost[]> {
    return await this.#life.use("profile a pass", async () => {
      const numbers = this.#numbers(request);
      const { pass, tail, lengths } = numbers;
      const executable = this.#executable(request, numbers);
      const { device, weights } = this.#model;
      device.gpu.queue.submit([this.#begin(request, numbers).finish()]);
      const steps = [...executable.plan.keys()].filter((i) => executable.runs(i, pass, tail));
      const times = await new GpuTimer(device.gpu).measure(
        steps.map((i) => (encoder) => executable.encode(encoder, pass, tail, i, i + 1)),
      );
      device.check();
      this.#advance(request, numbers);
      const size = (name: string) => planeBytes(weights, name);
      return steps.map((i, at) => stepCost(executable.plan[i], times[at], lengths, size));
    });
  }

  steps(request: PassRequest): StepRun {
    this.check();
    const steps = this.#prepare(request);
    const read = async (name: string) => (await steps.read({ wanted: [name] })).get(name)!;
    return withinSession({ ...steps, read }, this.#life);
  }

  #prepare(request: PassRequest): PreparedSteps {
    const numbers = this.#numbers(request);
    const compiled = compile(this.#model.plan, request, this.capacity);
    this.#checkTokens(numbers, this.#mostTokens(request, numbers.pass.rows === 1, true));
    const { operands } = compiled;
    const plan = request.branches ? branch(compiled.plan) : compiled.plan;
    // Nothing is fused and every value has a buffer of its own, so that any step can run again.
    const all = new Set(planValues(plan).keys());
    const executable = this.#newExecutable(plan, operands, numbers.lengths, all);
    const { device } = this.#model;
    const { queue } = device.gpu;
    const values = new Map([...this.#values, ...planValues(plan)]);
    queue.submit([this.#begin(request, numbers).finish()]);

    const read = (points: Readable) => {
      const encoder = device.gpu.createCommandEncoder();
      const readBack = this.#copyOut(encoder, executable, points, numbers, values);
      queue.submit([encoder.finish()]);
      return readBack();
    };
    const write = (name: string, data: Float32Array) =>
      queue.writeBuffer(executable.buffer(name), 0, wordsOf(values.get(name)!, data));
    const applyOnHost = async ({ inputs: [input], outputs, constants }: Step) => {
      const tensor = (await read({ wanted: [input.name] })).get(input.name)!;
      this.#life.checkAbandoned("run a pass");
      const edit = hostEdit(request, constants);
      const first = firstPosition(input, numbers.lengths, numbers.pass.start);
      const data = edit.apply(tensor, first) ?? tensor.data;
      checkLength(edit, data, tensor);
      write(outputs[0]!.name, data);
    };
    return {
      plan,
      lengths: numbers.lengths,
      start: numbers.pass.start,
      async run(from, to) {
        for (let i = from; i < to; i++) {
          const host = plan.findIndex((step, j) => j >= i && j < to && step.operation === "host");
          const end = host < 0 ? to : host;
          const encoder = device.gpu.createCommandEncoder();
          encodeSteps(encoder, executable, numbers, i, end);
          queue.submit([encoder.finish()]);
          if (host >= 0) await applyOnHost(plan[host]);
          i = end;
        }
        device.check();
      },
      read,
      write,
      finish: () => this.#advance(request, numbers),
      dispose: () => executable.dispose(),
    };
  }

  rewind(position: number): void {
    checkRewind(position, this);
    if (position < this.position) this.#choice = undefined;
    this.position = position;
  }

  restore(position: number, cache: ReadonlyMap<string, Float32Array>): void {
    checkRestore(position, cache, this, this.#model.config);
    if (position > 0) { // Deno 2.9 panics when nothing is written
      const { device: { gpu: { queue } } } = this.#model;
      const { buffers } = this.#workspace;
      for (const [name, data] of cache) {
        queue.writeBuffer(buffers.get(name)!, 0, Float32Array.from(data));
      }
      const unknown = new Uint32Array(position).fill(NO_ID);
      queue.writeBuffer(buffers.get("history")!, 0, unknown);
    }
    this.position = position;
    this.#choice = undefined;
  }

  check(): void {
    this.#life.check("run a pass");
  }

  dispose(): void {
    this.#life.abandon();
  }

  /** Checks the request and works out its numbers. */
  #numbers(request: PassRequest): PassNumbers {
    this.#model.device.check();
    return passNumbers(request, this, this.#model.config);
  }

  /** Moves past the positions of a pass that has been submitted. */
  #advance({ wanted, branches }: PassRequest, { pass }: PassNumbers): void {
    if (branches) {
      this.#choice = undefined;
      return;
    }
    this.position = pass.start + pass.tokens;
    this.#choice = wanted?.includes("sample")
      ? { name: "sample", row: 0 }
      : wanted?.includes("argmax")
      ? { name: "argmax", row: pass.rows - 1 }
      : undefined;
  }

  /** Writes ids and uniforms, and opens the pass's encoder. */
  #begin(request: PassRequest, { pass, tail }: PassNumbers): GPUCommandEncoder {
    const { gpu } = this.#model.device;
    const { buffers, tailOffset, pass: uniform } = this.#workspace;
    const encoder = gpu.createCommandEncoder();
    const ids = buffers.get("ids")!;
    if (request.ids === "next") {
      const { name, row } = this.#choice!;
      encoder.copyBufferToBuffer(buffers.get(name)!, row * 4, ids, 0, 4);
    } else {
      gpu.queue.writeBuffer(ids, 0, Uint32Array.from(request.ids));
    }
    encoder.copyBufferToBuffer(ids, 0, buffers.get("history")!, pass.start * 4, pass.tokens * 4);
    if (request.branches) {
      for (const [name, rows] of Object.entries(branchInputs(request.branches, pass.start))) {
        gpu.queue.writeBuffer(buffers.get(name)!, 0, Uint32Array.from(rows));
      }
    }
    if (request.wanted?.includes("surprisal")) {
      gpu.queue.writeBuffer(buffers.get("next_ids")!, 0, nextIds(request, pass));
    }
    const { sampling = SAMPLING_DEFAULTS } = request;
    if (request.wanted?.includes("sample") && sampling !== this.#sampling) {
      this.#sampling = sampling;
      gpu.queue.writeBuffer(buffers.get("sampling")!, 0, samplingWords(numbersOf(sampling)));
    }
    const words = new Uint32Array(tailOffset / 4 + 4);
    words.set([pass.tokens, pass.start, pass.rows]);
    words.set([tail.tokens, tail.start, tail.rows], tailOffset / 4);
    gpu.queue.writeBuffer(uniform, 0, words);
    return encoder;
  }

  /** The executable for passes of this kind: decoding, or a prompt; one row of logits, or all. */
  #executable(request: PassRequest, numbers: PassNumbers): Executable {
    const { pass } = numbers;
    const most = roundUp(this.maxTokens);
    const one = !request.branches;
    const asked: Lengths = {
      T: pass.tokens === 1 && one ? 1 : most,
      S: this.#workspace.capacity,
      R: pass.rows === 1 && one ? 1 : most,
    };
    const make = () => {
      const fitting = this.#mostTokens(request, asked.R === 1);
      this.#checkTokens(numbers, fitting);
      const [T, R] = [asked.T, asked.R].map((positions) => Math.min(positions, fitting));
      const largest = { ...asked, T, R };
      const { plan, operands, wanted } = compile(this.#model.plan, request, this.capacity);
      const { weights } = this.#model;
      const fused = fuse(one ? plan : narrow(plan, wanted), {
        wanted,
        adjacent: (names) => weights.adjacent(names),
        buffers: this.#model.device.gpu.limits.maxStorageBuffersPerShaderStage,
        branches: !one,
        few: one ? (step) => (onLastRows(step) ? largest.R : largest.T) < MATMUL_FROM : undefined,
      });
      const made = request.branches ? branch(fused) : fused;
      return this.#newExecutable(made, operands, largest, wanted);
    };
    const { wanted = ["logits"], edits = [], given } = request;
    const kind = [one ? "" : "branches", asked.T, asked.R, ...wanted.toSorted()].join(" ");
    if (given) return make();
    const executable = this.#workspace.executable(
      edits.length > 0 ? edits : NO_EDITS,
      kind,
      make,
    );
    this.#checkTokens(numbers, executable.largest.T);
    return executable;
  }

  /** Most positions of a pass for a request. */
  #mostTokens(
    { wanted = ["logits"], edits, given }: PassRequest,
    oneRow: boolean,
    stepwise = false,
  ): number {
    const { plan, room } = this.#model;
    const points = [...given?.keys() ?? []];
    // Step by step values are read one by one.
    const kind = stepwise ? { wanted: [], points: [...points, ...wanted] } : { wanted, points };
    return passTokens(plan, { ...kind, edits, oneRow, stepwise }, {
      capacity: this.capacity,
      most: MAX_TOKENS,
      room: room(),
    });
  }

  /** @throws {RangeError} for a pass of more positions than its points have room for */
  #checkTokens({ pass: { tokens } }: PassNumbers, most: number): void {
    if (tokens <= most) return;
    throw new RangeError(
      `Cannot run ${tokens} positions in one pass: the device has room for ${most} with these points; run fewer, or name the points in passes when the session is made`,
    );
  }

  #newExecutable(
    plan: Plan,
    operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
    largest: Lengths,
    kept: ReadonlySet<string>,
  ): Executable {
    this.#workspace.makeRoom();
    const { device, weights, knobsOf } = this.#model;
    const options = { operands, largest, kept, knobsOf };
    return new Executable(device, weights, this.#workspace, plan, options);
  }

  /** Copies what is wanted into staging buffers, as few as hold it; the result waits for it. */
  #copyOut(
    encoder: GPUCommandEncoder,
    executable: Executable,
    request: Readable,
    numbers: PassNumbers,
    values: ReadonlyMap<string, Value> = this.#values,
  ): () => Promise<Map<string, HostTensor>> {
    const { device } = this.#model;
    const { wanted = ["logits"] } = request;
    const { lengths, pass } = numbers;
    const groups: { places: CopiedPlace[]; bytes: number }[] = [];
    for (const name of wanted) {
      const rows = rowsWanted(request, name, numbers);
      const value = values.get(name)!;
      const extracted = extract(value, lengths, pass.start, rows);
      const bytes = extracted.regions.reduce((sum, { count }) => sum + count * 4, 0);
      let group = groups.at(-1);
      if (!group || group.bytes + bytes > device.largestStaging) {
        groups.push(group = { places: [], bytes: 0 });
      }
      const [from, to] = [group.bytes, group.bytes + bytes];
      group.places.push({ ...extracted, name, dtype: value.dtype, from, to });
      group.bytes += bytes;
    }
    const reads = groups.map(({ places, bytes }) => {
      const tensorsOf = (mapped: ArrayBuffer) =>
        places.map((place) => [place.name, copiedTensor(place, mapped)] as const);
      if (bytes === 0) return () => Promise.resolve(tensorsOf(new ArrayBuffer(0)));
      const staging = device.borrow(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
      for (const { name, regions, from } of places) {
        const source = executable.buffer(name);
        let at = from;
        for (const { offset, count } of regions) {
          encoder.copyBufferToBuffer(source, offset * 4, staging, at, count * 4);
          at += count * 4;
        }
      }
      return () => device.readBack(staging, bytes, tensorsOf);
    });
    return async () => new Map((await Promise.all(reads.map((read) => read()))).flat());
  }
}

/** Where the rows of a value that come back lie in a staging buffer, in bytes. */
interface CopiedPlace extends Extract {
  readonly name: string;
  readonly dtype: Dtype;
  readonly from: number;
  readonly to: number;
}

/** A tensor with memory of its own, so that keeping one of them keeps no other. */
function copiedTensor(
  { dtype, shape, positions, from, to }: CopiedPlace,
  mapped: ArrayBuffer,
): HostTensor {
  const bytes = mapped.slice(from, to);
  const data = dtype === "i32" ? Float32Array.from(new Int32Array(bytes)) : new Float32Array(bytes);
  return { shape, data, positions };
}

function encodeSteps(
  encoder: GPUCommandEncoder,
  executable: Executable,
  { pass, tail }: PassNumbers,
  from: number,
  to: number,
): void {
  const compute = encoder.beginComputePass();
  executable.encode(compute, pass, tail, from, to);
  compute.end();
}

/** Positions that an executable for up to `tokens` is made for: few sizes serve all, without a change of kernels. */
function roundUp(tokens: number): number {
  return tokens < MATMUL_FROM ? MATMUL_FROM - 1 : 2 ** Math.ceil(Math.log2(tokens));
}
