/** A plan made ready for one session on the GPU: buffers placed, bind groups made, dispatches in a row. */
import type { Constants, Kernel, Knobs, Pass } from "../../kernels/kernel.ts";
import { manyForExperts } from "../../kernels/experts/linear_experts.ts";
import { manyPositions } from "../../kernels/products/products.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { place } from "../plan/passes/place.ts";
import { type Lengths, onLastRows, type Plan, type Step, type Value } from "../plan/plan.ts";
import type { Matrix, Part, Weights } from "../model/weights.ts";
import type { Device } from "./device.ts";
import { type KnobsOf, stepKnobs } from "./used_steps.ts";

/** One dispatch: everything but the grid is fixed. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly kernel: Kernel;
  readonly constants: Constants;
  readonly knobs: Knobs;
  readonly lastRows: boolean;
}

/** What its session lends to an executable. */
export interface External {
  /** Uniform with the pass's numbers at 0, and those of its last rows at `tailOffset`. */
  readonly pass: GPUBuffer;
  readonly tailOffset: number;
  /** Buffers of ids, table, caches and what chooses the next id, by value name. */
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
}

/** What an executable is made for. */
export interface ExecutableOptions {
  /** Numbers of values that are handed in, by name. */
  readonly operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  readonly largest: Lengths;
  /** Points that must survive to the end of the pass. */
  readonly kept: ReadonlySet<string>;
  readonly knobsOf: KnobsOf;
}

/** A plan bound to buffers, for passes of up to `largest` lengths. */
export class Executable {
  /** The dispatches of each step; none for those that run on the host. */
  readonly #dispatches: Dispatch[][] = [];
  readonly largest: Lengths;
  readonly #knobsOf: KnobsOf;
  readonly #borrowed: GPUBuffer[] = [];
  readonly #buffers = new Map<string, GPUBuffer>();

  /**
   * @param plan selected and fused steps
   */
  constructor(
    readonly device: Device,
    readonly weights: Weights<GPUBuffer>,
    readonly external: External,
    readonly plan: Plan,
    { operands, largest, kept, knobsOf }: ExecutableOptions,
  ) {
    this.largest = largest;
    this.#knobsOf = knobsOf;
    const { slots, slotOf } = place(plan, largest, new Set([...kept, ...external.buffers.keys()]));
    const slotBuffers = slots.map((numbers) => this.#borrow(numbers * 4, STORAGE));
    for (const [name, slot] of slotOf) this.#buffers.set(name, slotBuffers[slot]);
    for (const [name, buffer] of external.buffers) this.#buffers.set(name, buffer);
    const read = new Map(plan.flatMap(({ inputs }) => inputs).map((value) => [value.name, value]));
    for (const [name, data] of operands) {
      const buffer = this.#borrow(data.byteLength, STORAGE);
      device.gpu.queue.writeBuffer(buffer, 0, wordsOf(read.get(name), data));
      this.#buffers.set(name, buffer);
    }
    this.#bind(plan);
  }

  /** Bytes of its own buffers. */
  get bytes(): number {
    return this.#borrowed.reduce((sum, { size }) => sum + size, 0);
  }

  /** The buffer in which a value lies. */
  buffer(name: string): GPUBuffer {
    return this.#buffers.get(name)!;
  }

  /** Adds the dispatches of the steps `from` to `to` (exclusive). The caller has written the uniforms and ids. */
  encode(encoder: GPUComputePassEncoder, pass: Pass, tail: Pass, from: number, to: number): void {
    for (const dispatches of this.#dispatches.slice(from, to)) {
      for (const dispatch of dispatches) {
        const grid = gridOf(dispatch, pass, tail);
        if (grid.includes(0)) continue;
        encoder.setPipeline(dispatch.pipeline);
        encoder.setBindGroup(0, dispatch.group);
        encoder.dispatchWorkgroups(...grid);
      }
    }
  }

  /** Whether a pass dispatches anything for a step. */
  runs(step: number, pass: Pass, tail: Pass): boolean {
    return this.#dispatches[step].some((each) => !gridOf(each, pass, tail).includes(0));
  }

  /** Gives the buffers back. */
  dispose(): void {
    for (const buffer of this.#borrowed.splice(0)) this.device.giveBack(buffer);
  }

  #borrow(bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const buffer = this.device.borrow(bytes, usage);
    this.#borrowed.push(buffer);
    return buffer;
  }

  /** Makes the dispatches of all steps, with the steps' constants in slots of one uniform buffer. */
  #bind(plan: Plan): void {
    const work = plan.flatMap((step, index) => this.#dispatchesOf(step, index));
    for (const _ of plan) this.#dispatches.push([]);
    const stride = Math.max(CONSTANT_BYTES, this.device.gpu.limits.minUniformBufferOffsetAlignment);
    const uniforms = this.#borrow(
      Math.max(1, work.length) * stride,
      GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    );
    const words = new DataView(new ArrayBuffer(work.length * stride));
    // An output that is not wanted still needs a buffer in its place, and each needs its own: writable ones may not alias.
    const unused = [0, 1, 2, 3, 4, 5, 6].map(() => this.#borrow(256, STORAGE));

    work.forEach(({ index, step, kernel, constants, matrix, part }, i) => {
      Object.entries(kernel.constants).forEach(([name, type], field) => {
        const at = i * stride + field * 4;
        if (type === "u32") words.setUint32(at, constants[name], true);
        else words.setFloat32(at, constants[name], true);
      });
      const buffers = this.#bindings(step, kernel, part, unused);
      const taps = kernel.bindings.filter(({ kind }) => kind === "output" || kind === "tap")
        .filter(({ kind }, output) => kind === "tap" && step.outputs[output]).map(({ name }) =>
          name
        );
      const lastRows = onLastRows(step);
      const { pass, tailOffset } = this.external;
      const used = { step, kernel, matrix };
      const knobs = stepKnobs(used, this.weights, this.device.knobs, this.#knobsOf);
      this.#dispatches[index].push({
        pipeline: this.device.pipeline(kernel, matrix?.packing, taps, knobs, constants),
        group: this.device.gpu.createBindGroup({
          layout: this.device.layout(kernel),
          entries: [
            { binding: 0, resource: { buffer: pass, offset: lastRows ? tailOffset : 0, size: 16 } },
            {
              binding: 1,
              resource: { buffer: uniforms, offset: i * stride, size: CONSTANT_BYTES },
            },
            ...buffers.map((buffer, j) => ({ binding: j + 2, resource: { buffer } })),
          ],
        }),
        kernel,
        constants,
        knobs,
        lastRows,
      });
    });
    this.device.gpu.queue.writeBuffer(uniforms, 0, words.buffer);
  }

  /** A step is one dispatch, or one per part of its weight. */
  #dispatchesOf(step: Step, index: number): Work[] {
    if (step.operation === "host") return [];
    const kernel = this.#kernel(step);
    if (!kernel.packed) return [{ index, step, kernel, constants: step.constants }];
    const matrix = this.weights.matrices.get(step.weights[0])!;
    const { columns, parts, rows: out_rows } = matrix;
    return parts.map((part) => ({
      index,
      step,
      kernel,
      matrix,
      part,
      constants: {
        heads: step.constants.heads ?? 0,
        epsilon: step.constants.epsilon ?? 0,
        head_width: step.constants.head_width ?? 0,
        rope_width: step.constants.rope_width ?? 0,
        half_style: step.constants.half_style ?? 0,
        used: step.constants.used ?? 0,
        shared: step.constants.shared ?? 0,
        rope_start: step.constants.rope_start ?? 0,
        out_row: part.row,
        ...(step.operation === "linear_experts"
          ? { rows: step.constants.rows, out_rows: part.rows }
          : { rows: part.rows, out_rows }),
        // Fused products state their own rows.
        ...(this.weights.matrices.has(step.weights[1]) ? step.constants : {}),
        columns,
        groups: Math.ceil(columns / 8),
        scales: part.scales,
        highs: part.highs,
        weight_row: part.planeRow,
      },
    }));
  }

  /** Products have a kernel for few positions and one for many. */
  #kernel(step: Step): Kernel {
    const positions = onLastRows(step) ? this.largest.R : this.largest.T;
    const many = step.operation === "linear_experts"
      ? manyForExperts(positions, step.constants)
      : step.operation === "linear" && !step.normed &&
        manyPositions(positions, step.constants.columns);
    return kernelOf(many ? { ...step, positions: "many" } : step)!;
  }

  /** The buffers behind a kernel's bindings. */
  #bindings(
    step: Step,
    kernel: Kernel,
    part: Part<GPUBuffer> | undefined,
    unused: GPUBuffer[],
  ): GPUBuffer[] {
    const inputs = [...step.inputs];
    const outputs = [...step.outputs];
    const of = (value: Value) => this.#buffers.get(value.name)!;
    let spare = 0;
    return kernel.bindings.map(({ kind }) => {
      if (kind === "weight") return part?.storage ?? this.weights.vectors.get(step.weights[0])!;
      if (kind === "vector") return this.weights.vectors.get(step.weights.at(-1)!)!;
      if (kind === "input") return of(inputs.shift()!);
      if (kind === "scratch") return this.#borrow(kernel.scratch!(step.constants) * 4, STORAGE);
      const output = outputs.shift();
      return output ? of(output) : unused[spare++];
    });
  }
}

/** Numbers as a buffer holds those of a value. */
export function wordsOf(
  value: Value | undefined,
  data: Float32Array,
): Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> {
  return value?.dtype === "i32" ? Int32Array.from(data) : Float32Array.from(data);
}

function gridOf(
  { kernel, constants, knobs, lastRows }: Dispatch,
  pass: Pass,
  tail: Pass,
): [number, number, number] {
  return kernel.grid(lastRows ? tail : pass, constants, kernel.lanes(knobs), knobs);
}

interface Work {
  /** Of the step, in the plan. */
  readonly index: number;
  readonly step: Step;
  readonly kernel: Kernel;
  readonly constants: Constants;
  readonly matrix?: Matrix<GPUBuffer>;
  readonly part?: Part<GPUBuffer>;
}

/** Room for a kernel's `struct Step`. */
export const CONSTANT_BYTES = 128;

/** Usage of buffers that hold values. */
export const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
