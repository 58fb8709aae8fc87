/**
 * The processor's kernels run on cases and compared with their 64-bit twins: for `doctor` and for the tests. Each runs twice, by one thread and
 * by all of them, which has to give the same bits.
 */
import type { Binding } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { TILES } from "../../kernels/weights/tiles.ts";
import type { KernelCase } from "../check/case.ts";
import { type CaseOptions, kernelCases } from "../check/cases.ts";
import {
  batches,
  compare,
  failure,
  type KernelResult,
  type KernelRun,
  MARGIN,
  twinOutputs,
  UNTOUCHED,
} from "../check/results.ts";
import { type KernelVariant, variantsOf } from "../check/variants.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { type Block, CONTROL, type Heap } from "./heap.ts";
import { scratchBytes } from "./places.ts";
import type { Processor } from "./processor.ts";
import { cpuAllowedErrors } from "./product_bounds.ts";
import { hasRecord, PASS_WORDS, RECORD_WORDS, writePackRecord, writeRecord } from "./records.ts";
import { DESCRIPTOR_BYTES, matrixBytes, writeDescriptor } from "./tile_memory.ts";

/** All variants that have a kernel in WebAssembly, in the order of {@linkcode variantsOf}. */
export function cpuVariants(): KernelVariant[] {
  return variantsOf([...KERNELS.values()].filter(hasRecord));
}

/** Where an output of a case lies; undefined for a tap that is off. */
type Output = {
  readonly address: number;
  readonly length: number;
  readonly dtype: Binding["dtype"];
};

/** Cases laid out in a heap: a record for each, behind those that pack its matrices. */
class Program {
  readonly #processor: Processor;
  readonly #heap: Heap;
  readonly #blocks: Block[] = [];
  readonly #records: Block;
  readonly #outputs: (Output | undefined)[][];
  /** Records so far. */
  #count = 0;

  constructor(processor: Processor, cases: readonly KernelCase[]) {
    this.#processor = processor;
    processor.expect(Infinity); // all threads are checked
    this.#heap = processor.home;
    try {
      const records = cases.reduce((sum, { packed }) => sum + 1 + (packed?.readers.length ?? 0), 0);
      this.#records = this.#take(records * RECORD_WORDS * 4);
      const columns = cases.map(({ constants }) => constants.columns ?? 0);
      const lengths = cases.map(({ pass }) => pass.start + pass.tokens);
      const bytes = scratchBytes(Math.max(...columns), Math.max(...lengths));
      const { threads } = processor;
      const { address } = this.#numbers(new Uint32Array(threads * bytes / 4).fill(NAN_BITS));
      this.#outputs = cases.map((each) => this.#layOut(each, address, bytes));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Runs all cases anew, by the calling thread alone or by all of them. */
  run(all: boolean): void {
    for (const output of this.#outputs.flat()) {
      if (!output) continue;
      const { address, length, dtype } = output;
      const mark = dtype === "i32" ? Int32Array.of(UNTOUCHED) : Float32Array.of(UNTOUCHED);
      this.#heap.words(address, length + MARGIN).fill(new Uint32Array(mark.buffer)[0]);
    }
    if (all) this.#processor.run(this.#records, 0, this.#count);
    else {
      const { run } = this.#processor.kernels(this.#heap);
      run(this.#records.address, 0, this.#count, CONTROL, 0, 1);
    }
  }

  /** What the last run left. */
  results(): KernelRun[] {
    return this.#outputs.map((outputs) => {
      let withinBounds = true;
      const values = outputs.map((output) => {
        if (!output) return null;
        const { address, length, dtype } = output;
        const words = this.#heap.words(address, length + MARGIN).slice().buffer;
        const numbers = dtype === "i32"
          ? Float32Array.from(new Int32Array(words))
          : new Float32Array(words);
        withinBounds &&= numbers.subarray(length).every((value) => value === UNTOUCHED);
        return numbers.subarray(0, length);
      });
      return { outputs: values, withinBounds };
    });
  }

  dispose(): void {
    for (const block of this.#blocks.splice(0)) this.#heap.giveBack(block);
  }

  #take(bytes: number): Block {
    const block = this.#heap.take(bytes);
    if (!block) throw new RangeError(`Cannot check kernels: a heap has no room for ${bytes} bytes`);
    this.#blocks.push(block);
    return block;
  }

  #numbers(data: Float32Array | Uint32Array): Block {
    const block = this.#take(data.byteLength);
    if (data instanceof Float32Array) this.#heap.floats(block.address, data.length).set(data);
    else this.#heap.words(block.address, data.length).set(data);
    return block;
  }

  /** Numbers that a kernel reads, with what is none behind them. */
  #input(numbers: Float32Array, dtype: Binding["dtype"] = "f32"): number {
    const length = numbers.length + MARGIN;
    const words = dtype === "u32" || dtype === "i32"
      ? new Uint32Array(length).fill(0xffffffff)
      : new Float32Array(length).fill(NaN);
    words.set(numbers);
    return this.#numbers(words).address;
  }

  /** Words of the next record. */
  #record(): Uint32Array {
    const address = this.#records.address + this.#count++ * RECORD_WORDS * 4;
    return this.#heap.words(address, RECORD_WORDS);
  }

  /** Has a case's matrices packed as loading does; gives the addresses of their descriptors. */
  #matrices({ packed }: KernelCase): number[] {
    if (!packed) return [];
    const { packing, columns, bytes, readers } = packed;
    const { id, blockSize, blockBytes, tileBytes } = TILES.get(packing.name)!;
    const rowBytes = columns / blockSize * blockBytes;
    let first = 0;
    return readers.map(({ rows }) => {
      const file = bytes.subarray(first * rowBytes, (first + rows) * rowBytes);
      first += rows;
      const staging = this.#take(file.length);
      this.#heap.bytes(staging.address, file.length).set(file);
      const size = matrixBytes(packing, rows, columns);
      const matrix = this.#take(size + 4 * MARGIN);
      // Memory holds what was there before.
      this.#heap.bytes(matrix.address, size + 4 * MARGIN).fill(0xff);
      writeDescriptor(matrix, packing, rows, columns);
      writePackRecord(this.#record(), {
        source: staging.address,
        tiles: matrix.address + DESCRIPTOR_BYTES,
        ...{ id, rows, columns, rowBytes, tile: tileBytes(columns) },
      });
      return matrix.address;
    });
  }

  #layOut(
    each: KernelCase,
    scratch: number,
    scratchBytes: number,
  ): (Output | undefined)[] {
    const { kernel, pass, constants, taps } = each;
    const inputs = kernel.bindings.filter(({ kind }) => kind === "input")
      .map(({ dtype }, i) => this.#input(each.inputs[i], dtype));
    const outputs = kernel.bindings.filter(({ kind }) => kind === "output" || kind === "tap")
      .map(({ kind, dtype }, i) => {
        if (kind === "tap" && !taps) return;
        const length = each.outputs[i];
        return { address: this.#take(4 * (length + MARGIN)).address, length, dtype };
      });
    const matrices = this.#matrices(each);
    const vectors = each.weights.slice(matrices.length).map((reader) => {
      const numbers = new Float32Array(reader.columns);
      reader.read(0, numbers);
      return this.#input(numbers);
    });
    const numbers = new Uint32Array(PASS_WORDS);
    numbers.set([pass.tokens, pass.start, pass.rows, scratch, scratchBytes]);
    writeRecord(this.#record(), { ...kernel, constants }, kernel, {
      pass: this.#numbers(numbers).address,
      inputs,
      weights: [...matrices, ...vectors],
      outputs: outputs.map((output) => output?.address ?? 0),
      scratch: kernel.scratch ? this.#take(4 * kernel.scratch(constants)).address : 0,
    });
    return outputs;
  }
}

/** A NaN. */
const NAN_BITS = 0xffffffff;

/** Checks kernels, each on its case. One that stops the program has failed. */
export function checkCpuKernels(
  processor: Processor,
  cases: Iterable<KernelCase>,
): KernelResult[] {
  return [...batches(cases)].flatMap((batch) => checkBatch(processor, batch));
}

function checkBatch(processor: Processor, batch: readonly KernelCase[]): KernelResult[] {
  const program = new Program(processor, batch);
  let alone: KernelRun[];
  let together: KernelRun[];
  try {
    // What stops a thread would leave the others waiting, so one thread comes first.
    program.run(false);
    alone = program.results();
    program.run(true);
    together = program.results();
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    if (batch.length > 1) return batch.flatMap((each) => checkBatch(processor, [each]));
    const [{ kernel, packed, name }] = batch;
    const details = { packing: packed?.packing.name, case: name };
    return [failure(kernel.name, `stopped: ${error.message}`, details)];
  } finally {
    program.dispose();
  }
  return batch.map((each, i) => {
    const expected = twinOutputs(each);
    const same = alone[i].outputs.every((output, at) =>
      !output || sameBits(output, together[i].outputs[at]!)
    );
    const run = {
      outputs: alone[i].outputs,
      withinBounds: alone[i].withinBounds && together[i].withinBounds,
      fault: same ? undefined : `gives other bits with ${processor.threads} threads than with one`,
    };
    return compare(each, run, expected, cpuAllowedErrors(each, expected));
  });
}

function sameBits(a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>): boolean {
  const [left, right] = [a, b].map(({ buffer, byteOffset, length }) =>
    new Uint32Array(buffer, byteOffset, length)
  );
  return left.every((word, i) => word === right[i]);
}

/** Checks one kernel on all its cases. */
export function checkCpuKernel(
  processor: Processor,
  kernel: Kernel,
  options: CaseOptions = {},
): KernelResult[] {
  return checkCpuKernels(processor, kernelCases(kernel, options));
}
