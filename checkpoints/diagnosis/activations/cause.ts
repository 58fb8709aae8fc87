/** Why a point went wrong: the known causes, tried on the data. */
import type { Config } from "../../../engine/model/config.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Plan } from "../../../engine/plan/plan.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import { CAUSES, type Explanation, unexplained } from "../causes.ts";
import { compareTensors, isAttention } from "../../parity/compare.ts";
import { type Chain, chainOf } from "./chain.ts";
import { nonFinite } from "./non_finite.ts";
import { HIDDEN, type Operation, WeightReader } from "./operation.ts";
import { suspicionsOf } from "./suspicions.ts";
import type { ReferencePass } from "../../references/reference.ts";

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
  /** Is given the chain of operations that is looked at, where one can be computed. */
  readonly onChain?: (chain: Chain) => void;
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
    evidence.onChain?.(chain);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unexplained(error.message);
  }
  const { shape, start } = chain;
  const ours = chain.operations.at(-1)!.output;
  const target = withoutHidden(evidence.point, chain, ours);
  const strange = nonFinite(chain, ours, target);
  if (strange) {
    const { look } = CAUSES[strange.cause];
    return { ...strange, explained: 1, before: Infinity, after: 0, look };
  }

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
  for (const { cause, detail, fitted, cost, make } of await suspicionsOf(chain)) {
    work += cost;
    if (work > MOST_WORK || (best?.explained ?? 0) >= CERTAIN) break;
    const after = error(await make());
    const explained = before > 0 ? 1 - after / before : 0;
    const enough = fitted ? FITTED : rounds ? EXPLAINED_ROUNDED : EXPLAINED;
    if (explained < enough || explained <= (best?.explained ?? 0)) continue;
    best = { cause, explained, before, after, detail, look: CAUSES[cause].look };
  }
  if (best?.cause === "unknown") return unexplained(`no known cause, but ${best.detail}`, before);
  if (best) return best;
  const more = hint(chain.operations.at(-1)!, target, (values) => 1 - error(values) / before) ??
    (work > MOST_WORK ? "too much lies between what is shown to try them all" : undefined);
  return unexplained(
    `none of the known causes explains the numbers${more ? `; ${more}` : ""}`,
    before,
  );
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

/** What the other side shows, with our own numbers where it may hold anything: at keys that a query does not see. */
function withoutHidden(point: string, { target, shape, start }: Chain, ours: Float32Array) {
  if (!isAttention(point)) return target;
  const [, rows, keys] = shape;
  return target.map((value, i) => {
    const position = start + Math.floor(i / keys) % rows;
    return i % keys <= position ? value : ours[i];
  });
}
