/** Why a point went wrong: the known causes, tried on the data. */
import type { Config } from "../../../engine/model/config.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Plan } from "../../../engine/plan/plan.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import { CAUSES, type Explanation, unexplained } from "../causes.ts";
import { compareTensors, type Difference, isAttention, leftText } from "../../parity/compare.ts";
import type { Judge } from "../../parity/local.ts";
import { type Chain, chainOf } from "./chain.ts";
import { extentText } from "./extent.ts";
import { nonFinite } from "./non_finite.ts";
import { WeightReader } from "./operation.ts";
import { differingWeights } from "./products/differing_weights.ts";
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
  /** The judge that failed the point: what a cause leaves must pass it. */
  readonly judge: Judge;
  /** Whether the other side rounds: its activations to less than 32 bits, or its weights to another type. */
  readonly rounds?: boolean;
  /** Is given the chain of operations that is looked at, where one can be computed. */
  readonly onChain?: (chain: Chain) => void;
}

/** From this share on a cause explains a difference: less would be a small part of what is wrong, that brings it just below what is allowed. */
const EXPLAINED = 0.97;
/** The same where the other side rounds its numbers: to 16 or 8 bits, or other weights. */
const EXPLAINED_ROUNDED = 0.9;
/** The same of one that has numbers of its own to fit. */
const FITTED = 0.99;
/** A share that leaves no doubt. */
const CERTAIN = 0.999;
/** A cause that explains as much and leaves too much is told, and not named. */
const MOSTLY = 0.9;
/** Multiplications that may be spent on one point. */
const MOST_WORK = 5e9;

/**
 * Tries the known causes on a point that went wrong. One is named when it explains nearly all of the difference, and what it leaves
 * passes the judge that failed the point: on the rows that the chain has, computed in 64-bit floats.
 */
export async function explain(evidence: Evidence): Promise<Explanation> {
  const { file, other, pass, point, rope: builder, rounds = false } = evidence;
  let chain: Chain;
  try {
    const others = other && new WeightReader(other);
    chain = await chainOf({ ...evidence, reader: new WeightReader(file), others, builder });
    evidence.onChain?.(chain);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return unexplained(error.message);
  }
  const { operations, shape, start } = chain;
  const last = operations.at(-1)!;
  const target = withoutHidden(point, chain, last.output);
  const strange = nonFinite(chain, last.output, target);
  if (strange) {
    const { look } = CAUSES[strange.cause];
    return { ...strange, explained: 1, before: Infinity, after: 0, look };
  }

  const reference = { shape, data: target };
  const hidden = operations.slice(0, -1).map(({ step }) => step);
  const judged = async (values: Float32Array, supposed: boolean): Promise<Difference> => {
    const ours = { shape, data: Float32Array.from(values) };
    const value = { point, ours, reference, start, step: last.step, hidden, supposed };
    return await evidence.judge(value, pass);
  };
  const error = (values: Float32Array) => {
    const allowance = { tolerance: 1, relative: 0 };
    const { maxError, rms } = compareTensors(
      point,
      { shape, data: values },
      reference,
      allowance,
      start,
    );
    return maxError < Infinity ? rms : Infinity;
  };
  const before = error(last.output);
  if ((await judged(last.output, false)).passed) {
    return unexplained(
      "computed in 64 bits of what the other side shows, it is within what is allowed: the operation is right there, and what is " +
        "wrong is our kernel, or the rows that were not looked at",
      before,
    );
  }
  let best: Explanation | undefined;
  let nearest: Explanation | undefined;
  let work = 0;
  // What both files show need not be guessed; of a damaged block, what is tried says the very columns.
  const differing = other ? await differingWeights(chain, file, other) : [];
  const { named = [], blocks = [] } = Object.groupBy(
    differing.filter(({ cause }) => cause !== "unknown"),
    ({ cause }) => cause === "dequant-block" ? "blocks" : "named",
  );
  const suspicions = [...named, ...await suspicionsOf(chain), ...blocks];
  for (const { cause, detail, fitted, cost, make } of suspicions) {
    work += cost;
    if (work > MOST_WORK || (best?.explained ?? 0) >= CERTAIN) break;
    const values = await make();
    const after = error(values);
    const explained = 1 - after / before;
    if (explained < MOSTLY || explained <= (best?.explained ?? 0)) continue;
    const difference = await judged(values, true);
    const leaves = leftText(difference);
    const found = { cause, explained, before, after, detail, leaves, look: CAUSES[cause].look };
    const enough = fitted ? FITTED : rounds ? EXPLAINED_ROUNDED : EXPLAINED;
    if (difference.passed && explained >= enough) best = found;
    else if (explained > (nearest?.explained ?? 0)) nearest = found;
  }
  if (best?.cause === "unknown") return unexplained(`no known cause, but ${best.detail}`, before);
  if (best) return best;
  const extent = extentText(point, shape, last.output, target, start);
  const known = [
    "none of the known causes explains the numbers",
    ...nearest ? [nearText(nearest)] : [],
    ...extent ? [extent] : [],
    ...differing.map(({ detail }) => `the files differ in ${detail}`),
    ...work > MOST_WORK ? ["too much lies between what is shown to try them all"] : [],
  ];
  return unexplained(known.join("; "), before);
}

/** What is known of a cause that leaves more than is allowed. */
function nearText({ cause, detail, explained, leaves }: Explanation): string {
  const share = (100 * explained).toFixed(explained > CERTAIN ? 3 : 1);
  const name = cause === "unknown" ? "" : `${cause} `;
  return `${name}(${detail}) would explain ${share} %, but leaves ${leaves}`;
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
