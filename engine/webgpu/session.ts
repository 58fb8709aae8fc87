/** A session on the GPU: its cache, and passes that are one submission each. */
import type { Pass } from "../../kernels/kernel.ts";
import {
  checkRequest,
  checkRestore,
  type HostTensor,
  type PassRequest,
  type Session,
  type SessionOptions,
  type StepRun,
} from "../backend.ts";
import { checkLength, compile, extract, hostEdit, pickRows } from "../compile.ts";
import type { Config } from "../config.ts";
import type { Edit } from "../edits.ts";
import { fuse } from "../passes/fuse.ts";
import { elementCount, type Lengths, type Plan, planValues, type Value } from "../plan.ts";
import { ropeTable } from "../rope_table.ts";
import type { Weights } from "../weights.ts";
import type { Device } from "./device.ts";
import { Executable, STORAGE } from "./executable.ts";

/** Most positions of one prompt pass. */
export const MAX_TOKENS = 128;

/** What a session needs of its model. */
export interface SessionModel {
  readonly device: Device;
  readonly config: Config;
  readonly plan: Plan;
  readonly weights: Weights<GPUBuffer>;
  readonly ropeFactors?: Float32Array;
}

/** The numbers of a pass, over all its rows and over the last ones. */
interface PassNumbers {
  readonly pass: Pass;
  readonly tail: Pass;
  readonly lengths: Lengths;
}

const NO_EDITS: readonly Edit[] = [];

/** KV cache, uniforms and executables of one sequence. */
export class WebgpuSession implements Session {
  readonly capacity: number;
  readonly maxTokens: number;
  position = 0;
  readonly #model: SessionModel;
  readonly #values: ReadonlyMap<string, Value>;
  /** By edit list, then by kind of pass. */
  readonly #executables = new Map<readonly Edit[], Map<string, Executable>>();
  readonly #borrowed: GPUBuffer[] = [];
  readonly #buffers = new Map<string, GPUBuffer>();
  readonly #uniform: GPUBuffer;
  readonly #tailOffset: number;
  /** The pass that waits for functions on the host; later ones wait for it. */
  #hostPass: Promise<unknown> = Promise.resolve();
  #hostPasses = 0;
  /** Rows for which the previous pass chose an id. */
  #choices = 0;

  constructor(model: SessionModel, options: SessionOptions) {
    const { device, config, plan } = model;
    this.#model = model;
    this.capacity = options.capacity;
    this.maxTokens = Math.min(MAX_TOKENS, options.capacity);
    this.#values = planValues(plan);
    const largest: Lengths = { T: this.maxTokens, S: this.capacity, R: this.maxTokens };
    for (const value of this.#values.values()) {
      if (value.kind === "cache") this.#keep(value.name, elementCount(value.shape, largest));
    }
    this.#keep("ids", this.maxTokens);
    this.#keep("argmax", this.maxTokens);
    const table = ropeTable(config, this.capacity, options.ropeBuilder, model.ropeFactors);
    this.#keep("rope_table", table.length);
    device.gpu.queue.writeBuffer(this.#buffers.get("rope_table")!, 0, table);
    this.#tailOffset = Math.max(16, device.gpu.limits.minUniformBufferOffsetAlignment);
    this.#uniform = this.#borrow(
      this.#tailOffset + 16,
      GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    );
  }

  get hasNext(): boolean {
    return this.#choices > 0;
  }

  async pass(request: PassRequest): Promise<Map<string, HostTensor>> {
    if (request.edits?.some(({ kind }) => kind === "function")) {
      const run = this.#hostPass.then(() => this.#passThroughHost(request));
      this.#hostPass = run.catch(() => {});
      this.#hostPasses++;
      return await run.finally(() => this.#hostPasses--);
    }
    if (this.#hostPasses > 0) await this.#hostPass;
    const { device } = this.#model;
    const numbers = this.#numbers(request);
    const executable = this.#executable(request, numbers);
    const encoder = this.#begin(request, numbers);
    this.#encode(encoder, executable, numbers, 0, executable.plan.length);
    const readBack = this.#copyOut(encoder, executable, request, numbers);
    device.gpu.queue.submit([encoder.finish()]);
    this.#advance(request, numbers);
    if (request.given) executable.dispose();
    return await readBack();
  }

  steps(request: PassRequest): StepRun {
    const numbers = this.#numbers(request);
    const { plan, operands } = compile(this.#model.plan, request, this.capacity);
    // Nothing is fused and every value has a buffer of its own, so that any step can run again.
    const all = new Set(planValues(plan).keys());
    const executable = this.#newExecutable(plan, operands, numbers.lengths, all);
    const { queue } = this.#model.device.gpu;
    const values = new Map([...this.#values, ...planValues(plan)]);
    queue.submit([this.#begin(request, numbers).finish()]);
    return {
      plan,
      lengths: numbers.lengths,
      start: numbers.pass.start,
      run: async (from, to) => {
        for (let i = from; i < to;) {
          const host = plan.findIndex((step, j) => j >= i && j < to && step.kernel === "host");
          const end = host < 0 ? to : host;
          const encoder = this.#model.device.gpu.createCommandEncoder();
          this.#encode(encoder, executable, numbers, i, end);
          queue.submit([encoder.finish()]);
          i = end;
          if (host < 0) continue;
          await this.#applyOnHost(request, executable, values, numbers, host);
          i = host + 1;
        }
        this.#model.device.check();
      },
      read: async (name) => {
        const encoder = this.#model.device.gpu.createCommandEncoder();
        const readBack = this.#copyOut(encoder, executable, { wanted: [name] }, numbers, values);
        queue.submit([encoder.finish()]);
        return (await readBack()).get(name)!;
      },
      write: (name, data) => queue.writeBuffer(executable.buffer(name), 0, Float32Array.from(data)),
      finish: () => this.#advance(request, numbers),
      dispose: () => executable.dispose(),
    };
  }

  rewind(position: number): void {
    if (!Number.isInteger(position) || position < 0 || position > this.position) {
      throw new RangeError(
        `Cannot rewind to position ${position}: the session stands at ${this.position}`,
      );
    }
    this.position = position;
  }

  restore(position: number, cache: ReadonlyMap<string, Float32Array>): void {
    checkRestore(position, cache, this, this.#model.config);
    for (const [name, data] of cache) {
      this.#model.device.gpu.queue.writeBuffer(
        this.#buffers.get(name)!,
        0,
        Float32Array.from(data),
      );
    }
    this.position = position;
    this.#choices = 0;
  }

  dispose(): void {
    for (const executables of this.#executables.values()) {
      for (const executable of executables.values()) executable.dispose();
    }
    this.#executables.clear();
    for (const buffer of this.#borrowed.splice(0)) this.#model.device.giveBack(buffer);
  }

  #borrow(bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const buffer = this.#model.device.borrow(bytes, usage);
    this.#borrowed.push(buffer);
    return buffer;
  }

  #keep(name: string, numbers: number): void {
    this.#buffers.set(name, this.#borrow(numbers * 4, STORAGE));
  }

  /** Checks the request and works out its numbers. */
  #numbers(request: PassRequest): PassNumbers {
    this.#model.device.check();
    const tokens = checkRequest(request, this, this.#model.config);
    const { rows = 1 } = request;
    const start = this.position;
    return {
      pass: { tokens, start, rows },
      tail: { tokens: rows, start: start + tokens - rows, rows },
      lengths: { T: tokens, S: start + tokens, R: rows },
    };
  }

  /** Moves past the positions of a pass that has been submitted. */
  #advance({ wanted }: PassRequest, { pass }: PassNumbers): void {
    this.position = pass.start + pass.tokens;
    this.#choices = wanted?.includes("argmax") ? pass.rows : 0;
  }

  /** Writes ids and uniforms, and opens the pass's encoder. */
  #begin(request: PassRequest, { pass, tail }: PassNumbers): GPUCommandEncoder {
    const { queue } = this.#model.device.gpu;
    const encoder = this.#model.device.gpu.createCommandEncoder();
    if (request.ids === "next") {
      encoder.copyBufferToBuffer(
        this.#buffers.get("argmax")!,
        (this.#choices - 1) * 4,
        this.#buffers.get("ids")!,
        0,
        4,
      );
    } else {
      queue.writeBuffer(this.#buffers.get("ids")!, 0, Uint32Array.from(request.ids));
    }
    const words = new Uint32Array(this.#tailOffset / 4 + 4);
    words.set([pass.tokens, pass.start, pass.rows]);
    words.set([tail.tokens, tail.start, tail.rows], this.#tailOffset / 4);
    queue.writeBuffer(this.#uniform, 0, words);
    return encoder;
  }

  #encode(
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

  /** The executable for passes of this kind: decoding, or a prompt; one row of logits, or all. */
  #executable(request: PassRequest, { pass }: PassNumbers): Executable {
    const largest: Lengths = {
      T: pass.tokens === 1 ? 1 : this.maxTokens,
      S: this.capacity,
      R: pass.rows === 1 ? 1 : this.maxTokens,
    };
    const { wanted = ["logits"], edits = NO_EDITS, given } = request;
    const own = this.#executables.get(edits) ?? new Map<string, Executable>();
    const key = [largest.T, largest.R, ...wanted.toSorted()].join(" ");
    const ready = given ? undefined : own.get(key);
    if (ready) return ready;
    const compiled = compile(this.#model.plan, request, this.capacity);
    const plan = fuse(compiled.plan, {
      wanted: compiled.wanted,
      adjacent: (names) => this.#model.weights.adjacent(names),
    });
    const executable = this.#newExecutable(plan, compiled.operands, largest, compiled.wanted);
    if (!given) this.#executables.set(edits, own.set(key, executable));
    return executable;
  }

  #newExecutable(
    plan: Plan,
    operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
    largest: Lengths,
    kept: ReadonlySet<string>,
  ): Executable {
    const external = {
      pass: this.#uniform,
      tailOffset: this.#tailOffset,
      buffers: this.#buffers,
    };
    const { device, weights } = this.#model;
    return new Executable(device, weights, external, plan, operands, largest, kept);
  }

  /** A pass with function edits: it stops at each of them. */
  async #passThroughHost(request: PassRequest): Promise<Map<string, HostTensor>> {
    const steps = this.steps(request);
    try {
      await steps.run(0, steps.plan.length);
      const { wanted = ["logits"], positions, whole } = request;
      const values = planValues(steps.plan);
      const tensors = new Map<string, HostTensor>();
      for (const name of wanted) {
        const tensor = await steps.read(name);
        tensors.set(
          name,
          pickRows(
            tensor,
            extract(
              values.get(name)!,
              steps.lengths,
              steps.start,
              whole?.includes(name) ? undefined : positions,
            ),
          ),
        );
      }
      steps.finish();
      return tensors;
    } finally {
      steps.dispose();
    }
  }

  /** Runs a `host` step: its input comes here, its function's result goes back. */
  async #applyOnHost(
    request: PassRequest,
    executable: Executable,
    values: ReadonlyMap<string, Value>,
    numbers: PassNumbers,
    index: number,
  ): Promise<void> {
    const { inputs: [input], outputs, constants } = executable.plan[index];
    const encoder = this.#model.device.gpu.createCommandEncoder();
    const readBack = this.#copyOut(encoder, executable, { wanted: [input.name] }, numbers, values);
    this.#model.device.gpu.queue.submit([encoder.finish()]);
    const tensor = (await readBack()).get(input.name)!;
    const edit = hostEdit(request, constants);
    const data = edit.apply(tensor, numbers.pass.start) ?? tensor.data;
    checkLength(edit, data, tensor);
    this.#model.device.gpu.queue.writeBuffer(
      executable.buffer(outputs[0]!.name),
      0,
      Float32Array.from(data),
    );
  }

  /** Copies what is wanted into one staging buffer; the result waits for it. */
  #copyOut(
    encoder: GPUCommandEncoder,
    executable: Executable,
    { wanted = ["logits"], positions, whole }: Pick<PassRequest, "wanted" | "positions" | "whole">,
    { lengths, pass }: PassNumbers,
    values: ReadonlyMap<string, Value> = this.#values,
  ): () => Promise<Map<string, HostTensor>> {
    let total = 0;
    const copies: { name: string; from: number; to: number; bytes: number }[] = [];
    const places = wanted.map((name) => {
      const { shape, regions, positions: kept } = extract(
        values.get(name)!,
        lengths,
        pass.start,
        whole?.includes(name) ? undefined : positions,
      );
      const place = { name, shape, kept, offset: total, count: 0 };
      for (const region of regions) {
        const at = place.offset + place.count * 4;
        copies.push({ name, from: region.offset * 4, to: at, bytes: region.count * 4 });
        place.count += region.count;
      }
      total += place.count * 4;
      return place;
    });
    if (total === 0) {
      const data = new Float32Array(0);
      return () =>
        Promise.resolve(new Map(places.map(({ name, shape }) => [name, { shape, data }])));
    }
    const { device } = this.#model;
    const staging = device.borrow(total, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    for (const { name, from, to, bytes } of copies) {
      encoder.copyBufferToBuffer(executable.buffer(name), from, staging, to, bytes);
    }
    return async () => {
      await staging.mapAsync(GPUMapMode.READ, 0, total);
      const copy = staging.getMappedRange(0, total).slice(0);
      staging.unmap();
      device.giveBack(staging);
      device.check();
      return new Map(places.map(({ name, shape, offset, count, kept }) => {
        const data = name === "argmax"
          ? Float32Array.from(new Uint32Array(copy, offset, count))
          : new Float32Array(copy, offset, count);
        return [name, { shape, data, positions: kept }];
      }));
    };
  }
}
