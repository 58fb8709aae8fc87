/** CPU kernels without packed weights, compiled from their sources, on cases as the device's kernels are checked with. */
import type { KernelCase } from "../../engine/check/case.ts";
import { buildKernels } from "../../kernels/build.ts";
import type { Kernel, RowReader } from "../../kernels/kernel.ts";

/** Their sources, and what each exports. */
const EXPORTS = {
  "norm/norm.as": ["center", "rms", "normalize", "scale_columns", "rms_norm"],
  "rope/rope.as": ["rope", "store_rows", "rope_store"],
  "attention/steps.as": ["scores", "softmax", "mix"],
  "attention/attention.as": ["attention", "attention_split", "attention_merge"],
  "elementwise/elementwise.as": [
    ...["add", "add_bias", "glu", "activate", "xielu", "scale", "cap", "clamp"],
    ...["scale_by_position", "take_rows"],
  ],
  "sampling/argmax.as": ["argmax"],
  "sampling/sampling.as": ["sample"],
  "sampling/surprisal.as": ["surprisal"],
  "edits/edit.as": ["edit"],
  "experts/experts.as": ["route", "route_weights", "add_expert_bias", "combine", "weigh"],
  "math.as": ["exp1"],
};

/** Operations that the sources above compute. */
export const OPERATIONS: ReadonlySet<string> = new Set(
  Object.values(EXPORTS).flat().filter((name) => name !== "exp1")
    .map((name) => name === "store_rows" ? "store" : name),
);

const PAGES = 65536;
const PROGRAM = Object.entries(EXPORTS)
  .map(([file, names]) => `export { ${names.join(", ")} } from "./${file}.ts";`).join("\n");

/** The compiled module. */
export const wasm = await buildKernels(PROGRAM);
const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
const buffer = memory.buffer as unknown as ArrayBuffer;
const exports = (await WebAssembly.instantiate(wasm, { env: { memory } })).instance
  .exports as unknown as Record<string, (...numbers: number[]) => number>;
/** e^x as the kernels compute it. */
export const exp1 = exports.exp1;

const WORKER = `onmessage = ({ data: { wasm, memory, name, numbers } }) => {
  if (wasm) kernels = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env: { memory } });
  else kernels.exports[name](...numbers);
  postMessage(0);
};
let kernels;`;
const WORKERS = Array.from({ length: 3 }, () => {
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(WORKER)}`, {
    type: "module",
  });
  worker.postMessage({ wasm, memory });
  return worker;
});
await Promise.all(WORKERS.map((worker) => new Promise((done) => worker.onmessage = done)));

/** Ends the workers. */
export function endWorkers(): void {
  for (const worker of WORKERS) worker.terminate();
}

/** Numbers behind each input (NaN) and each output (left alone by a right kernel). */
const MARGIN = 64;
/** What outputs hold before a kernel runs: a whole number that no kernel makes. */
export const UNTOUCHED = 7654321;
/** Where records lie, and what is given out behind them. */
const STEP = 65536;
const PASS = STEP + 256;
const FIRST = PASS + 64;
const SCRATCH_BYTES = 2 ** 20;

/** A case, laid out in memory. */
export class Laid {
  readonly #name: string;
  readonly #outputs: { address: number; length: number; integers: boolean }[] = [];
  #next = FIRST;

  /** @param few whether a step for few positions is meant */
  constructor(each: KernelCase, few = each.kernel.positions === "few") {
    const { kernel, pass } = each;
    this.#name = kernel.operation === "store" ? "store_rows" : kernel.operation;
    const step = new Uint32Array(buffer, STEP, 64).fill(0);
    const floats = new Float32Array(buffer, STEP, 64);
    const inputs = [...each.inputs], lengths = [...each.outputs];
    let [input, weight, output] = [2, 8, 12];
    for (const { kind, dtype } of kernel.bindings) {
      if (kind === "input") {
        step[input++] = this.#input(inputs.shift()!, dtype === "u32" || dtype === "i32");
      } else if (kind === "weight") step[weight++] = this.#input(numbersOf(each.weights[0]), false);
      else if (kind === "scratch") step[41] = this.#take(kernel.scratch!(each.constants));
      else {
        const length = lengths.shift()!;
        const address = kind === "tap" && !each.taps ? 0 : this.#take(length + MARGIN);
        this.#outputs.push({ address, length, integers: dtype === "i32" });
        step[output++] = address;
      }
    }
    Object.entries(kernel.constants).forEach(([name, type], i) => {
      if (type === "u32") step[24 + i] = each.constants[name];
      else floats[24 + i] = each.constants[name];
    });
    step[40] = kernel.branches ? 1 : 0;
    step[42] = few ? 1 : 0;
    const words = [pass.tokens, pass.start, pass.rows, this.#take(SCRATCH_BYTES), SCRATCH_BYTES];
    new Uint32Array(buffer, PASS, 8).set(words);
    this.reset();
  }

  #take(length: number): number {
    const address = this.#next;
    this.#next += Math.ceil(length / 16) * 64;
    return address;
  }

  /** NaN follows the input. */
  #input(numbers: Float32Array, integers: boolean): number {
    const address = this.#take(numbers.length + MARGIN);
    const length = numbers.length + MARGIN;
    const words = integers
      ? new Uint32Array(buffer, address, length).fill(0xffffffff)
      : new Float32Array(buffer, address, length).fill(NaN);
    words.set(numbers);
    return address;
  }

  /** Makes the outputs what they were before. */
  reset(): void {
    for (const { address, length, integers } of this.#outputs) {
      const numbers = integers ? Int32Array : Float32Array;
      if (address) new numbers(buffer, address, length + MARGIN).fill(UNTOUCHED);
    }
  }

  /** One thread's share of the step, from an item on. */
  run(thread = 0, threads = 1, first = 0): void {
    new Uint32Array(buffer, STEP, 64)[63] = first;
    exports[this.#name](STEP, PASS, thread, threads);
  }

  /** The same by three workers at once. */
  async runAtOnce(): Promise<void> {
    new Uint32Array(buffer, STEP, 64)[63] = 0;
    await Promise.all(WORKERS.map((worker, thread) =>
      new Promise<void>((done) => {
        worker.onmessage = () => done();
        worker.postMessage({ name: this.#name, numbers: [STEP, PASS, thread, WORKERS.length] });
      })
    ));
  }

  /** Outputs by binding; null for taps that were off. */
  outputs(): (Float32Array | null)[] {
    return this.#outputs.map(({ address, length, integers }) => {
      if (!address) return null;
      return integers
        ? Float32Array.from(new Int32Array(buffer, address, length))
        : new Float32Array(buffer, address, length).slice();
    });
  }

  /** Whether what lies behind the outputs was left alone. */
  get withinBounds(): boolean {
    return this.#outputs.every(({ address, length, integers }) => {
      const numbers = integers ? Int32Array : Float32Array;
      return !address ||
        new numbers(buffer, address + length * 4, MARGIN).every((x) => x === UNTOUCHED);
    });
  }
}

function numbersOf(reader: RowReader): Float32Array {
  const numbers = new Float32Array(reader.rows * reader.columns);
  reader.read(0, numbers);
  return numbers;
}

/** What the 64-bit twin gives for a case, taps included. */
export function twinOutputs(each: KernelCase): Float32Array[] {
  const outputs = each.outputs.map((length) => new Float32Array(length).fill(UNTOUCHED));
  (each.kernel as Kernel).twin({ ...each, outputs });
  return outputs;
}
