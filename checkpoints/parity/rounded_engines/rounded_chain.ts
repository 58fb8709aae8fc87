/**
 * The steps between what a reference shows and a point, computed by the kernels' 64-bit twins for a few positions: once exactly, and
 * some times as an engine would that rounds whatever it computes. How far those lie apart is what rounding may make of the point.
 */
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Config } from "../../../engine/model/config.ts";
import { ropeFactors } from "../../../engine/model/rope_table.ts";
import { type RopeBuilder, ropeTables } from "../../../engine/model/rope_table.ts";
import { type Plan, type Step, stepName, type Value } from "../../../engine/plan/plan.ts";
import type { Pass } from "../../../kernels/kernel.ts";
import { Random } from "../../files/random.ts";
import type { ReferencePass } from "../../references/reference.ts";
import { rowsOf } from "../local.ts";
import {
  compute,
  readWeight,
  roomFor,
  stepsBehind,
  type Weight,
  workPerRow,
} from "../steps_behind.ts";
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

/** What is computed of a pass, and where. */
interface Task {
  readonly pass: ReferencePass;
  /** The last one makes the point. */
  readonly steps: readonly Step[];
  /** Names of those that are computed of all positions. */
  readonly whole: ReadonlySet<string>;
  /** Ascending. */
  readonly positions: readonly number[];
}

/** Computes chains of one model. */
export class RoundedChains {
  readonly #model: ChainModel;
  readonly #type: RoundedType;
  readonly #weights = new Map<string, Weight>();
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
    const { plan, config, file, rope } = this.#model;
    const steps = stepsBehind(plan, pass, point);
    const whole = wholeOf(steps, pass);
    const perRow = (some: readonly Step[]) => some.reduce((sum, step) => sum + workPerRow(step), 0);
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
    const task: Task = { pass, steps, whole, positions: chosen };
    const slots = pass.start + chosen.at(-1)! + 1;
    const tables = ropeTables(config, slots, rope, await ropeFactors(file, config));
    const exact = await this.#compute(task, tables);
    const type = this.#type;
    const angles = type === "q8" ? tables : new Map(
      Array.from(tables, ([name, table]) => [name, rounded(table, type)]),
    );
    const random = new Random(1);
    const found: Float32Array[][] = chosen.map(() => []);
    for (let i = 0; i < tries; i++) {
      const stretch = i === 0 ? 1 : random.uniform(1, 2);
      const values = await this.#compute(task, angles, { type, stretch });
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

  /**
   * The point at each of the positions.
   *
   * @param tables RoPE's angles, as the engine has them
   */
  async #compute(
    { pass, steps, whole, positions }: Task,
    tables: ReadonlyMap<string, Float32Array>,
    rounding?: Rounding,
  ): Promise<Float32Array[]> {
    const { start, tensors } = pass;
    const count = positions.at(-1)! + 1;
    const all: Pass = { tokens: count, start, rows: count };
    const own = positions.map((at): Pass => ({ tokens: 1, start: start + at, rows: 1 }));
    // What is computed, of all positions up to the last one, or of each that was asked for.
    const joined = new Map<string, Float32Array>();
    const single = new Map<string, Float32Array[]>();
    const ids = Float32Array.from(pass.ids);
    /** A step's input in a pass that begins at row `at` and has so many. */
    const read = ({ name, kind }: Value, { tokens }: Pass, at: number, i?: number) => {
      if (kind === "ids") return ids.slice(at, at + tokens);
      if (kind === "table") return tables.get(name)!;
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
    const shown = steps.at(-1)!;
    const point = stepName(shown);
    let last: Float32Array[] = [];
    for (const step of steps) {
      const name = stepName(step);
      const weights = await Promise.all(step.weights.map((each) => this.#weight(each, rounding)));
      const make = (numbers: Pass, inputs: Float32Array[]) => {
        const { tokens: T } = numbers;
        const room = roomFor(step, pass, { T, S: numbers.start + T, R: T }, point);
        const read = rounding
          ? inputs.map((input, i) => roundedInput(step, i, input, weights, rounding.type))
          : inputs;
        const out = compute({ step, pass: numbers, inputs: read, weights }, room);
        // How the outcome that is shown is rounded is allowed for where it is judged.
        return rounding && step !== shown ? roundedOutcome(step, out, rounding) : out;
      };
      if (whole.has(name)) {
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
    const made = joined.get(point);
    if (!made) return last;
    const isCache = shown.outputs[0]!.kind === "cache";
    const width = made.length / (isCache ? start + count : count);
    return positions.map((at) => {
      const row = isCache ? start + at : at;
      return made.slice(row * width, (row + 1) * width);
    });
  }

  async #weight(name: string, rounding?: Rounding): Promise<Weight> {
    const type = rounding?.type === "q8" ? undefined : rounding?.type;
    const key = `${name} ${type}`;
    const kept = this.#weights.get(key);
    if (kept) return kept;
    const exact = this.#weights.get(`${name} undefined`) ??
      (await readWeight(this.#model.file, name))!;
    const weight = type ? { ...exact, data: rounded(exact.data, type) } : exact;
    const { byteLength } = weight.data;
    if (this.#bytes + byteLength > KEPT_BYTES) {
      this.#weights.clear();
      this.#bytes = 0;
    }
    this.#weights.set(key, weight);
    this.#bytes += byteLength;
    return weight;
  }
}

/** Names of steps that are computed of all positions: what a cache is made of, and the cache. */
function wholeOf(steps: readonly Step[], pass: ReferencePass): Set<string> {
  const caches = steps.filter(({ operation }) => operation === "store");
  return new Set(
    caches.flatMap((store) => stepsBehind(steps, pass, stepName(store)).map(stepName)),
  );
}

/** What a step reads, as it may be rounded on the way in; weights and angles are rounded already. */
function roundedInput(
  { operation }: Step,
  index: number,
  input: Float32Array,
  weights: readonly Weight[],
  type: RoundedType,
): Float32Array {
  if (operation === "embed" || (operation === "rope" && index === 1)) return input;
  if (type !== "q8") return rounded(input, type);
  if (operation === "linear") {
    return roundedBlocks(input, weights[0].blockSize > 32 ? 256 : 32);
  }
  return operation === "scores" || operation === "mix" ? rounded(input, "f16") : input;
}

/** What a step makes, as it may be rounded on the way out. */
function roundedOutcome(
  { operation }: Step,
  out: Float32Array,
  { type, stretch }: Rounding,
): Float32Array {
  if (type !== "q8") return rounded(out, type, stretch);
  return operation === "store" ? rounded(out, "f16", stretch) : out;
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
