/**
 * Which knobs each product runs with. A product with weights has a handful of candidates: how many lanes share a row, and whether they
 * hand columns on to each other. The fastest on the real device, with the model's own weights, is chosen once for each kernel, weight
 * packing and class of shapes, and remembered; no candidate is chosen that has not given its twin's numbers there.
 */
import type { Packing } from "../../../kernels/weights/packings.ts";
import type { Kernel, Knobs } from "../../../kernels/kernel.ts";
import { elementCount, type Lengths, type Plan, type Step } from "../../plan/plan.ts";
import type { Weights } from "../../model/weights.ts";
import { kernelCases } from "../../check/cases.ts";
import { type Device, DeviceError, kernelSource } from "../device.ts";
import { Executable, type External, STORAGE } from "../executable.ts";
import { GpuTimer } from "../gpu_timer.ts";
import { checkKernels } from "../check/kernel_check.ts";
import { digestOf, mayWrite } from "../cache_file.ts";
import {
  readTuning,
  type TunedKnobs,
  type TunedProduct,
  type TunedProducts,
  writeTuning,
} from "./tuning_file.ts";
import { type KnobsOf, productRows, usedSteps } from "../used_steps.ts";

/**
 * Whether products are tuned: `auto` takes what was chosen before on this device, and on a GPU tunes what was not, for a few seconds;
 * `now` tunes all of them anew, however long it takes; `known` takes what was chosen before and tunes nothing; `never` takes the
 * built-in knobs.
 */
export type TuneMode = "auto" | "now" | "known" | "never";

/** How products are tuned. */
export interface TuningOptions {
  /** `auto` where left out. */
  readonly mode?: TuneMode;
  /** File that remembers choices. Without one that can be written nothing is tuned: a choice must hold from run to run. */
  readonly file?: string;
  /** Told of products that have been tuned, of all that are. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Ends tuning: it then fails with the signal's reason, and what was found is remembered. */
  readonly signal?: AbortSignal;
}

/** Most milliseconds that tuning may take while a model is loaded; what is left is tuned by the next load. */
const AUTO_MS = 4000;
/** A choice must be faster than the built-in knobs by this factor: less may be noise. */
const MARGIN = 1.03;
/** Alternating rounds of which the median counts. */
const ROUNDS = 5;
/** What a round measures of a candidate, in milliseconds, about. */
const ROUND_MS = 4;
/** Positions of the prompt that products with many are tuned for. */
const MANY_POSITIONS = 128;

/** One product to be tuned. */
interface Product {
  readonly key: string;
  readonly kernel: Kernel;
  readonly packing: Packing;
  /** A step of the model that runs it, and for how many positions. */
  readonly step: Step;
  readonly positions: number;
}

/** The built-in knobs for all products. */
export function builtIn(device: Device): KnobsOf {
  return () => device.knobs;
}

/**
 * The knobs for a model's products, tuned as the options say.
 *
 * @throws {DeviceError} when the device fails; that it refuses a candidate is no failure
 */
export async function tune(
  device: Device,
  plan: Plan,
  weights: Weights<GPUBuffer>,
  options: TuningOptions,
): Promise<KnobsOf> {
  const { mode = "auto", file, onProgress, signal } = options;
  if (mode === "never" || file === undefined) return builtIn(device);
  const known = await readTuning(file, device.info);
  // The built-in knobs of software drivers were found on the one that there is, and compiling takes it seconds. A device without a
  // clock takes seconds for each product.
  const inTime = !device.info.fallback && new GpuTimer(device.gpu).exact;
  const tunes = (mode === "now" || (mode === "auto" && inTime)) && mayWrite(file);
  if (!tunes && known.size === 0) return builtIn(device);
  const buffers = device.gpu.limits.maxStorageBuffersPerShaderStage;
  const products = productsOf(plan, weights, buffers);
  const sources = new Map<string, string>();
  for (const product of products) sources.set(product.key, await sourceHash(device, product));
  // A file that somebody has edited may name knobs that nobody has checked.
  const holds = ({ key, kernel }: Product) => {
    const own = known.get(key);
    return own?.source === sources.get(key) &&
      candidates(device, kernel).some((each) => same(each, own!.knobs));
  };

  const wanted = tunes ? products.filter((product) => mode === "now" || !holds(product)) : [];
  const found: TunedProducts = new Map();
  const start = performance.now();
  let slowest = 0;
  try {
    for (const [i, product] of wanted.entries()) {
      const begun = performance.now();
      if (mode === "auto" && begun - start + slowest > AUTO_MS) break;
      onProgress?.(i, wanted.length);
      signal?.throwIfAborted();
      const timed = await timeCandidates(device, weights, product);
      found.set(product.key, { source: sources.get(product.key)!, ...timed });
      slowest = Math.max(slowest, performance.now() - begun);
    }
    if (wanted.length > 0) onProgress?.(wanted.length, wanted.length);
  } finally {
    // What cannot be remembered is not used: the next run would choose again, and perhaps otherwise.
    const kept = found.size > 0 && await writeTuning(file, device.info, found);
    for (const [key, each] of kept ? found : []) known.set(key, each);
  }
  const chosen = new Map(products.filter(holds).map(({ key }) => [key, known.get(key)!]));
  return (kernel, packing, rows, columns) => {
    const { knobs } = chosen.get(keyOf(kernel, packing, rows, columns)) ?? {};
    return knobs ? { ...device.knobs, ...knobs } : device.knobs;
  };
}

/** Products of one key share their choice: `linear_qkv Q4_K 4096×4096`, sizes to the nearest power of two. */
function keyOf({ name }: Kernel, packing: Packing, rows: number, columns: number): string {
  const size = (n: number) => 2 ** Math.round(Math.log2(n));
  return `${name} ${packing.name} ${size(rows)}×${size(columns)}`;
}

/** The products of decoding and of prompts, each key once. */
function productsOf(plan: Plan, weights: Weights<GPUBuffer>, buffers: number): Product[] {
  const products = new Map<string, Product>();
  for (const { step, kernel, matrix, few } of usedSteps(plan, weights, buffers)) {
    if (step.operation !== "linear") continue;
    const { packing, columns } = matrix!;
    const key = keyOf(kernel, packing, productRows(weights, step), columns);
    const positions = few ? 1 : MANY_POSITIONS;
    if (!products.has(key)) products.set(key, { key, kernel, packing, step, positions });
  }
  return [...products.values()];
}

/** What may be faster than the device's own knobs, those first. */
export function candidates({ knobs, gpu, info }: Device, kernel: Kernel): Knobs[] {
  const subgroups = gpu.features.has("subgroups") && info.subgroupSize >= 8;
  const handOn: Partial<Knobs>[] = subgroups
    ? [{ dotLanes: 8, columnLanes: 1, broadcast: true }]
    : [];
  const lanes = Math.max(32, info.subgroupSize);
  const own: Partial<Knobs>[] = kernel.positions === "many"
    ? [{ dotLanes: lanes, broadcast: false }]
    : [lanes, lanes / 4, 1].map((columnLanes) => ({
      dotLanes: lanes,
      columnLanes,
      broadcast: false,
    }));
  const all = [{}, ...handOn, ...own].map((some): Knobs => ({ ...knobs, ...some }));
  return all.filter((each, i) => all.findIndex((other) => same(each, other)) === i);
}

function tuned({ dotLanes, columnLanes, broadcast }: Knobs): TunedKnobs {
  return { dotLanes, columnLanes, broadcast };
}

function same(a: TunedKnobs, b: TunedKnobs): boolean {
  return a.dotLanes === b.dotLanes && a.columnLanes === b.columnLanes &&
    a.broadcast === b.broadcast;
}

/** Whatever the choice depends on beside the device. */
async function sourceHash(device: Device, { kernel, packing }: Product): Promise<string> {
  const all = candidates(device, kernel);
  return await digestOf([
    Deno.version.deno,
    all,
    all.map((knobs) => kernelSource(kernel, knobs, packing)),
  ]);
}

/** Checks and times a product's candidates, in alternating rounds. */
async function timeCandidates(
  device: Device,
  weights: Weights<GPUBuffer>,
  product: Product,
): Promise<Omit<TunedProduct, "source">> {
  const right: Knobs[] = [];
  for (const knobs of candidates(device, product.kernel)) {
    if (await computesRightly(device, product, knobs)) right.push(knobs);
  }
  const bench = new ProductBench(device, weights, product);
  try {
    const timed = await bench.measure(right);
    const [own] = timed;
    const best = timed.reduce((a, b) => b.ms < a.ms ? b : a);
    const chosen = own.ms > best.ms * MARGIN ? best : own;
    return {
      knobs: tuned(chosen.knobs),
      times: timed.map(({ knobs, ms }) => ({ knobs: tuned(knobs), ms })),
    };
  } finally {
    bench.dispose();
  }
}

/** Whether a candidate gives its twin's numbers. The device's own knobs have been checked when the model was loaded. */
async function computesRightly(
  device: Device,
  { kernel, packing }: Product,
  knobs: Knobs,
): Promise<boolean> {
  if (same(knobs, device.knobs)) return true;
  try {
    const cases = kernelCases(kernel, { packings: [packing], taps: false });
    const results = await checkKernels(device, [...cases].map((each) => ({ ...each, knobs })));
    return results.every(({ passed }) => passed);
  } catch (error) {
    if (error instanceof DeviceError && !device.failed) return false;
    throw error;
  }
}

/** A product with the model's weights and made-up positions. */
class ProductBench {
  readonly #device: Device;
  readonly #weights: Weights<GPUBuffer>;
  readonly #product: Product;
  readonly #timer: GpuTimer;
  readonly #external: External;

  constructor(device: Device, weights: Weights<GPUBuffer>, product: Product) {
    this.#device = device;
    this.#weights = weights;
    this.#product = product;
    this.#timer = new GpuTimer(device.gpu);
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const pass = device.borrow(256, usage);
    device.gpu.queue.writeBuffer(pass, 0, Uint32Array.of(product.positions, 0, 1, 0));
    // Caches are lent to whoever writes them.
    const { step, positions: S } = product;
    const buffers = new Map(
      step.outputs.filter((value) => value?.kind === "cache").map((value) => {
        const numbers = elementCount(value!.shape, { T: S, S, R: S });
        return [value!.name, device.borrow(numbers * 4, STORAGE)];
      }),
    );
    this.#external = { pass, tailOffset: 0, buffers };
  }

  /** The median milliseconds of one dispatch with each of the knobs. */
  async measure(all: readonly Knobs[]): Promise<{ knobs: Knobs; ms: number }[]> {
    const { positions } = this.#product;
    const lengths: Lengths = { T: positions, S: positions, R: positions };
    const pass = { tokens: positions, start: 0, rows: positions };
    const executables = all.map((knobs) => this.#executable(lengths, () => knobs));
    try {
      const encode = (executable: Executable, times: number) => (pass_: GPUComputePassEncoder) => {
        for (let i = 0; i < times; i++) executable.encode(pass_, pass, pass, 0, 1);
      };
      // The first time compiles.
      await this.#timer.measure(executables.map((each) => encode(each, 1)));
      const once = await this.#timer.measure(executables.map((each) => encode(each, 1)));
      const times = once.map((ms) => Math.max(1, Math.min(200, Math.round(ROUND_MS / ms))));
      const rounds: number[][] = all.map(() => []);
      for (let round = 0; round < ROUNDS; round++) {
        const ms = await this.#timer.measure(executables.map((each, i) => encode(each, times[i])));
        ms.forEach((each, i) => rounds[i].push(each / times[i]));
      }
      this.#device.check();
      return all.map((knobs, i) => ({ knobs, ms: median(rounds[i]) }));
    } finally {
      for (const each of executables) each.dispose();
    }
  }

  #executable(lengths: Lengths, knobsOf: KnobsOf): Executable {
    const { step } = this.#product;
    const numbers = (_: unknown, i: number) => (i * 7919 % 1024) / 512 - 1;
    const operands = new Map(step.inputs.map(({ name, shape }) => {
      const length = elementCount(shape, lengths);
      return [name, Float32Array.from({ length }, numbers)];
    }));
    return new Executable(this.#device, this.#weights, this.#external, [step], {
      operands,
      largest: lengths,
      kept: new Set(),
      knobsOf,
    });
  }

  dispose(): void {
    const { pass, buffers } = this.#external;
    for (const each of [pass, ...buffers.values()]) this.#device.giveBack(each);
  }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
