/**
 * The steps between what a reference shows and a point that went wrong, computed once more in 64-bit floats by the kernels'
 * references, with any step's outcome replaced by what a suspected fault would have made of it.
 */
import type { Config } from "../../engine/config.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import {
  elementCount,
  type Lengths,
  onLastRows,
  type Plan,
  resolveShape,
  type Step,
  stepName,
  type Value,
} from "../../engine/plan.ts";
import { ropeFactors } from "../../engine/rope_factors.ts";
import { type RopeBuilder, ropeTable } from "../../engine/rope_table.ts";
import type { Pass, RowReader } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import type { ReferencePass, ReferenceTensor } from "../reference.ts";
import { rowsOf } from "../local.ts";

/** A weight in memory: [rows, columns]; vectors are one row. */
export interface Weight {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/** Reads weights of a file, each once. */
export class WeightReader {
  readonly #weights = new Map<string, Promise<Weight | undefined>>();

  constructor(readonly file: GgufFile) {}

  /** Undefined where the file has no such weight. */
  read(name: string): Promise<Weight | undefined> {
    let weight = this.#weights.get(name);
    if (!weight) this.#weights.set(name, weight = this.#load(name));
    return weight;
  }

  async #load(name: string): Promise<Weight | undefined> {
    const tensor = this.file.tensors.get(name);
    if (!tensor) return undefined;
    const data = dequantize(tensor.type, await this.file.readTensor(tensor));
    const columns = tensor.shape[0];
    return { name, rows: data.length / columns, columns, data };
  }
}

/** A step of the chain with all that it works on. */
export interface Operation {
  readonly step: Step;
  readonly name: string;
  readonly config: Config;
  readonly pass: Pass;
  readonly inputs: readonly Float32Array[];
  readonly weights: readonly Weight[];
  /** What the step makes of its inputs. */
  readonly output: Float32Array;
  readonly shape: readonly number[];
  /** What the other side has instead, where this step makes the point that went wrong. */
  readonly target?: Float32Array;
  readonly reader: WeightReader;
  readonly factors?: Float32Array;
  readonly builder: RopeBuilder;
}

/** The chain behind one point. */
export interface Chain {
  readonly operations: readonly Operation[];
  /** What the other side shows at the point, and its shape here: perhaps only the last rows of the pass. */
  readonly target: Float32Array;
  readonly shape: readonly number[];
  /** Absolute position of the first row. */
  readonly start: number;
  /** Computes the point with the outcome of one operation replaced. */
  withOutput(operation: Operation, output: Float32Array): Float32Array;
}

/** Rows that are enough for wide products; attention needs all. */
const MOST_ROWS = 64;
const MOST_WIDE_ROWS = 8;
const WIDE = 8192;

/**
 * Sets up the chain of a point from a reference's pass.
 *
 * @throws {RangeError} when the point lies behind a cache or a weight that is not there
 */
export async function chainOf(
  plan: Plan,
  config: Config,
  reader: WeightReader,
  pass: ReferencePass,
  point: string,
  builder: RopeBuilder,
): Promise<Chain> {
  const steps = stepsBehind(plan, pass, point);
  const whole = steps.some(({ kernel }) => /^(store|scores|softmax|mix)$/.test(kernel));
  const wide = steps.some(({ constants }) => (constants.rows ?? 0) > WIDE);
  const all = pass.ids.length;
  const count = whole ? all : Math.min(all, wide ? MOST_WIDE_ROWS : MOST_ROWS);
  const at = all - count;
  const numbers: Pass = { tokens: count, start: pass.start + at, rows: count };
  const lengths: Lengths = { T: count, S: pass.start + all, R: count };
  const factors = await ropeFactors(reader.file, config);

  const shown = (name: string): Float32Array => {
    const tensor: ReferenceTensor = pass.tensors.get(name)!;
    return Float32Array.from(rowsOf(name, tensor, pass.start, at, count).data);
  };
  const values = new Map<string, Float32Array>();
  values.set("ids", Float32Array.from(pass.ids.slice(at)));
  values.set("rope_table", ropeTable(config, pass.start + all, builder, factors));
  for (const { inputs } of steps) {
    for (const { name } of inputs) if (pass.tensors.has(name)) values.set(name, shown(name));
  }
  const target = shown(point);
  const operations: Operation[] = [];
  for (const step of steps) {
    const weights = await Promise.all(step.weights.map(async (name) => {
      const weight = await reader.read(name);
      if (!weight) throw new RangeError(`Cannot compute ${point}: there is no ${name}`);
      return weight;
    }));
    const name = stepName(step);
    const output = run(step, numbers, values, weights, lengths, shownCache(pass, name));
    if (!pass.tensors.has(name)) values.set(name, output);
    operations.push({
      step,
      name,
      config,
      pass: numbers,
      inputs: step.inputs.map((input) => values.get(input.name)!),
      weights,
      output,
      shape: resolveShape(step.outputs[0]!.shape, lengths),
      target: name === point ? target : undefined,
      reader,
      factors,
      builder,
    });
  }
  return {
    operations,
    target,
    shape: operations.at(-1)!.shape,
    start: numbers.start,
    withOutput(operation, output) {
      const changed = new Map(values).set(operation.name, output);
      let last = output;
      for (const each of operations.slice(operations.indexOf(operation) + 1)) {
        last = run(each.step, numbers, changed, each.weights, lengths, shownCache(pass, each.name));
        changed.set(each.name, last);
      }
      return last;
    },
  };
}

/** The steps from what is shown to a point, in order. */
function stepsBehind(plan: Plan, pass: ReferencePass, point: string): Step[] {
  const makes = new Map(plan.map((step) => [stepName(step), step]));
  const needed = new Set<Step>();
  const visit = (name: string) => {
    const step = makes.get(name);
    if (!step || needed.has(step)) return;
    needed.add(step);
    for (const input of step.inputs) {
      const external = input.kind === "ids" || input.kind === "table";
      if (!external && !pass.tensors.has(input.name)) visit(input.name);
    }
  };
  visit(point);
  if (needed.size === 0) throw new RangeError(`Cannot explain ${point}: no step makes it`);
  return plan.filter((step) => needed.has(step));
}

/** The earlier slots of a cache as the other side has them. */
function shownCache(pass: ReferencePass, name: string): Float32Array | undefined {
  const tensor = pass.tensors.get(name);
  return /\.cache_/.test(name) && tensor ? Float32Array.from(tensor.data) : undefined;
}

function run(
  step: Step,
  pass: Pass,
  values: ReadonlyMap<string, Float32Array>,
  weights: readonly Weight[],
  lengths: Lengths,
  cache?: Float32Array,
): Float32Array {
  const outputs = step.outputs.map((output) =>
    cache ?? new Float32Array(elementCount((output as Value).shape, lengths))
  );
  KERNELS.get(step.kernel)!.reference({
    pass: onLastRows(step) ? { ...pass, start: pass.start + pass.tokens - pass.rows } : pass,
    constants: step.constants,
    inputs: step.inputs.map(({ name }) => values.get(name)!),
    weights: weights.map(asReader),
    outputs,
  });
  return outputs[0];
}

function asReader({ rows, columns, data }: Weight): RowReader {
  return {
    rows,
    columns,
    read: (row, out) => out.set(data.subarray(row * columns, (row + 1) * columns)),
  };
}

/** Runs a step's kernel on other inputs, constants or weights: what a variant is made of. */
export function rerun(
  operation: Operation,
  changes: {
    readonly inputs?: readonly Float32Array[];
    readonly weights?: readonly Weight[];
    readonly constants?: Readonly<Record<string, number>>;
  },
): Float32Array {
  const { step, pass, output } = operation;
  const out = new Float32Array(output.length);
  KERNELS.get(step.kernel)!.reference({
    pass,
    constants: { ...step.constants, ...changes.constants },
    inputs: changes.inputs ?? operation.inputs,
    weights: (changes.weights ?? operation.weights).map(asReader),
    outputs: [out],
  });
  return out;
}
