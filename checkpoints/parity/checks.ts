/** What is checked besides tensors against tensors: token ids, the cache's rows, the selected logits, choices, probabilities. */
import { logSumExp } from "../../inspect/softmax.ts";
import { sizeOf } from "../../base/shape.ts";
import type { Engine } from "../../engine/backend.ts";
import { compareTensors } from "./compare.ts";
import { RELATIVE_TOLERANCE } from "./contract.ts";
import type { ParityOptions } from "./cases.ts";
import type { ParityCase } from "./cases.ts";
import type { Provenance, ReferenceRun } from "../references/reference.ts";

/** A check that is no comparison of a tensor. */
export interface ParityCheck {
  readonly checkpoint: string;
  readonly case: string;
  readonly passed: boolean;
  /** One line. */
  readonly what: string;
  /** Of a comparison of token ids. */
  readonly ours?: readonly number[];
  readonly theirs?: readonly number[];
}
/** A choice that is closer than this is a tie: the logits' tolerance. */
const TIE = 1e-3;
/** Largest difference of our probabilities to a 64-bit softmax of our logits. */
const PROBABILITY_TOLERANCE = 1e-6;

/** Checkpoint 3: every slot holds bit for bit what its pass wrote, in our own passes. */
export function checkWritten(name: string, { passes }: ReferenceRun): ParityCheck[] {
  const wrong: string[] = [];
  let slots = 0;
  for (const { step, start, tensors } of passes) {
    for (const [point, cache] of tensors) {
      if (!/\.cache_[kv]$/.test(point)) continue;
      const written = tensors.get(point.replace("cache_k", "k_rope").replace("cache_v", "v"));
      if (!written) continue;
      const width = sizeOf(cache.shape.slice(1));
      slots += written.shape[0];
      const at = written.data.findIndex((value, i) =>
        !Object.is(value, cache.data[start * width + i])
      );
      if (at >= 0) wrong.push(`${point}, slot ${start + Math.floor(at / width)}, step ${step}`);
    }
  }
  if (slots === 0) return [];
  const what = wrong.length > 0 ? `not what was written: ${wrong[0]}` : `${slots} slots as written`;
  return [{ checkpoint: "3", case: name, passed: wrong.length === 0, what }];
}

/** Checkpoints 9, 10, 11 and 12 of a case. */
export async function checkEnd(
  engine: Engine,
  each: ParityCase,
  theirs: ReferenceRun,
  ours: ReferenceRun,
  { rope }: Provenance,
  { weights }: ParityOptions,
): Promise<ParityCheck[]> {
  const checks: ParityCheck[] = [];
  const add = (checkpoint: string, passed: boolean, what: string) =>
    checks.push({ checkpoint, case: each.name, passed, what });
  add("9", ...await selectedRow(engine, each, rope));

  const [pass] = ours.passes;
  const logits = pass?.tensors.get("logits");
  const probs = pass?.tensors.get("probs");
  if (logits && probs) {
    const worst = softmaxError(logits.data as Float32Array, probs.data, engine.config.vocabSize);
    add("11", worst <= PROBABILITY_TOLERANCE, `off by at most ${worst.toExponential(1)}`);
  }
  if (theirs.ids.length > 0) {
    const judge = (count: number): [boolean, string] => {
      const [agree, what] = choicesAgree(ours.ids.slice(0, count), theirs.ids, theirs.margins);
      // Other weights make other choices.
      return [agree || weights?.differ === true, what];
    };
    add("10", ...judge(1));
    if (each.generate > 0) add("12", ...judge(theirs.ids.length));
  }
  return checks;
}

/** Whether the greedy choices are the same; a difference within a tie's margin is one, and said. */
function choicesAgree(
  ours: readonly number[],
  theirs: readonly number[],
  margins: readonly number[],
): [passed: boolean, what: string] {
  const ties: number[] = [];
  for (const [step, id] of ours.entries()) {
    if (id === theirs[step]) continue;
    const margin = margins[step] ?? Infinity;
    if (margin < TIE) ties.push(step);
    else {
      return [
        false,
        `choice ${step + 1} is ${id} instead of ${theirs[step]}, which leads by ${
          margin.toPrecision(3)
        }`,
      ];
    }
  }
  const said = ties.length > 0 ? `, ties at ${ties.map((step) => step + 1).join(", ")}` : "";
  return [true, `${ours.length} equal${said}`];
}

/**
 * What a pass for the last row alone selects, against a pass for all rows: the normalized row bit for bit, its logits within
 * their tolerance (other kernels make one row than make many).
 */
async function selectedRow(
  engine: Engine,
  { ids }: ParityCase,
  ropeBuilder: Provenance["rope"],
): Promise<[passed: boolean, what: string]> {
  const session = engine.session({ capacity: ids.length, ropeBuilder });
  try {
    const last = ids.slice(-Math.min(ids.length, session.maxTokens));
    const before = ids.slice(0, ids.length - last.length);
    for (let at = 0; at < before.length; at += session.maxTokens) {
      await session.pass({ ids: before.slice(at, at + session.maxTokens), wanted: [] });
    }
    const position = session.position;
    const wanted = ["output_norm", "logits"];
    const all = await session.pass({ ids: last, rows: last.length, wanted });
    session.rewind(position);
    const one = await session.pass({ ids: last, rows: 1, wanted: [...wanted, "argmax"] });
    const lastOf = (name: string) => all.get(name)!.data.slice(-one.get(name)!.data.length);
    const norm = lastOf("output_norm");
    const wrong = one.get("output_norm")!.data.findIndex((value, i) => !Object.is(value, norm[i]));
    if (wrong >= 0) return [false, `the normalized row differs at ${wrong}`];
    const logits = one.get("logits")!;
    const expected = { shape: logits.shape, data: lastOf("logits") };
    const allowance = { tolerance: TIE, relative: RELATIVE_TOLERANCE };
    const difference = compareTensors("logits", logits, expected, allowance, ids.length - 1);
    if (!difference.passed) return [false, `token ${difference.place.index} differs`];
    const chosen = one.get("argmax")!.data[0];
    const best = logits.data.indexOf(Math.max(...logits.data));
    if (chosen !== best) return [false, `the device chose ${chosen}, its logits say ${best}`];
    return [true, "the last row"];
  } finally {
    session.dispose();
  }
}

/** Largest difference of probabilities [T, V] to a 64-bit softmax of logits [T, V]; of a row's sum to 1 too. */
function softmaxError(
  logits: Float32Array,
  probs: Float32Array | Float64Array,
  width: number,
): number {
  let worst = 0;
  for (let row = 0; row < logits.length; row += width) {
    const norm = logSumExp(logits.subarray(row, row + width));
    let total = 0;
    for (let i = row; i < row + width; i++) {
      worst = Math.max(worst, Math.abs(Math.exp(logits[i] - norm) - probs[i]));
      total += probs[i];
    }
    // 32-bit probabilities cannot sum up better than this.
    if (Math.abs(total - 1) > 1e-5) worst = Math.max(worst, Math.abs(total - 1));
    if (Number.isNaN(total)) return Infinity;
  }
  return worst;
}

/** Token ids of a text, ours against the reference's. */
export function compareIds(
  { name }: ParityCase,
  ours: readonly number[],
  theirs: readonly number[],
): ParityCheck {
  const at = Array.from({ length: Math.max(ours.length, theirs.length) })
    .findIndex((_, i) => ours[i] !== theirs[i]);
  return {
    checkpoint: "0",
    case: name,
    passed: at < 0,
    ours,
    theirs,
    what: at < 0
      ? `${ours.length} ids equal`
      : `id ${at} is ${ours[at]} instead of ${theirs[at]} ([${ours.slice(0, 6)}] and [${
        theirs.slice(0, 6)
      }])`,
  };
}
