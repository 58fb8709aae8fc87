/**
 * The steps between what a reference shows and a point, computed by the kernels' 64-bit twins for a few positions: once exactly, and
 * some times as an engine would that rounds whatever it computes. How far those lie apart is what rounding may make of the point.
 */
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Config } from "../../../engine/model/config.ts";
import { ropeFactors } from "../../../engine/model/rope_factors.ts";
import { type RopeBuilder, ropeTable } from "../../../engine/model/rope_table.ts";
import {
  elementCount,
  type Plan,
  type Step,
  stepName,
  type Value,
} from "../../../engine/plan/plan.ts";
import type { Pass } from "../../../kernels/kernel.ts";
import { kernelOf } from "../../../kernels/mod.ts";
import { Random } from "../../files/random.ts";
import type { ReferencePass } from "../../references/reference.ts";
import { rowsOf } from "../local.ts";
import { rounded, roundedBlocks, type RoundedType } from "./rounding.ts";

/** What a chain is computed with. */
export interface ChainModel {
  readonly plan: Plan;
  readonly config: Config;
  readonly file: GgufFile;
  readonly rope: RopeBuilder;
}

/** How far rounding moves the numbers of a position. */
export interface Deviation {
  /** Mean square of each number's deviation, over all tries. */
  readonly squares: Float64Array;
  /** Deviations of each try. */
  readonly tries: readonly Float32Array[];
}

/** Tries at least and at most: attention, where few keys count, is cheap; products, where many numbers do, are not. */
const LEAST_TRIES = 3;
const MOST_TRIES = 16;
/** Multiplications that further tries may take. */
const MORE_WORK = 2e7;
/** Multiplications of one try: where it took more, only earlier positions are computed. */
const MOST_WORK = 1e9;
/** Bytes of weights that are kept. */
const KEPT_BYTES = 2 ** 28;
/** Operations whose rows depend on where they stand; the rows of all others can be computed in one. */
const PLACED: ReadonlySet<Step["operation"]> = new Set(["rope", "scores", "softmax", "mix"]);

/** How numbers are rounded in one try. */
interface Rounding {
  readonly type: RoundedType;
  /** Where the grid of hidden numbers lies; those that are shown, and weights, are where they are. */
  readonly stretch: number;
}

/** Computes chains of one model. */
export class RoundedChains {
  readonly #model: ChainModel;
  readonly #type: RoundedType;
  readonly #weights = new Map<string, Float32Array>();
  #bytes = 0;

  constructor(model: ChainModel, type: RoundedType) {
    this.#model = model;
    this.#type = type;
  }

  /**
   * How far rounding moves a point's numbers at some positions of a pass.
   *
   * @param positions places in the pass, counted from its first row
   * @returns by position, each as a pass of that position alone has it; those that are left out took too much work
   */
  async deviations(
    pass: ReferencePass,
    point: string,
    positions: readonly number[],
  ): Promise<Map<number, Deviation>> {
    const steps = stepsBehind(this.#model.plan, pass, point);
    const whole = wholeOf(steps, point);
    const perRow = (found: readonly Step[]) => found.reduce((sum, step) => sum + workOf(step), 0);
    const behind = perRow(steps.filter((step) => whole.has(stepName(step))));
    const alone = perRow(steps.filter((step) => !whole.has(stepName(step))));
    const workUpTo = (count: number) => {
      const last = Math.max(...positions.slice(0, count)) + 1;
      const attention = steps.some(({ operation }) => PLACED.has(operation)) ? last * 1e3 : 0;
      return behind * last + (alone + attention) * count;
    };
    let count = positions.length;
    const ordered = positions.toSorted((a, b) => a - b);
    while (count > 1 && workUpTo(count) > MOST_WORK) count--;
    const chosen = ordered.slice(0, count);
    const isHidden = steps.length > 1;
    const tries = !isHidden ? 1 : Math.max(
      LEAST_TRIES,
      Math.min(MOST_TRIES, Math.floor(MORE_WORK / workUpTo(count))),
    );
    const exact = await this.#compute(pass, steps, whole, chosen);
    const random = new Random(1);
    const found: Float32Array[][] = chosen.map(() => []);
    for (let i = 0; i < tries; i++) {
      const stretch = i === 0 ? 1 : random.uniform(1, 2);
      const values = await this.#compute(pass, steps, whole, chosen, { type: this.#type, stretch });
      values.forEach((value, j) =>
        found[j].push(value.map((number, k) => {
          const moved = number - exact[j][k];
          return Number.isFinite(moved) ? moved : 0;
        }))
      );
    }
    return new Map(chosen.map((position, j) => {
      const squares = new Float64Array(exact[j].length);
      for (const each of found[j]) each.forEach((moved, k) => squares[k] += moved ** 2 / tries);
      return [position, { squares, tries: found[j] }];
    }));
  }

  /** The point at each of some positions. */
  async #compute(
    pass: ReferencePass,
    steps: readonly Step[],
    whole: ReadonlySet<string>,
    positions: readonly number[],
    rounding?: Rounding,
  ): Promise<Float32Array[]> {
    const { config, file, rope } = this.#model;
    const { start, tensors } = pass;
    const count = positions.at(-1)! + 1;
    const all: Pass = { tokens: count, start, rows: count };
    const own = positions.map((at): Pass => ({ tokens: 1, start: start + at, rows: 1 }));
    const table = ropeTable(config, start + count, rope, await ropeFactors(file, config));
    // What is computed, of all positions up to the last one, or of each that was asked for.
    const joined = new Map<string, Float32Array>();
    const single = new Map<string, Float32Array[]>();
    const ids = Float32Array.from(pass.ids);
    /** A step's input in a pass that begins at row `at` and has so many. */
    const read = ({ name, kind }: Value, { tokens }: Pass, at: number, i?: number) => {
      if (kind === "ids") return ids.slice(at, at + tokens);
      if (kind === "table") return rounding ? roundedTable(table, rounding.type) : table;
      const computed = i === undefined ? joined.get(name) : single.get(name)?.[i];
      if (computed) return computed;
      const before = joined.get(name);
      if (before) {
        // A cache up to this position, or one row of what all rows are computed of.
        const width = before.length / (kind === "cache" ? start + count : count);
        return kind === "cache"
          ? before.subarray(0, width * (start + at + tokens))
          : before.subarray(width * at, width * (at + tokens));
      }
      const { data } = rowsOf(name, tensors.get(name)!, start, at, tokens);
      return Float32Array.from(data);
    };
    let last: Float32Array[] = [];
    for (const step of steps) {
      const name = stepName(step);
      const { kind, shape } = step.outputs[0] as Value;
      const isWhole = whole.has(name);
      const weights = await Promise.all(step.weights.map((each) => this.#weight(each, rounding)));
      const make = (numbers: Pass, inputs: Float32Array[]) => {
        const { tokens: T } = numbers;
        const lengths = { T, S: numbers.start + T, R: T };
        const out = new Float32Array(elementCount(shape, lengths));
        // Earlier slots are what they are.
        if (kind === "cache" && pass.before?.has(name)) out.set(pass.before.get(name)!);
        kernelOf(step)!.twin({
          ...{ pass: numbers, constants: step.constants, outputs: [out] },
          inputs: rounding
            ? inputs.map((input, i) => roundedInput(step, i, input, rounding.type, file))
            : inputs,
          weights: weights.map((weight) => readerOf(weight, step)),
        });
        return rounding
          ? roundedOutcome(step, out, rounding, name === stepName(steps.at(-1)!))
          : out;
      };
      if (isWhole) {
        joined.set(name, make(all, step.inputs.map((input) => read(input, all, 0))));
        continue;
      }
      const inputs = own.map((numbers, i) =>
        step.inputs.map((input) => read(input, numbers, positions[i], i))
      );
      if (PLACED.has(step.operation)) {
        last = own.map((numbers, i) => make(numbers, inputs[i]));
      } else {
        const stacked = step.inputs.map((_, j) => concatenated(inputs.map((each) => each[j])));
        const rows = own.length;
        last = parted(make({ tokens: rows, start: 0, rows }, stacked), rows);
      }
      single.set(name, last);
    }
    const name = stepName(steps.at(-1)!);
    const made = joined.get(name);
    if (!made) return last;
    const isCache = steps.at(-1)!.outputs[0]!.kind === "cache";
    const width = made.length / (isCache ? start + count : count);
    return positions.map((at) => {
      const row = isCache ? start + at : at;
      return made.slice(row * width, (row + 1) * width);
    });
  }

  async #weight(name: string, rounding?: Rounding): Promise<Float32Array> {
    const type = rounding?.type === "q8" ? undefined : rounding?.type;
    const key = `${name} ${type}`;
    const kept = this.#weights.get(key);
    if (kept) return kept;
    const { file } = this.#model;
    const tensor = file.tensors.get(name)!;
    const exact = this.#weights.get(`${name} undefined`) ??
      dequantize(tensor.type, await file.readTensor(tensor));
    const data = type ? rounded(exact, type) : exact;
    if (this.#bytes + data.byteLength > KEPT_BYTES) {
      this.#weights.clear();
      this.#bytes = 0;
    }
    this.#weights.set(key, data);
    this.#bytes += data.byteLength;
    return data;
  }
}

/** The steps from what is shown to a point, in the order of computation. */
function stepsBehind(plan: Plan, { tensors }: ReferencePass, point: string): Step[] {
  const makes = new Map(plan.map((step) => [stepName(step), step]));
  const needed = new Set<Step>();
  const visit = (name: string) => {
    const step = makes.get(name);
    if (!step || needed.has(step)) return;
    needed.add(step);
    for (const { name } of step.inputs) if (!tensors.has(name)) visit(name);
  };
  visit(point);
  return plan.filter((step) => needed.has(step));
}

/** Names of steps that are computed of all positions: what a cache is made of, and the cache. */
function wholeOf(steps: readonly Step[], point: string): Set<string> {
  const makes = new Map(steps.map((step) => [stepName(step), step]));
  const whole = new Set<string>();
  const visit = (name: string) => {
    const step = makes.get(name);
    if (!step || whole.has(name)) return;
    whole.add(name);
    for (const { name } of step.inputs) visit(name);
  };
  for (const step of steps) if (step.operation === "store") visit(stepName(step));
  if (whole.has(point)) return new Set(makes.keys());
  return whole;
}

/** Multiplications of a step for one position, about. */
function workOf({ constants: { rows = 1, columns = 1 }, operation }: Step): number {
  return operation === "embed" ? columns : rows * columns;
}

function roundedTable(table: Float32Array, type: RoundedType): Float32Array {
  return type === "q8" ? table : rounded(table, type);
}

/** What a step reads, as it may be rounded on the way in; weights and angles are rounded already. */
function roundedInput(
  { operation, weights }: Step,
  index: number,
  input: Float32Array,
  type: RoundedType,
  file: GgufFile,
): Float32Array {
  if (operation === "embed" || (operation === "rope" && index === 1)) return input;
  if (type !== "q8") return rounded(input, type);
  if (operation === "linear") {
    return roundedBlocks(input, file.tensors.get(weights[0])!.type.blockSize > 32 ? 256 : 32);
  }
  return operation === "scores" || operation === "mix" ? rounded(input, "f16") : input;
}

/** What a step makes; how the outcome that is shown is rounded is allowed for where it is judged. */
function roundedOutcome(
  { operation }: Step,
  out: Float32Array,
  { type, stretch }: Rounding,
  isShown: boolean,
): Float32Array {
  if (isShown) return out;
  if (type !== "q8") return rounded(out, type, stretch);
  return operation === "store" ? rounded(out, "f16", stretch) : out;
}

function readerOf(data: Float32Array, { constants: { columns } }: Step) {
  return {
    rows: data.length / columns,
    columns,
    read: (row: number, out: Float32Array) =>
      out.set(data.subarray(row * columns, (row + 1) * columns)),
  };
}

function concatenated(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) all.set(part, (at += part.length) - part.length);
  return all;
}

function parted(all: Float32Array, count: number): Float32Array[] {
  const width = all.length / count;
  return Array.from({ length: count }, (_, i) => all.slice(i * width, (i + 1) * width));
}
