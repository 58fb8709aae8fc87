/**
 * What is wrong with a file, without a reference: how well it foretells fixed texts, then the same with each known fault undone. A fault
 * is named when undoing it makes the file what a healthy one is, and nothing else does.
 */
import { tensorBytes } from "../../../engine/gguf/types.ts";
import type { Engine } from "../../../engine/backend.ts";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Alteration } from "../../files/altered_file.ts";
import { damagedBlocks } from "./damaged_blocks.ts";
import { layoutUndos } from "./layout_undos.ts";
import { areEqual, Bench, type Trial } from "./trials.ts";
import type { Undo } from "./undo.ts";
import { layerUndos, undosOf } from "./undos.ts";

export type { Trial } from "./trials.ts";

/** What raises the loss by a smaller share cannot be told. */
const UNDECIDABLE = 0.01;
/** How much less an undo may lower the loss than the best one of its cause, to be as good. */
const AS_GOOD = 0.04;
/** Bytes of tensors that an undo may put beside the file's: a device that has no room for them is lost. */
const MOST_BYTES = 4 * 2 ** 30;
/** Undos that mend nothing alone are tried together with each other one: so many of them. */
const MOST_FIRST = 2;

/** What a diagnosis found. */
export interface Diagnosis {
  /** Nats per token of the story, of the file as it is. */
  readonly loss: number;
  /** Whether the file as it is foretells the texts better than by chance. */
  readonly foretells: boolean;
  /** The undo that makes the file a healthy one; undefined where none does, or several that are not the same thing. */
  readonly found?: Trial;
  /** A second fault that is there besides, undone on top of the first. */
  readonly also?: Trial;
  /** Others of the same cause that mend it about as well. */
  readonly alternatives: readonly Trial[];
  /** Undos of different faults that mend it about equally, of which none is named. */
  readonly tied: readonly Trial[];
  /** Undos that lower the loss and leave what is no healthy model: they are not the cause. */
  readonly improved: readonly Trial[];
  /** All undos that were tried, the best first. */
  readonly trials: readonly Trial[];
  /** Undos that leave the loss about where it is: it cannot tell whether their faults are there. */
  readonly undecidable: readonly Trial[];
  /** Undos that take too much memory to be tried. */
  readonly untried: readonly Undo[];
}

/** How a diagnosis is made. */
export interface DiagnoseOptions {
  /** Undoes faults in each layer by itself too: slow. */
  readonly everyLayer?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

/**
 * Tries the known faults on a file.
 *
 * @param engine has the file's weights; they are used in place
 */
export async function diagnoseFile(
  file: GgufFile,
  engine: Engine,
  options: DiagnoseOptions = {},
): Promise<Diagnosis> {
  const { signal, onProgress, everyLayer } = options;
  const { config } = engine;
  onProgress?.(0, 1, "looking for damaged blocks of weights");
  const [damage, faults] = await allUndos(file, config, { everyLayer, signal });
  const tryable = faults.filter(isTryable);

  let done = 0;
  // Most of those that have to be plausible first are not.
  let total = damage.length + tryable.filter(({ isPlausible }) => !isPlausible).length + 1;
  const bench = new Bench(file, engine, signal, (what) => {
    onProgress?.(done++, total = Math.max(done, total), what);
  });
  // Damage shows in the weights too: where undoing it restores the loss there is no doubt, and nothing else is tried.
  let trials = await bench.tryOut(damage);
  if (!trials.some(mends)) trials = [...trials, ...await bench.tryOut(tryable)];
  // Numbers that are all wrong leave nothing of a model: this takes long, and is tried where nothing is left.
  if (!trials.some(mends) && !(await bench.plausibility()).isPlausible) {
    trials = [...trials, ...await bench.tryOut(layoutUndos(file).filter(isTryable))];
  }
  trials.sort((a, b) =>
    Number(isDismissed(a)) - Number(isDismissed(b)) || b.gain - a.gain ||
    (a.loss ?? 0) - (b.loss ?? 0)
  );

  // The best one that leaves a healthy model: where it only dampens what is wrong, the next best one does no more.
  const healthy = trials.find((each) => mends(each) || each.outcome === "dampens");
  const best = healthy && mends(healthy) ? healthy : undefined;
  const equal = best ? trials.filter((each) => isAsGood(each, best)) : [];
  const tied = equal.filter((each) => !isSameThing(each, best!));
  const pair = tied.length > 0 || healthy && !best ? undefined : await pairOf(bench, trials, best);
  const found = tied.length > 0 ? undefined : pair?.[0] ?? best;
  return {
    loss: await bench.loss(),
    foretells: await bench.foretells(),
    found,
    also: pair?.[1],
    alternatives: found && !pair ? equal : [],
    tied: tied.length > 0 ? [best!, ...equal] : [],
    improved: found
      ? []
      : trials.filter(({ outcome }) => outcome === "improves" || outcome === "dampens"),
    trials,
    undecidable: found || tied.length > 0
      ? []
      : trials.filter((each) =>
        !isDismissed(each) && each.outcome === "nothing" && each.gain > -UNDECIDABLE
      ),
    untried: faults.filter((undo) => !tryable.includes(undo)),
  };
}

/** What can be undone: damaged blocks of weights, as far as there are any, and the known faults. */
export async function allUndos(
  file: GgufFile,
  config: Config,
  { everyLayer, signal }: Pick<DiagnoseOptions, "everyLayer" | "signal">,
): Promise<[damage: readonly Undo[], faults: readonly Undo[]]> {
  const damage = await damagedBlocks(file, signal);
  const layers = everyLayer ? [...Array(config.layers).keys()] : [];
  return [damage, [
    ...undosOf(file, config),
    ...layers.flatMap((layer) => layerUndos(file, config, layer)),
  ]];
}

/**
 * Two faults that are there together: each one's undo lowers the loss with the other undone, and both make the file a healthy one. The
 * first of them alone may do so too.
 */
async function pairOf(
  bench: Bench,
  trials: readonly Trial[],
  best: Trial | undefined,
): Promise<[Trial, Trial] | undefined> {
  const firsts = best ? [best] : trials.filter(({ outcome }) => outcome === "improves");
  for (const first of firsts.slice(0, MOST_FIRST)) {
    const [second] = await bench.with(first, async (mended) => {
      const { file } = mended;
      const config = readConfig(file);
      const more = [
        ...undosOf(file, config),
        ...first.layer === undefined ? [] : layerUndos(file, config, first.layer),
      ].filter((undo) => isTryable(undo) && undo.cause !== first.cause);
      return (await mended.tryOut(more)).filter(mends).sort((a, b) => b.gain - a.gain);
    });
    if (second && await bench.needsBoth(second)) return [first, second];
  }
}

function isTryable({ alteration: { tensors } }: { readonly alteration: Alteration }): boolean {
  const bytes = [...tensors?.values() ?? []].map((each) => each ? tensorBytes(each) : 0);
  return bytes.reduce((sum, each) => sum + each, 0) <= MOST_BYTES;
}

function mends({ outcome }: Trial): boolean {
  return outcome === "mends";
}

function isDismissed({ loss }: Trial): boolean {
  return loss === undefined;
}

/** Whether an undo mends what the best one mends, about as well. */
function isAsGood(trial: Trial, best: Trial): boolean {
  const isHealthy = mends(trial) || trial.outcome === "dampens";
  if (trial === best || !isHealthy || best.certain) return false;
  return isSameThing(trial, best) ? trial.gain > best.gain - AS_GOOD : areEqual(best, trial);
}

/** Whether it is one fault, whichever of two undos is the better one: not so of two factors, or of two tensors that were confused. */
function isSameThing(a: Trial, b: Trial): boolean {
  const isOne = a.cause !== "scaled" && a.cause !== "other-tensor";
  return a.cause === b.cause && a.layer === b.layer && isOne;
}
