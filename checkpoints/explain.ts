/** Why a point went wrong: the known causes, tried on the data. */
import type { Config } from "../engine/config.ts";
import type { GgufFile } from "../engine/gguf/reader.ts";
import type { Plan } from "../engine/plan.ts";
import type { RopeBuilder } from "../engine/rope_table.ts";
import { type Cause, CAUSES } from "./causes.ts";
import { compareTensors, isAttention } from "./compare.ts";
import { layerOf } from "./contract.ts";
import { type Chain, chainOf } from "./explain/chain.ts";
import { type Operation, type Weight, WeightReader } from "./explain/operation.ts";
import { LARGEST_F16, type Variant } from "./explain/variant.ts";
import { variantsOf } from "./explain/variants.ts";
import type { ReferencePass } from "./reference.ts";

/** What explains a point, and how well. */
export interface Explanation {
  readonly cause: Cause;
  /** 1 − error after undoing it / error before; 0 for `unknown`. */
  readonly explained: number;
  /** Root mean square of the difference, as it is and with the cause undone. */
  readonly before: number;
  readonly after: number;
  /** One line with the figures. */
  readonly detail: string;
  /** What to look at. */
  readonly look: string;
}

/** What an explanation is made of. */
export interface Evidence {
  readonly plan: Plan;
  readonly config: Config;
  /** The file whose weights the subject runs on. */
  readonly file: GgufFile;
  /** The file that the other side runs, where that is known. */
  readonly other?: GgufFile;
  /** The other side's pass, with the failing point and what it was made of. */
  readonly pass: ReferencePass;
  readonly point: string;
  /** An absolute position at which it is wrong; the last one without it. */
  readonly position?: number;
  readonly rope: RopeBuilder;
  /** Whether the other side rounds: its activations to less than 32 bits, or its weights to another type. */
  readonly rounds?: boolean;
}

/** From this share on a cause explains a difference. */
const EXPLAINED = 0.97;
/** The same where the other side rounds its numbers: to 16 or 8 bits, or other weights. */
const EXPLAINED_ROUNDED = 0.9;
/** The same of one that has numbers of its own to fit. */
const FITTED = 0.99;
/** A share that leaves no doubt. */
const CERTAIN = 0.999;
/** Multiplications that may be spent on one point. */
const MOST_WORK = 1e10;

/** Tries the known causes on a point that went wrong. */
export async function explain(evidence: Evidence): Promise<Explanation> {
  const { file, other, rope: builder, rounds = false } = evidence;
  let chain: Chain;
  try {
    const others = other && new WeightReader(other);
    chain = await chainOf({ ...evidence, reader: new WeightReader(file), others, builder });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unknown(NaN, error.message);
  }
  const { shape, start } = chain;
  const ours = chain.operations.at(-1)!.output;
  const target = withoutHidden(evidence.point, chain, ours);
  const strange = nonFinite(chain, ours, target);
  if (strange) return strange;

  const error = (values: Float32Array) => {
    const [a, b] = [{ shape, data: values }, { shape, data: target }];
    const { maxError, rms } = compareTensors(
      evidence.point,
      a,
      b,
      { tolerance: 1, relative: 0 },
      start,
    );
    return maxError < Infinity ? rms : Infinity;
  };
  const before = error(ours);
  let best: Explanation | undefined;
  let work = 0;
  for (const { cause, detail, fitted, cost, make } of await trialsOf(chain)) {
    work += cost;
    if (work > MOST_WORK || (best?.explained ?? 0) >= CERTAIN) break;
    const after = error(await make());
    const explained = before > 0 ? 1 - after / before : 0;
    const enough = fitted ? FITTED : rounds ? EXPLAINED_ROUNDED : EXPLAINED;
    if (explained < enough || explained <= (best?.explained ?? 0)) continue;
    best = { cause, explained, before, after, detail, look: CAUSES[cause].look };
  }
  if (best?.cause === "unknown") return unknown(before, `no known cause, but ${best.detail}`);
  if (best) return best;
  const more = hint(chain.operations.at(-1)!, target, (values) => 1 - error(values) / before) ??
    (work > MOST_WORK ? "too much lies between what is shown to try them all" : undefined);
  return unknown(before, `none of the known causes explains the numbers${more ? `; ${more}` : ""}`);
}

/** What can be said of numbers that no cause explains. */
function hint(
  { inputs, output, name, step }: Operation,
  target: Float32Array,
  explained: (values: Float32Array) => number,
): string | undefined {
  const same = step.inputs.find((_, i) =>
    inputs[i].length === target.length && explained(inputs[i]) > FITTED
  );
  if (same) return `they are those of ${same.name}: nothing was done`;
  let [above, below] = [0, 0];
  output.forEach((value, i) => {
    if (value < HIDDEN) return;
    above += value * target[i];
    below += value * value;
  });
  const factor = above / below;
  return explained(output.map((value) => value * factor)) > FITTED
    ? `${name} is ${Number(factor.toPrecision(4))} times what it should be`
    : undefined;
}

/** A cause to try. */
interface Trial {
  readonly cause: Cause;
  readonly detail: string;
  readonly fitted?: boolean;
  /** Multiplications, about. */
  readonly cost: number;
  make(): Promise<Float32Array>;
}

/**
 * All that can be tried on a chain: each fault in each operation, the last one first, and each in all operations that could have
 * it, for what is set once for a whole model. Over several blocks the latter come first: there are many places for the former.
 */
async function trialsOf(chain: Chain): Promise<Trial[]> {
  const { operations } = chain;
  const point = operations.at(-1)!.name;
  const variants = await Promise.all(operations.map((operation) => variantsOf(operation)));
  const single = [...operations.entries()].toReversed().flatMap(([index, operation]) =>
    variants[index].map((variant): Trial => ({
      cause: variant.cause,
      detail: detailOf(variant, operation, point),
      fitted: variant.fitted,
      cost: chain.cost(index),
      make: () =>
        chain.replaced(index, (_, i) => Promise.resolve(i === index ? variant.make() : undefined)),
    }))
  );

  const places = new Map<string, number[]>();
  for (const [index, found] of variants.entries()) {
    for (const variant of found) {
      if (variant.fitted) continue; // to one place's numbers
      const key = keyOf(variant);
      places.set(key, [...places.get(key) ?? [], index]);
    }
  }
  const joint = [...places].filter(([, indices]) => indices.length > 1).map(
    ([key, indices]): Trial => {
      const { cause, what } = variants[indices[0]].find((each) => keyOf(each) === key)!;
      return {
        cause,
        detail: `${what} (in ${operations[indices[0]].name} to ${
          operations[indices.at(-1)!].name
        })`,
        cost: chain.cost(indices[0]),
        make: () =>
          chain.replaced(indices[0], async (operation, i) => {
            if (!indices.includes(i)) return undefined;
            return (await variantsOf(operation)).find((each) => keyOf(each) === key)?.make();
          }),
      };
    },
  ).reverse();
  const isLong = new Set(operations.map(({ name }) => layerOf(name))).size > 1;
  return isLong ? [...joint, ...single] : [...single, ...joint];
}

/** Equal for the same fault in several places. */
function keyOf({ cause, what }: Variant): string {
  return `${cause}: ${what}`;
}

function detailOf({ what, where }: Variant, { name }: Operation, point: string): string {
  const place = [...name === point ? [] : [name], ...where === undefined ? [] : [where]];
  return [...place, what].join(": ");
}

function unknown(before: number, detail: string): Explanation {
  const { look } = CAUSES.unknown;
  return { cause: "unknown", explained: 0, before, after: before, detail, look };
}

/** What the other side shows, with our own numbers where it may hold anything: at keys that a query does not see. */
function withoutHidden(point: string, { target, shape, start }: Chain, ours: Float32Array) {
  if (!isAttention(point)) return target;
  const [, rows, keys] = shape;
  return target.map((value, i) => {
    const position = start + Math.floor(i / keys) % rows;
    return i % keys <= position ? value : ours[i];
  });
}

/** Infinities and NaN: a number that left the range of f16, or one that is none. */
function nonFinite(
  { operations }: Chain,
  ours: Float32Array,
  target: Float32Array,
): Explanation | undefined {
  const of = (cause: Cause, detail: string): Explanation => ({
    cause,
    explained: 1,
    before: Infinity,
    after: 0,
    detail,
    look: CAUSES[cause].look,
  });
  const isWrong = (value: number) => !Number.isFinite(value);
  const theirs = target.findIndex(isWrong);
  const own = operations.find(({ output }) => output.some(isWrong));
  if (own && theirs < 0) {
    const weight = own.weights.find(({ data }) => data.some(isWrong));
    return of("nan", weight ? whereIn(weight) : `${own.name} makes it of finite inputs`);
  }
  const clamped = (value: number, i: number) =>
    Math.abs(value) === LARGEST_F16 && Math.abs(ours[i]) > LARGEST_F16;
  if (theirs < 0 && !target.some(clamped)) return undefined;
  // Squares are summed on the way to a norm, which then is 0 rather than infinite: they are suspected last.
  for (const reach of [outcomeReach, squareReach]) {
    const operation = operations.find((each) => reach(each) > LARGEST_F16);
    if (operation) {
      return of("f16-overflow", `${operation.name} reaches ${reach(operation).toPrecision(4)}`);
    }
  }
  return of("nan", `${operations.at(-1)!.name} at element ${theirs}, from finite inputs`);
}

/** The largest number of an operation's outcome; of scores before they are scaled. */
function outcomeReach({ step: { kernel, constants }, output }: Operation): number {
  let largest = 0;
  for (const value of output) if (value > HIDDEN) largest = Math.max(largest, Math.abs(value));
  return kernel === "scores" ? largest / constants.scale : largest;
}

/** The largest sum of a row's squares that a norm needs. */
function squareReach({ step: { kernel, constants: { columns } }, inputs: [x] }: Operation): number {
  if (kernel !== "rms") return 0;
  let most = 0;
  for (let row = 0; row < x.length; row += columns) {
    most = Math.max(
      most,
      x.subarray(row, row + columns).reduce((sum, value) => sum + value ** 2, 0),
    );
  }
  return most;
}

/** Scores of hidden keys are below this. */
const HIDDEN = -1e29;

function whereIn({ name, columns, data }: Weight): string {
  const at = data.findIndex((value) => !Number.isFinite(value));
  return `${name}, row ${Math.floor(at / columns)}, column ${at % columns}`;
}
