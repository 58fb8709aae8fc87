/** A plan made ready for one session on the processor: values placed, records written. */
import { kernelOf } from "../../kernels/mod.ts";
import type { Dtype, Kernel, Pass } from "../../kernels/kernel.ts";
import type { Weights } from "../model/weights.ts";
import { place } from "../plan/passes/place.ts";
import {
  elementCount,
  type Lengths,
  onLastRows,
  type Plan,
  type Step,
  type Value,
} from "../plan/plan.ts";
import type { Block, Heap } from "./heap.ts";
import type { Processor } from "./processor.ts";
import { hasRecord, RECORD_WORDS, writeRecord } from "./records.ts";
import { rowReader, weightBlock } from "./tile_memory.ts";

/** What a session lends to its programs. */
export interface SessionPlaces {
  /** Where a value lies that outlives passes: ids and what is told beside them, the table, caches. Anything but a cache has a copy in each heap. */
  place(value: Value, heap?: Heap): Block;
  /** The numbers of a pass, over all rows and over the last ones, in a heap. */
  passNumbers(heap: Heap): { readonly all: number; readonly last: number };
}

/** What a program is made for. */
export interface ProgramOptions {
  /** Numbers of values that are handed in, by name. */
  readonly operands: ReadonlyMap<string, Float32Array>;
  readonly largest: Lengths;
  /** Points that must survive to the end of the pass. */
  readonly kept: ReadonlySet<string>;
}

/** How a step runs. */
interface Action {
  readonly step: Step;
  readonly heap: Heap;
  readonly kernel: Kernel | undefined;
  /** Number of its record in the heap's program; none for twins and for functions of the host. */
  readonly record?: number;
  /** Inputs that another heap holds, and where they are copied to. */
  readonly copies: readonly { readonly value: Value; readonly from: Block; readonly to: Block }[];
}

/** A plan bound to memory, for passes of up to `largest` lengths. */
export class Program {
  readonly #processor: Processor;
  readonly #weights: Weights<Block>;
  readonly #session: SessionPlaces;
  readonly #blocks: Block[] = [];
  /** Where a value was made, and the values' copies in other heaps. */
  readonly #places = new Map<string, Block>();
  readonly #copies = new Map<Heap, Map<string, Block>>();
  readonly #slots = new Map<Heap, Map<number, Block>>();
  readonly #records = new Map<Heap, Block>();
  readonly #actions: Action[] = [];

  /** @param plan selected, fused where that serves, and with branches */
  constructor(
    processor: Processor,
    weights: Weights<Block>,
    session: SessionPlaces,
    readonly plan: Plan,
    readonly options: ProgramOptions,
  ) {
    this.#processor = processor;
    this.#weights = weights;
    this.#session = session;
    try {
      this.#bind();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Where a value of the last pass lies. */
  block(name: string): Block {
    return this.#places.get(name)!;
  }

  /** The names of steps that run as 64-bit twins. */
  get twins(): string[] {
    return this.#actions.filter(({ kernel, record }) => kernel && record === undefined)
      .map(({ kernel }) => kernel!.name);
  }

  /** Runs the steps `from` to `to` (exclusive), up to the first that runs on the host; gives the step that it stopped in front of. */
  run(from: number, to: number, pass: Pass, tail: Pass): number {
    const lengths = lengthsOf(pass);
    for (let i = from; i < to;) {
      const action = this.#actions[i];
      if (action.step.operation === "host") return i;
      this.#copyInputs(action, lengths);
      if (action.record === undefined) {
        this.#runTwin(action, onLastRows(action.step) ? tail : pass, lengths);
        i++;
        continue;
      }
      let end = i + 1;
      while (end < to && this.#joins(this.#actions[end], action.heap)) end++;
      const records = this.#records.get(action.heap)!;
      this.#processor.run(records, action.record, action.record + end - i);
      i = end;
    }
    return to;
  }

  /** The numbers of a value, as floats of their own; `count` from `offset` on. */
  read({ name, dtype }: Value, offset: number, count: number): Float32Array<ArrayBuffer> {
    return readFloats(this.block(name), dtype, offset, count);
  }

  /** Writes a value for the steps behind. */
  write({ name, dtype }: Value, data: Float32Array): void {
    const { heap, address } = this.block(name);
    if (dtype === "f32") heap.floats(address, data.length).set(data);
    else heap.words(address, data.length).set(Int32Array.from(data));
  }

  /** Gives the memory back. */
  dispose(): void {
    for (const block of this.#blocks.splice(0)) block.heap.giveBack(block);
  }

  #joins({ heap, record, copies }: Action, into: Heap): boolean {
    return heap === into && record !== undefined && copies.length === 0;
  }

  #take(heap: Heap, bytes: number): Block {
    const block = heap.take(bytes);
    if (!block) {
      throw new RangeError(
        `Cannot run the pass: its memory has no room for ${Math.ceil(bytes / 2 ** 20)} MiB more`,
      );
    }
    this.#blocks.push(block);
    return block;
  }

  #bind(): void {
    const { plan } = this;
    const { largest, kept } = this.options;
    const { slots, slotOf } = place(plan, largest, kept);
    let heap = this.#processor.home;
    const heaps = plan.map((step) => heap = this.#heapOf(step, heap));
    const counts = new Map<Heap, number>();
    for (const [i, step] of plan.entries()) {
      if (hasRecord(step)) counts.set(heaps[i], (counts.get(heaps[i]) ?? 0) + 1);
    }
    for (const [heap, count] of counts) {
      this.#records.set(heap, this.#take(heap, count * RECORD_WORDS * 4));
    }
    counts.clear();
    for (const [i, step] of plan.entries()) {
      const heap = heaps[i];
      const copies: Action["copies"][number][] = [];
      const inputs = step.inputs.map((value) => this.#input(value, heap, copies));
      const outputs = step.outputs.map((value) =>
        value && this.#output(value, heap, slots, slotOf)
      );
      const kernel = step.operation === "host" ? undefined : kernelOf(step);
      if (!kernel || !hasRecord(step)) {
        this.#actions.push({ step, heap, kernel, copies });
        continue;
      }
      const record = counts.get(heap) ?? 0;
      counts.set(heap, record + 1);
      const { all, last } = this.#session.passNumbers(heap);
      const records = this.#records.get(heap)!;
      const words = heap.words(records.address + record * RECORD_WORDS * 4, RECORD_WORDS);
      writeRecord(words, step, kernel, {
        pass: onLastRows(step) ? last : all,
        inputs: inputs.map(({ address }) => address),
        weights: step.weights.map((name) => this.#weight(name, heap).address),
        outputs: outputs.map((block) => block?.address ?? 0),
        scratch: kernel.scratch ? this.#take(heap, 4 * kernel.scratch(step.constants)).address : 0,
      });
      this.#actions.push({ step, heap, kernel, record, copies });
    }
  }

  /** Where a step runs: where its weights are, else its cache, else where the step before it ran. */
  #heapOf(step: Step, before: Heap): Heap {
    const matrix = step.weights.find((name) => this.#weights.matrices.has(name));
    const weight = matrix ?? step.weights[0];
    if (weight !== undefined) return weightBlock(this.#weights, weight).heap;
    const cache = [...step.inputs, ...step.outputs].find((value) => value?.kind === "cache");
    return cache ? this.#session.place(cache).heap : before;
  }

  /** A weight in the heap of its step: a norm's gain may lie in another one. */
  #weight(name: string, heap: Heap): Block {
    const own = weightBlock(this.#weights, name);
    if (own.heap === heap) return own;
    const copy = this.#take(heap, own.bytes);
    heap.bytes(copy.address, own.bytes).set(own.heap.bytes(own.address, own.bytes));
    return copy;
  }

  #input(value: Value, heap: Heap, copies: Action["copies"][number][]): Block {
    if (value.kind === "edit" || this.options.operands.has(value.name)) {
      return this.#operand(value, heap);
    }
    if (value.kind !== "result") {
      const block = this.#session.place(value, heap);
      this.#places.set(value.name, block);
      return block;
    }
    const made = this.#places.get(value.name)!;
    if (made.heap === heap) return made;
    const to = this.#copies.get(heap)?.get(value.name) ??
      this.#copy(value, heap, 4 * elementCount(value.shape, this.options.largest));
    copies.push({ value, from: made, to });
    return to;
  }

  /** What edits and given values bring along, in the heap that reads it. */
  #operand(value: Value, heap: Heap): Block {
    const there = this.#copies.get(heap)?.get(value.name);
    if (there) return there;
    const data = this.options.operands.get(value.name)!;
    const block = this.#copy(value, heap, data.byteLength);
    this.#places.set(value.name, block);
    this.write(value, data);
    return block;
  }

  #output(value: Value, heap: Heap, slots: readonly number[], slotOf: ReadonlyMap<string, number>) {
    if (value.kind !== "result") {
      const block = this.#session.place(value, heap);
      this.#places.set(value.name, block);
      return block;
    }
    let own = this.#slots.get(heap);
    if (!own) this.#slots.set(heap, own = new Map());
    const slot = slotOf.get(value.name)!;
    let block = own.get(slot);
    if (!block) own.set(slot, block = this.#take(heap, 4 * slots[slot]));
    this.#places.set(value.name, block);
    return block;
  }

  /** Room for a value in a heap that did not make it. */
  #copy({ name }: Value, heap: Heap, bytes: number): Block {
    const block = this.#take(heap, bytes);
    const own = this.#copies.get(heap) ?? new Map<string, Block>();
    this.#copies.set(heap, own.set(name, block));
    return block;
  }

  #copyInputs({ copies }: Action, lengths: Lengths): void {
    for (const { value, from, to } of copies) {
      const count = elementCount(value.shape, lengths);
      to.heap.words(to.address, count).set(from.heap.words(from.address, count));
    }
  }

  #runTwin({ step, heap, kernel }: Action, pass: Pass, lengths: Lengths): void {
    const views = (values: readonly (Value | null)[], input: boolean) =>
      values.map((value) => {
        if (!value) return null;
        const block = input && this.#copies.get(heap)?.get(value.name) || this.block(value.name);
        const count = value.kind === "cache" || value.kind === "table" || value.kind === "edit"
          ? block.bytes / 4
          : elementCount(value.shape, lengths);
        return value.dtype === "f32" || value.dtype === "bits"
          ? heap.floats(block.address, count)
          : readFloats(block, value.dtype, 0, count);
      });
    const outputs = views(step.outputs, false);
    kernel!.twin({
      pass,
      constants: step.constants,
      inputs: views(step.inputs, true) as Float32Array[],
      weights: step.weights.map((name) => rowReader(this.#processor, this.#weights, name)),
      outputs,
    });
    step.outputs.forEach((value, i) => {
      if (value && value.dtype !== "f32") this.write(value, outputs[i]!);
    });
  }
}

/** The lengths that a pass gives to shapes. */
function lengthsOf({ tokens, start, rows }: Pass): Lengths {
  return { T: tokens, S: start + tokens, R: rows };
}

/** Numbers in memory of their own. */
type Floats = Float32Array<ArrayBuffer>;

function readFloats(
  { heap, address }: Block,
  dtype: Dtype,
  offset: number,
  count: number,
): Floats {
  const at = address + 4 * offset;
  // A slice is three times as fast as an array that is made of the view.
  if (dtype === "f32" || dtype === "bits") return heap.floats(at, count).slice() as Floats;
  const words = heap.words(at, count);
  return Float32Array.from(words, (word) => dtype === "i32" ? word | 0 : word);
}
