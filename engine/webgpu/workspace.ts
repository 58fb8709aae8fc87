/** What one sequence has on the GPU: caches, uniforms, and the executables that are bound to them. */
import { SAMPLING_WORDS } from "../../kernels/sampling/sampling.ts";
import { CAPACITY_STEP, type Room } from "../model/capacity.ts";
import type { Config } from "../model/config.ts";
import { type Edit, NO_EDITS } from "../plan/edits.ts";
import { elementCount, type Lengths, type Plan, planValues } from "../plan/plan.ts";
import { type RopeBuilder, type RopeFactors, ropeTables } from "../model/rope_table.ts";
import type { Weights } from "../model/weights.ts";
import type { Device } from "./device.ts";
import { type Executable, type External, STORAGE } from "./executable.ts";
import type { KnobsOf } from "./used_steps.ts";

/** Most positions of one prompt pass. */
export const MAX_TOKENS = 128;

/** What a session needs of its model. */
export interface SessionModel {
  readonly device: Device;
  readonly config: Config;
  readonly plan: Plan;
  readonly weights: Weights<GPUBuffer>;
  readonly ropeFactors: RopeFactors;
  readonly knobsOf: KnobsOf;
  /** What there is for a session's values. */
  room(): Room;
}

/** Most bytes that a workspace without a session keeps: setting a large one up costs little beside running it. */
const MOST_IDLE = 64 * 2 ** 20;

interface Ready {
  readonly edits: readonly Edit[];
  readonly kind: string;
  readonly executable: Executable;
}

/**
 * Buffers and executables of one sequence at a time. The next one may take them over: making them anew for each of many short runs
 * costs more than running, and what is thrown away is garbage that the collector does not see the size of.
 */
export class Workspace implements External {
  readonly capacity: number;
  readonly pass: GPUBuffer;
  readonly tailOffset: number;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  readonly #device: Device;
  readonly #borrowed: GPUBuffer[] = [];
  #executables: Ready[] = [];
  /** Those of sequences before, which this one has not used. */
  #rested: Ready[] = [];

  constructor(
    { device, config, plan, ropeFactors }: SessionModel,
    capacity: number,
    readonly ropeBuilder: RopeBuilder | undefined,
  ) {
    this.#device = device;
    this.capacity = roundUp(capacity);
    const tokens = Math.min(MAX_TOKENS, this.capacity);
    const largest: Lengths = { T: tokens, S: this.capacity, R: tokens };
    const buffers = new Map<string, GPUBuffer>();
    const add = (name: string, numbers: number) =>
      buffers.set(name, this.#borrow(numbers * 4, STORAGE));
    for (const { name, kind, shape } of planValues(plan).values()) {
      if (kind === "cache") add(name, elementCount(shape, largest));
    }
    add("ids", tokens);
    add("branch_gaps", 2 * tokens);
    add("branch_rows", tokens);
    add("next_ids", tokens);
    add("argmax", tokens);
    add("sample", 1);
    add("history", this.capacity);
    add("sampling", SAMPLING_WORDS);
    for (const [name, table] of ropeTables(config, this.capacity, ropeBuilder, ropeFactors)) {
      add(name, table.length);
      device.gpu.queue.writeBuffer(buffers.get(name)!, 0, table);
    }
    this.buffers = buffers;
    this.tailOffset = Math.max(16, device.gpu.limits.minUniformBufferOffsetAlignment);
    this.pass = this.#borrow(
      this.tailOffset + 16,
      GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    );
  }

  /** Whether it is what a session of that capacity would make for itself. */
  serves(capacity: number, ropeBuilder: RopeBuilder | undefined): boolean {
    return roundUp(capacity) === this.capacity && ropeBuilder === this.ropeBuilder;
  }

  /** The executable for an edit list and a kind of pass; made where there is none. */
  executable(edits: readonly Edit[], kind: string, make: () => Executable): Executable {
    const same = (each: Ready) => each.edits === edits && each.kind === kind;
    const ready = this.#executables.find(same);
    if (ready) return ready.executable;
    const used = this.#rested.find(same) ?? { edits, kind, executable: make() };
    this.#rested = this.#rested.filter((each) => each !== used);
    this.#executables.push(used);
    return used.executable;
  }

  /** Forgets executables of sequences before: this one is of another kind, and needs room for its own. */
  makeRoom(): void {
    for (const { executable } of this.#rested.splice(0)) executable.dispose();
  }

  /** Makes it ready for another sequence; false where it is too large to be kept for one. */
  rest(): boolean {
    for (const each of this.#executables.splice(0)) {
      // Nobody else has the same edit list.
      if (each.edits === NO_EDITS) this.#rested.push(each);
      else each.executable.dispose();
    }
    if (this.#bytes > MOST_IDLE) this.makeRoom();
    return this.#bytes <= MOST_IDLE;
  }

  /** Gives the buffers back. */
  dispose(): void {
    for (const { executable } of this.#executables.splice(0)) executable.dispose();
    this.makeRoom();
    for (const buffer of this.#borrowed.splice(0)) this.#device.giveBack(buffer);
  }

  get #bytes(): number {
    const own = this.#borrowed.reduce((sum, { size }) => sum + size, 0);
    return this.#rested.reduce((sum, { executable }) => sum + executable.bytes, own);
  }

  #borrow(bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const buffer = this.#device.borrow(bytes, usage);
    this.#borrowed.push(buffer);
    return buffer;
  }
}

function roundUp(capacity: number): number {
  return Math.ceil(capacity / CAPACITY_STEP) * CAPACITY_STEP;
}
