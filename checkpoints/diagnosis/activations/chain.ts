/**
 * The steps between what a reference shows and a point that went wrong, computed once more in 64-bit floats by the kernels'
 * twins, with any step's outcome replaced by what a suspected fault would have made of it.
 */
import type { Config } from "../../../engine/model/config.ts";
import {
  type Lengths,
  type Plan,
  planValues,
  resolveShape,
  type Step,
  stepName,
} from "../../../engine/plan/plan.ts";
import { ropeFactors } from "../../../engine/model/rope_table.ts";
import { type RopeBuilder, ropeTables } from "../../../engine/model/rope_table.ts";
import type { Pass } from "../../../kernels/kernel.ts";
import { rowsOf } from "../../parity/local.ts";
import { compute, roomFor, stepsBehind, workPerRow } from "../../parity/steps_behind.ts";
import type { ReferencePass } from "../../references/reference.ts";
import type { Operation, WeightReader } from "./operation.ts";
import { withTargets } from "./targets.ts";

/** The chain behind one point. */
export interface Chain {
  /** In the order of computation; the last one makes the point. */
  readonly operations: readonly Operation[];
  /** What the other side shows at the point, and its shape here: perhaps only some rows of the pass. */
  readonly target: Float32Array;
  readonly shape: readonly number[];
  /** Absolute position of the first row. */
  readonly start: number;
  /** Multiplications that it takes from an operation on, about. */
  cost(from: number): number;
  /**
   * Computes the point with the outcomes of some operations replaced.
   *
   * @param from the first of them; those before it stay as they are
   * @param replace is given each operation with the inputs that it then has; undefined leaves its outcome as it is
   */
  replaced(
    from: number,
    replace: (operation: Operation, index: number) => Promise<Float32Array | undefined>,
  ): Promise<Float32Array>;
}

/** What a chain is set up from. */
export interface ChainOptions {
  readonly plan: Plan;
  readonly config: Config;
  readonly reader: WeightReader;
  /** The other side's weights, where it is a file. */
  readonly others?: WeightReader;
  /** The other side's. */
  readonly pass: ReferencePass;
  readonly point: string;
  /** An absolute position that must be among the rows; the last one without it. */
  readonly position?: number;
  readonly builder: RopeBuilder;
}

/** Rows that are enough, where few multiplications make them. */
const MOST_ROWS = 64;
const LEAST_ROWS = 8;
/** Operations that need all positions before a row. */
const WHOLE: ReadonlySet<Step["operation"]> = new Set(["store", "scores", "softmax", "mix"]);
/** Multiplications of a chain that is run again for every suspected cause. */
const MOST_WORK = 1e8;

/**
 * Sets up the chain of a point from a reference's pass. Of a long pass some rows are enough; attention needs all that are before
 * them.
 *
 * @throws {RangeError} when no step makes the point, or it lies behind a weight or a cache that is not there
 */
export async function chainOf(options: ChainOptions): Promise<Chain> {
  const { plan, config, reader, others, pass, point, builder } = options;
  const steps = stepsBehind(plan, pass, point);
  if (steps.length === 0) throw new RangeError(`Cannot explain ${point}: no step makes it`);
  const all = pass.ids.length;
  // A slot of the cache may be older than the pass.
  const row = Math.max(0, (options.position ?? pass.start + all - 1) - pass.start);
  const perRow = steps.reduce((sum, step) => sum + workPerRow(step), 0);
  const enough = Math.max(LEAST_ROWS, Math.min(MOST_ROWS, Math.floor(MOST_WORK / perRow)));
  const whole = steps.some(({ operation }) => WHOLE.has(operation));
  const count = Math.min(all, whole ? Math.max(enough, row + 1) : enough);
  const at = whole ? 0 : Math.min(all - count, row);
  const numbers: Pass = { tokens: count, start: pass.start + at, rows: count };
  const lengths: Lengths = { T: count, S: pass.start + at + count, R: count };
  const factors = await ropeFactors(reader.file, config);

  const shown = (name: string) =>
    Float32Array.from(rowsOf(name, pass.tensors.get(name)!, pass.start, at, count).data);
  const values = new Map<string, Float32Array>();
  values.set("ids", Float32Array.from(pass.ids.slice(at, at + count)));
  for (const [name, table] of ropeTables(config, lengths.S, builder, factors)) {
    values.set(name, table);
  }
  for (const { inputs } of steps) {
    for (const { name } of inputs) if (pass.tensors.has(name)) values.set(name, shown(name));
  }
  const target = shown(point);
  const room = (step: Step) => roomFor(step, pass, lengths, point);
  const operations: Operation[] = [];
  for (const step of steps) {
    const weights = await Promise.all(step.weights.map(async (name) => {
      const weight = await reader.read(name);
      if (!weight) throw new RangeError(`Cannot compute ${point}: there is no ${name}`);
      return weight;
    }));
    const name = stepName(step);
    const inputs = step.inputs.map((input) => values.get(input.name)!);
    const output = compute({ step, pass: numbers, inputs, weights }, room(step));
    if (!pass.tensors.has(name)) values.set(name, output);
    const shape = resolveShape(step.outputs[0]!.shape, lengths);
    const before = planValues(plan.slice(0, plan.indexOf(step)));
    const earlier = [...before.keys()].filter((each) => pass.tensors.has(each));
    const theirs = { shown: pass.tensors, shownRows: shown, earlier, others };
    const own = { config, pass: numbers, reader, factors, builder };
    operations.push({ step, name, inputs, weights, output, shape, ...theirs, ...own });
  }
  const traced = withTargets(operations, target);
  const costs = traced.map(({ step }) => workPerRow(step) * count);
  return {
    operations: traced,
    target,
    shape: traced.at(-1)!.shape,
    start: numbers.start,
    cost: (from) => costs.slice(from).reduce((sum, cost) => sum + cost, 0),
    async replaced(from, replace) {
      const changed = new Map(values);
      let output = traced[from].output;
      for (const [i, operation] of traced.entries()) {
        if (i < from) continue;
        const inputs = operation.step.inputs.map(({ name }) => changed.get(name)!);
        const isSame = inputs.every((input, j) => input === operation.inputs[j]);
        const right = isSame
          ? operation.output
          : compute({ ...operation, inputs }, room(operation.step));
        output = await replace({ ...operation, inputs, output: right }, i) ?? right;
        changed.set(operation.name, output);
      }
      return output;
    },
  };
}
