/**
 * What is wrong with a file, without a reference: how well it foretells fixed texts, then the same with each known fault undone. A fault
 * that one undoes lowers the loss as nothing else can.
 */
import { tensorBytes } from "../../engine/gguf/types.ts";
import type { Engine } from "../../engine/backend.ts";
import { type Config, readConfig } from "../../engine/model/config.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { createTokenizer } from "../../text/mod.ts";
import { type Alteration, alteredFile } from "../files/altered_file.ts";
import { damagedBlocks } from "./damaged_blocks.ts";
import type { Cause } from "./causes.ts";
import { type Gain, gainOf, mean, type Text, type TextLosses, textLosses } from "./text_losses.ts";
import { layerUndos, type Undo, undosOf } from "./undo.ts";

/**
 * Words that repeat: after the first time round every language model can foretell them, whatever language or domain it was trained on.
 */
const WORDS: Text = ["dog tree box red water bird stone day king apple ".repeat(3).trim()];

/** The same, short: every undo runs on it. */
const FEW_WORDS: Text = ["dog tree box red water ".repeat(3).trim()];

/** What language models of English foretell to some degree, simple enough for small ones, and long enough for RoPE to matter. */
const STORY: Text = [
  "Once upon a time, in a small village, there lived a girl called Lily. She had a good friend, a boy called Tom. " +
  'One day, Lily and Tom went to the river. "Look, a red boat!" said Tom. "Look, a red boat!" said Lily. ' +
  "The boat was small and old, but it could still swim. Lily and Tom were very happy. In the evening, her mother " +
  'came and said, "Good night, Lily." "Good night, mother," said Lily.',
];

/** Beginnings: what stands before the first word matters in each of them. */
const BEGINNINGS: Text = [
  "Once there was a small dog who lived near the river.",
  "One day Tom and Lily went to the market.",
  "The old man had a red boat and a big house.",
  "It was a cold morning and the sun was not up.",
  "Her mother said that it was time to go home.",
  "There was a little bird in the tall tree.",
];

/** What undos are judged by. */
const TEXTS = [WORDS, STORY];

/** An undo counts when it lowers the loss of all texts by this share, and by this many standard errors over the tokens. */
const SHARE = 0.04;
const DEVIATIONS = 2.5;
/** No text's loss may rise by more than this share. */
const RISE = 0.01;
/** An undo must beat its control by this share. */
const OVER_CONTROL = 0.02;
/** What raises the loss by a smaller share cannot be told. */
const UNDECIDABLE = 0.01;
/** Undos that raise the loss of a few words by this share are dismissed. */
const DISMISSED = 0.1;
/** What changes the loss of a few words by no more than this share changes no loss. */
const UNCHANGED = 1e-4;
/** Most undos that go on to the texts. */
const FINALISTS = 6;
/** A model foretells texts when their loss is below this share of that of guessing. */
const FORETELLS = 0.75;
/** Bytes of tensors that an undo may put beside the file's: a device that has no room for them is lost. */
const MOST_BYTES = 4 * 2 ** 30;

/** A fault undone, and what came of it. */
export interface Trial {
  readonly cause: Cause;
  readonly detail: string;
  readonly alteration: Alteration;
  /** Nats per token of the story; NaN where the model makes no numbers, undefined where words alone dismissed the undo. */
  readonly loss?: number;
  /** By which share the loss of all texts is lower, at the best temperatures; −Infinity where there is no loss. */
  readonly gain: number;
}

/** What a diagnosis found. */
export interface Diagnosis {
  /** Nats per token of the story, of the file as it is. */
  readonly loss: number;
  /** Whether the file as it is foretells the texts better than by chance. */
  readonly foretells: boolean;
  /** The undo that restores the loss; undefined where none does. */
  readonly found?: Trial;
  /** Others that restore it about as well. */
  readonly alternatives: readonly Trial[];
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

/** An undo and whether it restores the loss. */
interface Judged extends Trial {
  readonly restores: boolean;
}

/** What the file as it is makes of a text. */
type Own = (text: Text) => Promise<TextLosses>;

/** What it makes of texts with something altered; of the first one alone where that says enough. */
type Attempt = (
  undo: Pick<Undo, "detail" | "alteration">,
  texts: readonly Text[],
  isEnough?: (first: TextLosses) => boolean,
) => Promise<TextLosses[]>;

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
  const tryable = faults.filter(({ alteration }) => memoryOf(alteration) <= MOST_BYTES);

  let done = 0;
  const attempt: Attempt = async ({ detail, alteration }, texts, isEnough) => {
    signal?.throwIfAborted();
    onProgress?.(done++, Math.max(done, damage.length + tryable.length + FINALISTS), detail);
    const altered = alteredFile(file, alteration);
    const variant = await engine.variant(altered, readConfig(altered), { signal });
    try {
      const tokenizer = createTokenizer(altered.metadata);
      const losses: TextLosses[] = [];
      for (const text of texts) {
        losses.push(await textLosses(variant, tokenizer, text, signal));
        if (losses.length === 1 && isEnough?.(losses[0])) break;
      }
      return losses;
    } finally {
      variant.dispose();
    }
  };
  const known = new Map<Text, TextLosses>();
  const own: Own = async (text) => {
    const losses = known.get(text) ??
      (await attempt({ detail: "the file as it is", alteration: {} }, [text]))[0];
    known.set(text, losses);
    return losses;
  };

  const trials: Judged[] = [];
  // Damage shows in the weights too: where undoing it restores the loss there is no doubt, and nothing else is tried.
  for (const undos of [damage, tryable]) {
    trials.push(...await tryOut(undos, config.vocabSize, own, attempt));
    if (trials.some(({ restores }) => restores)) break;
  }

  const isDismissed = ({ loss }: Trial) => loss === undefined;
  trials.sort((a, b) =>
    Number(isDismissed(a)) - Number(isDismissed(b)) || b.gain - a.gain ||
    (a.loss ?? 0) - (b.loss ?? 0)
  );
  const found = trials.find(({ restores }) => restores);
  const undecidable = trials.filter((each) => !isDismissed(each) && each.gain > -UNDECIDABLE);
  return {
    loss: (await own(STORY)).mean,
    foretells: foretells([await own(WORDS), await own(STORY)], config.vocabSize),
    found,
    alternatives: trials.filter((each) =>
      found && each !== found && each.restores && each.gain > found.gain - SHARE
    ),
    trials,
    undecidable: found ? [] : undecidable,
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

/** Tries undos: all on a few words, and the most promising ones on all texts. */
async function tryOut(
  undos: readonly Undo[],
  vocabSize: number,
  own: Own,
  attempt: Attempt,
): Promise<Judged[]> {
  const trials: { readonly undo: Undo; readonly gain: number }[] = [];
  for (const undo of undos) {
    const after = await attempt(undo, [FEW_WORDS]);
    trials.push({ undo, gain: gainOf([await own(FEW_WORDS)], after).share });
  }
  const finalists = trials
    .filter(({ undo: { certain, alteration }, gain }) =>
      certain || isOfTokenizer(alteration) || gain > -DISMISSED && Math.abs(gain) > UNCHANGED
    )
    .sort((a, b) => b.gain - a.gain)
    .slice(0, FINALISTS);
  const judged: Judged[] = [];
  for (const trial of trials) {
    const { undo, gain } = trial;
    const loss = Math.abs(gain) <= UNCHANGED ? (await own(STORY)).mean : undefined;
    judged.push(
      finalists.includes(trial)
        ? await judge(undo, vocabSize, own, attempt)
        : { ...undo, loss, gain, restores: false },
    );
  }
  return judged;
}

async function judge(
  undo: Undo,
  vocabSize: number,
  own: Own,
  attempt: Attempt,
): Promise<Judged> {
  const { cause, control, certain = false } = undo;
  // Where a text begins, the space in front of its first word matters more.
  const texts = cause === "space-prefix" ? [...TEXTS, BEGINNINGS] : TEXTS;
  const before: TextLosses[] = [];
  for (const text of texts) before.push(await own(text));
  const raises = (words: TextLosses) => gainOf(before.slice(0, 1), [words]).share < -RISE;
  const after = await attempt(undo, texts, (words) => !certain && raises(words));
  const gain = gainOf(before.slice(0, after.length), after);
  if (after.length < texts.length) return { ...undo, gain: gain.share, restores: false };
  let restores = certain || isRestored(gain) && foretells(after, vocabSize);
  if (restores && control) {
    const other = await attempt({ ...undo, alteration: control }, texts);
    restores = gainOf(other, after).share > OVER_CONTROL;
  }
  return { ...undo, loss: after[texts.indexOf(STORY)].mean, gain: gain.share, restores };
}

function memoryOf({ tensors }: Alteration): number {
  return [...tensors?.values() ?? []].reduce(
    (sum, each) => sum + (each ? tensorBytes(each) : 0),
    0,
  );
}

/** Whether only the ids of a text change. */
function isOfTokenizer({ metadata, tensors }: Alteration): boolean {
  return !tensors && [...metadata?.keys() ?? []].every((key) => key.startsWith("tokenizer."));
}

function isRestored({ share, deviations, texts }: Gain): boolean {
  return share > SHARE && deviations > DEVIATIONS && texts.every((each) => each > -RISE);
}

/** Whether texts are more to a model than noise. */
function foretells(losses: readonly TextLosses[], vocabSize: number): boolean {
  const tokens = losses.flatMap(({ tempered }) => tempered.flatMap((piece) => [...piece]));
  return mean(tokens) < FORETELLS * Math.log(vocabSize);
}
