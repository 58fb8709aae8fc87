/**
 * What is wrong with a file, without a reference: how well it foretells fixed texts, then the same with each known fault undone. A fault
 * that one undoes lowers the loss as nothing else can.
 */
import type { Engine } from "../engine/backend.ts";
import { readConfig } from "../engine/config.ts";
import type { GgufFile } from "../engine/gguf/reader.ts";
import { createTokenizer } from "../text/mod.ts";
import { type Alteration, alteredFile } from "./altered_file.ts";
import { damagedBlocks } from "./damaged_blocks.ts";
import type { Cause } from "./causes.ts";
import { type Gain, gainOf, mean, type Text, type TextLosses, textLosses } from "./text_losses.ts";
import { layerUndos, type Undo, undosOf } from "./undo.ts";

/**
 * Words that repeat: after the first time round every language model can foretell them, whatever language or domain it was trained on.
 * Short, since every undo runs on them.
 */
export const WORDS: Text = ["dog tree box red water bird stone day king apple ".repeat(3).trim()];

/** What language models of English foretell to some degree, simple enough for small ones, and long enough for RoPE to matter. */
export const STORY: Text = [
  "Once upon a time, in a small village, there lived a girl called Lily. She had a good friend, a boy called Tom. " +
  'One day, Lily and Tom went to the river. "Look, a red boat!" said Tom. "Look, a red boat!" said Lily. ' +
  "The boat was small and old, but it could still swim. Lily and Tom were very happy. In the evening, her mother " +
  'came and said, "Good night, Lily." "Good night, mother," said Lily.',
];

/** Beginnings: what stands before the first word matters in each of them. */
export const BEGINNINGS: Text = [
  "Once there was a small dog who lived near the river.",
  "One day Tom and Lily went to the market.",
  "The old man had a red boat and a big house.",
  "It was a cold morning and the sun was not up.",
  "Her mother said that it was time to go home.",
  "There was a little bird in the tall tree.",
];

/** A fault undone, and what came of it. */
export interface Trial {
  readonly cause: Cause;
  readonly detail: string;
  readonly alteration: Alteration;
  /** Nats per token of the story; undefined where the words alone dismissed it, NaN where the model makes no numbers. */
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
  /** All undos, the best first. */
  readonly trials: readonly Trial[];
  /** Undos that leave the loss about where it is: it cannot tell whether their faults are there. */
  readonly undecidable: readonly Trial[];
}

/** How a diagnosis is made. */
export interface DiagnoseOptions {
  /** Undoes faults in each layer by itself too: slow. */
  readonly everyLayer?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

/** An undo counts when it lowers the loss of all texts by this share, and by this many standard errors over the tokens. */
const SHARE = 0.04;
const DEVIATIONS = 2.5;
/** No text's loss may rise by more than this share. */
const RISE = 0.01;
/** What changes the loss by a smaller share cannot be told. */
const UNDECIDABLE = 0.01;
/** Undos that raise the loss of the words by this share are dismissed. */
const DISMISSED = 0.03;
/** Most undos that go on to the story. */
const FINALISTS = 8;
/** A model foretells a text when its loss is below this share of that of guessing. */
const FORETELLS = 0.75;

/** Tries the known faults on a file; `engine` has its weights. */
export async function diagnose(
  file: GgufFile,
  engine: Engine,
  options: DiagnoseOptions = {},
): Promise<Diagnosis> {
  const { signal, onProgress, everyLayer } = options;
  const config = readConfig(file);
  onProgress?.(0, 1, "blocks of weights");
  const damaged = await damagedBlocks(file, signal);
  const certain = damaged.filter(({ certain }) => certain);
  const undos = certain.length > 0 ? certain : [
    ...damaged,
    ...undosOf(file, config),
    ...(everyLayer
      ? [...Array(config.layers).keys()].flatMap((layer) => layerUndos(file, config, layer))
      : []),
  ];
  let done = 0;
  let total = undos.length + FINALISTS;
  const run = async (what: string, alteration: Alteration, ...texts: Text[]) => {
    onProgress?.(done++, Math.max(done, total), what);
    return await lossesOf(file, engine, alteration, texts, signal);
  };

  const own = await run("the file as it is", {}, WORDS, STORY);
  const quick: { undo: Undo; words: TextLosses; gain: number }[] = [];
  for (const undo of undos) {
    const [words] = await run(undo.detail, undo.alteration, WORDS);
    quick.push({ undo, words, gain: gainOf([own[0]], [words]).share });
  }
  quick.sort((a, b) => b.gain - a.gain);
  const finalists = quick.filter(({ undo: { alteration, certain }, gain }) =>
    certain || gain > -DISMISSED || isOfTokenizer(alteration)
  ).slice(0, FINALISTS);
  total = done + finalists.length;

  const trials: Judged[] = [];
  let beginnings: TextLosses[] | undefined;
  for (const { undo, words } of finalists) {
    const { cause, detail, alteration, control } = undo;
    const texts = [STORY];
    const before = [...own];
    if (isOfTokenizer(alteration)) {
      beginnings ??= await run("beginnings of texts", {}, BEGINNINGS);
      texts.push(BEGINNINGS);
      before.push(...beginnings);
    }
    const after = [words, ...await run(detail, alteration, ...texts)];
    let gain = gainOf(before, after);
    if (control && isRestored(gain)) {
      gain = gainOf(await run(detail, control, WORDS, ...texts), after);
    }
    const restores = undo.certain ||
      isRestored(gain) && foretells(after, config.vocabSize);
    trials.push({ cause, detail, alteration, loss: after[1].mean, gain: gain.share, restores });
  }
  trials.sort((a, b) => b.gain - a.gain);
  const found = trials.find(({ restores }) => restores);
  const undecidable = trials.filter(({ gain, restores }) => !restores && gain > -UNDECIDABLE);
  const dismissed = quick.filter(({ undo }) => !finalists.some((each) => each.undo === undo));
  return {
    loss: own[1].mean,
    foretells: foretells(own, config.vocabSize),
    found,
    trials: [...trials, ...dismissed.map(({ undo, gain }) => ({ ...undo, gain }))],
    undecidable: found ? [] : undecidable,
  };
}

interface Judged extends Trial {
  readonly restores: boolean;
}

/** What a file makes of texts with something altered. */
async function lossesOf(
  file: GgufFile,
  engine: Engine,
  alteration: Alteration,
  texts: readonly Text[],
  signal?: AbortSignal,
): Promise<TextLosses[]> {
  signal?.throwIfAborted();
  const altered = alteredFile(file, alteration);
  const variant = await engine.variant(altered, readConfig(altered), { signal });
  try {
    const tokenizer = createTokenizer(altered.metadata);
    const losses: TextLosses[] = [];
    for (const text of texts) losses.push(await textLosses(variant, tokenizer, text, signal));
    return losses;
  } finally {
    variant.dispose();
  }
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
