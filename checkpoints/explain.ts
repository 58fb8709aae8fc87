/** Why a point went wrong: the known causes, tried on the data. */
import type { Config } from "../engine/config.ts";
import type { GgufFile } from "../engine/gguf/reader.ts";
import type { Plan } from "../engine/plan.ts";
import type { RopeBuilder } from "../engine/rope_table.ts";
import { type Cause, CAUSES } from "./causes.ts";
import { compareTensors } from "./compare.ts";
import { type Chain, chainOf, WeightReader } from "./explain/chain.ts";
import { SUSPECTS } from "./explain/variants.ts";
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
  /** The other side's pass, with the failing point and what it was made of. */
  readonly pass: ReferencePass;
  readonly point: string;
  readonly rope: RopeBuilder;
}

/** From this share on a cause explains a difference. */
const EXPLAINED = 0.9;
/** A share that leaves no doubt. */
const CERTAIN = 0.999;
const LARGEST_F16 = 65504;

/** Tries the known causes on a point that went wrong. */
export async function explain(evidence: Evidence): Promise<Explanation> {
  const { plan, config, file, pass, point, rope } = evidence;
  let chain: Chain;
  try {
    chain = await chainOf(plan, config, new WeightReader(file), pass, point, rope);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unknown(NaN, error.message);
  }
  const ours = chain.operations.at(-1)!.output;
  const strange = nonFinite(chain, ours);
  if (strange) return strange;

  const error = (values: Float32Array) => {
    const side = { shape: chain.shape, data: values };
    const other = { shape: chain.shape, data: chain.target };
    return compareTensors(point, side, other, { tolerance: 1, relative: 0 }, chain.start).rms;
  };
  const before = error(ours);
  let best: Explanation = unknown(before, "none of the known causes explains the numbers");
  for (const operation of chain.operations.toReversed()) {
    for (const variant of await SUSPECTS[operation.step.kernel]?.(operation) ?? []) {
      const after = error(chain.withOutput(operation, variant.output));
      const explained = before > 0 ? 1 - after / before : 0;
      // The first that leaves no doubt stays: a later one may only do better by rounding.
      const doubt = best.explained < CERTAIN;
      if (explained >= EXPLAINED && doubt && explained > best.explained) {
        const { cause, detail } = variant;
        best = { cause, explained, before, after, detail, look: CAUSES[cause].look };
      }
    }
  }
  return best;
}

function unknown(before: number, detail: string): Explanation {
  const { look } = CAUSES.unknown;
  return { cause: "unknown", explained: 0, before, after: before, detail, look };
}

/** Infinities and NaN: a number that left the range of f16, or one that is none. */
function nonFinite({ target, operations }: Chain, ours: Float32Array): Explanation | undefined {
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
  const own = ours.findIndex(isWrong);
  const { name, weights, inputs } = operations.at(-1)!;
  if (theirs < 0 && own >= 0) {
    const weight = weights.find(({ data }) => data.some(isWrong));
    return of("nan", weight ? whereIn(weight) : `${name} makes it of finite inputs`);
  }
  const saturated =
    target.filter((value, i) =>
      Math.abs(ours[i]) > LARGEST_F16 && (isWrong(value) || Math.abs(value) === LARGEST_F16)
    ).length;
  if (saturated > 0) {
    const largest = ours.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return of("f16-overflow", `values up to ${largest.toPrecision(4)} in ${name}`);
  }
  if (theirs < 0) return undefined;
  if (inputs.some((input) => input.some((value) => Math.abs(value) > LARGEST_F16 / 2))) {
    return of("f16-overflow", `the inputs of ${name} are near the end of f16's range`);
  }
  return of("nan", `${name} at element ${theirs}, from finite inputs`);
}

function whereIn({ name, columns, data }: { name: string; columns: number; data: Float32Array }) {
  const at = data.findIndex((value) => !Number.isFinite(value));
  return `${name}, row ${Math.floor(at / columns)}, column ${at % columns}`;
}
