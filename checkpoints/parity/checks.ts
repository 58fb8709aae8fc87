/** What is checked besides tensors against tensors: token ids, the cache's rows, the selected logits, choices, probabilities. */
import { logSumExp } from "../../inspect/softmax.ts";
import { sizeOf } from "../../base/shape.ts";
import type { Engine } from "../../engine/backend.ts";
import type { Plan } from "../../engine/plan/plan.ts";
import { changedSlot, isCache, writtenInto } from "./cache.ts";
import { compareTensors, largestError } from "./compare.ts";
import { RELATIVE_TOLERANCE } from "./contract.ts";
import type { ParityCase, ParityOptions } from "./cases.ts";
import type { Cause } from "../diagnosis/causes.ts";
import { idsPart } from "./beginning/ids.ts";
import { isRounded } from "./rounded_engines/rounding.ts";
import type { Provenance, ReferenceRequest, ReferenceRun } from "../references/reference.ts";

/** A case's name where a check is of no prompt. */
export const NO_CASE = "";

/** A check that is no comparison of a tensor. */
export interface ParityCheck {
  readonly checkpoint: string;
  /** {@linkcode NO_CASE} for one of no prompt. */
  readonly case: string;
  readonly passed: boolean;
  /** False where it could not fail: what it says is reported. */
  readonly judged?: false;
  /** One line. */
  readonly what: string;
  /** Where it tells by itself what is wrong. */
  readonly cause?: Cause;
  /** What parts, in place of a point: `tensors`, `chat template`, `token ids`. */
  readonly subject?: string;
  /** Of a comparison of token ids. */
  readonly ours?: readonly number[];
  readonly theirs?: readonly number[];
}

/** A fault of checkpoint 0 that shows before a prompt is run. */
export function foundationFault(
  what: string,
  cause: Cause,
  subject: "tensors" | "chat template" | "token ids",
): ParityCheck {
  return { checkpoint: "0", case: NO_CASE, passed: false, what, cause, subject };
}

/** A choice that is closer than this is a tie: the logits' tolerance. */
const TIE = 1e-3;
/** Largest difference of our probabilities to a 64-bit softmax of our logits. */
const PROBABILITY_TOLERANCE = 1e-6;

/** Checkpoint 3: every slot holds bit for bit what its pass wrote, and in later passes too, in our own passes of a plan. */
export function checkWritten(
  name: string,
  { passes }: ReferenceRun,
  plan: Plan,
): ParityCheck[] {
  const points = writtenInto(plan);
  const wrong: string[] = [];
  let slots = 0;
  for (const pass of passes) {
    const { step, start, tensors } = pass;
    const changed = changedSlot(pass, passes);
    if (changed) {
      const { point, slot, since } = changed;
      wrong.push(`${point}, slot ${slot}, step ${step}: it changed since step ${since}`);
    }
    for (const [point, cache] of tensors) {
      if (!isCache(point)) continue;
      const written = tensors.get(points.get(point)!);
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
  { rope, activations }: Provenance,
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
    const tie = isRounded(activations) ? roundedTie(ours, theirs) : TIE;
    // Other weights make other choices, and so does rounding of which nobody knows how much it adds up to.
    const isOpen = weights?.differ || tie === undefined;
    const addChoices = (checkpoint: string, count: number) => {
      const [agree, what] = choicesAgree(ours, theirs, count, tie);
      if (agree || !isOpen) add(checkpoint, agree, what);
      else checks.push({ checkpoint, case: each.name, passed: true, judged: false, what });
    };
    addChoices("10", 1);
    if (each.generate > 0) addChoices("12", theirs.ids.length);
  }
  return checks;
}

/**
 * How close two logits must be for rounding to exchange them: twice as far as the logits of the passes that are shown lie apart. Each
 * operation before them is judged by itself, so that a fault does not hide behind what it does to them. Undefined where none are shown.
 */
function roundedTie(ours: ReferenceRun, theirs: ReferenceRun): number | undefined {
  const apart = theirs.passes.flatMap(({ step, start, tensors }) => {
    const own = ours.passes.find((pass) => pass.step === step)?.tensors.get("logits");
    const logits = tensors.get("logits");
    return own && logits ? [largestError("logits", own, logits, start)] : [];
  });
  return apart.length > 0 ? Math.max(TIE, 2 * Math.max(...apart)) : undefined;
}

/**
 * Whether the greedy choices are the same; a difference within a tie's margin is one, and said. Of a log of ids nobody knows by how much
 * its choice leads, but by how much ours does.
 */
function choicesAgree(
  ours: ReferenceRun,
  theirs: ReferenceRun,
  count: number,
  tie = TIE,
): [passed: boolean, what: string] {
  const ties: number[] = [];
  const ids = ours.ids.slice(0, count);
  for (const [step, id] of ids.entries()) {
    if (id === theirs.ids[step]) continue;
    const isTold = !Number.isNaN(theirs.margins[step]);
    const margin = (isTold ? theirs : ours).margins[step] ?? Infinity;
    if (margin < tie) ties.push(step);
    else {
      const lead = isTold ? ", which leads by" : ": here it leads by";
      const what = `choice ${step + 1} is ${id} instead of ${theirs.ids[step]}${lead}`;
      return [false, `${what} ${margin.toPrecision(3)}`];
    }
  }
  const within = tie > TIE ? ` (rounding moves logits by up to ${(tie / 2).toPrecision(2)})` : "";
  const said = ties.length > 0
    ? `, ties at ${ties.map((step) => step + 1).join(", ")}${within}`
    : "";
  return [true, `${ids.length} equal${said}`];
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

/** Checkpoint 12: a reference that ran fewer passes, or chose fewer ids, than it was asked for has not shown that it agrees. */
export function checkComplete(
  { name }: ParityCase,
  { steps, generate }: Pick<ReferenceRequest, "steps" | "generate">,
  { passes, ids }: ReferenceRun,
): ParityCheck[] {
  const lost = steps.filter((step) => !passes.some((pass) => pass.step === step));
  const what = lost.length > 0
    ? `the reference did not run step ${lost.join(", ")}`
    : ids.length <= generate
    ? `the reference chose ${ids.length} of ${generate + 1} ids`
    : undefined;
  if (what === undefined) return [];
  const found = { passed: false, what, cause: "absent", subject: "the reference" } as const;
  return [{ checkpoint: "12", case: name, ...found }];
}

/**
 * Token ids of a text, ours against the reference's.
 *
 * @param piece a token's text
 */
export function compareIds(
  { name }: Pick<ParityCase, "name">,
  ours: readonly number[],
  theirs: readonly number[],
  piece?: (id: number) => string,
): ParityCheck {
  const passed = `${ours}` === `${theirs}`;
  const what = passed ? `${ours.length} ids equal` : idsPart({ ours, theirs }, piece);
  return { checkpoint: "0", case: name, passed, ours, theirs, what };
}
