/** Undos tried on a file: how well it foretells texts with each of them. */
import type { Engine } from "../../../engine/backend.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { createTokenizer, type Tokenizer } from "../../../text/mod.ts";
import { type Alteration, alteredFile } from "../../files/altered_file.ts";
import { foretells, type Plausibility, plausibility } from "./plausibility.ts";
import { type Gain, gainOf, type Text, type TextLosses, textLosses } from "./text_losses.ts";
import type { Undo } from "./undo.ts";

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

/** More, for what one layer does: one of many is not missed much. Small models know stories that say things again. */
const MORE: Text = [
  "Once upon a time, in a far away village, there lived a kind girl called Lily. Her good friend was Tom, a clever boy. Lily had a " +
  'green raven. The raven repeated everything that it heard. "Cheese, pillow, pillow," said Lily. "Cheese, pillow, pillow," said ' +
  'the raven. Tom did not believe it. It was the turn of Tom. "Stone, apple, apple," said Tom. "Stone, apple, apple," said the raven.',
  "One day, Tom lost his red ball. He was very sad. He looked in the garden, but the ball was not there. He looked in the kitchen, " +
  'but the ball was not there. "Where is my red ball?" said Tom. Then Lily came and said, "I know where your red ball is." The red ' +
  "ball was under the bed. Tom was happy again and gave Lily a big hug.",
  "Once there was a small dog who had a blue boat. The small dog loved the blue boat. One morning the wind was strong, and the blue " +
  'boat was gone. "Who took my blue boat?" said the dog. "The wind took it," said the bird. The dog and the bird went to the river. ' +
  "In the evening the dog found the blue boat near the old bridge, and the dog and the bird went home.",
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
/** Undos that raise the loss of a few words by this share are dismissed. */
const DISMISSED = 0.1;
/** What changes the loss of a few words by no more than this share changes no loss. */
const UNCHANGED = 1e-4;
/** Most undos that go on to the texts. */
const FINALISTS = 6;

/**
 * What comes of an undo: it mends the file; lowers the loss no more than what mends nothing; lowers it and leaves what is no healthy
 * model; or does not lower it.
 */
export type Outcome = "mends" | "dampens" | "improves" | "nothing";

/** A fault undone, and what came of it. */
export interface Trial extends Undo {
  /** Nats per token of the story; NaN where the model makes no numbers, undefined where words alone dismissed the undo. */
  readonly loss?: number;
  /** By which share the loss of all texts is lower, at the best temperatures; −Infinity where there is no loss. */
  readonly gain: number;
  readonly outcome: Outcome;
  /** Why what lowers the loss is not the cause. */
  readonly but?: string;
  /** Losses of the texts with it undone, as far as they were asked for. */
  readonly after?: readonly TextLosses[];
}

/** A file on a device to try undos on. */
export class Bench {
  readonly #known = new Map<Text, TextLosses>();
  #tokenizer: Tokenizer | undefined;
  readonly vocabSize: number;

  /** @param engine has the weights of the file; they are used in place */
  constructor(
    readonly file: GgufFile,
    readonly engine: Engine,
    readonly signal: AbortSignal | undefined,
    /** Called with what is tried next. */
    readonly say: (what: string) => void,
  ) {
    this.vocabSize = engine.config.vocabSize;
  }

  /** The same with an undo done, whose weights stay on the device as long as it is used. */
  async with<Result>(
    { alteration, after = [] }: Pick<Trial, "alteration" | "after">,
    use: (mended: Bench) => Promise<Result>,
  ): Promise<Result> {
    return await this.#altered(alteration, async (file, engine) => {
      const mended = new Bench(file, engine, this.signal, this.say);
      TEXTS.forEach((text, i) => after[i] && mended.#known.set(text, after[i]));
      return await use(mended);
    });
  }

  /** What the file makes of a text. */
  async own(text: Text): Promise<TextLosses> {
    const losses = this.#known.get(text) ??
      (await this.#attempt({ detail: "the file as it is", alteration: {} }, [text]))[0];
    this.#known.set(text, losses);
    return losses;
  }

  /** Nats per token of the story. */
  async loss(): Promise<number> {
    return (await this.own(STORY)).mean;
  }

  /** Whether the file foretells the texts better than by chance. */
  async foretells(): Promise<boolean> {
    return foretells([await this.own(WORDS), await this.own(STORY)], this.vocabSize);
  }

  /** How plausible the file is as it is. */
  async plausibility(): Promise<Plausibility> {
    return plausibility(await this.own(WORDS), this.vocabSize);
  }

  /** Tries undos: all on a few words, and the most promising ones on all texts. */
  async tryOut(undos: readonly Undo[]): Promise<Trial[]> {
    const trials: { readonly undo: Undo; readonly gain: number }[] = [];
    for (const undo of undos) {
      if (await undo.isPlausible?.() === false) {
        trials.push({ undo, gain: -Infinity });
        continue;
      }
      const after = await this.#attempt(undo, [FEW_WORDS]);
      trials.push({ undo, gain: gainOf([await this.own(FEW_WORDS)], after).share });
    }
    const finalists = trials
      .filter(({ undo: { certain, alteration }, gain }) =>
        certain || changesIds(alteration) || gain > -DISMISSED && Math.abs(gain) > UNCHANGED
      )
      .sort((a, b) => b.gain - a.gain)
      .slice(0, FINALISTS);
    const judged: Trial[] = [];
    for (const trial of trials) {
      const { undo, gain } = trial;
      const loss = Math.abs(gain) <= UNCHANGED ? await this.loss() : undefined;
      judged.push(
        finalists.includes(trial)
          ? await this.#judge(undo)
          : { ...undo, loss, gain, outcome: "nothing" },
      );
    }
    return judged;
  }

  async #judge(undo: Undo): Promise<Trial> {
    const { cause, control, certain = false } = undo;
    // Where a text begins, the space in front of its first word matters more.
    const texts = cause === "space-prefix" ? [...TEXTS, BEGINNINGS] : TEXTS;
    const before: TextLosses[] = [];
    for (const text of texts) before.push(await this.own(text));
    const raises = (words: TextLosses) => gainOf(before.slice(0, 1), [words]).share < -RISE;
    const after = await this.#attempt(undo, texts, (words) => !certain && raises(words));
    const gain = gainOf(before.slice(0, after.length), after);
    const trial: Trial = { ...undo, gain: gain.share, outcome: "nothing" };
    if (after.length < texts.length) return trial;
    const judged = { ...trial, after, loss: after[texts.indexOf(STORY)].mean };
    if (certain) return { ...judged, outcome: "mends" };
    if (!isRestored(gain)) return judged;
    const isHealthy = plausibility(after[texts.indexOf(WORDS)], this.vocabSize).isPlausible &&
      foretells(after, this.vocabSize);
    if (!isHealthy) {
      return { ...judged, outcome: "improves", but: "which is no healthy model's: not the cause" };
    }
    if (!control || await this.#beats(after, undo, control)) return { ...judged, outcome: "mends" };
    return {
      ...judged,
      outcome: "dampens",
      but: `but so does ${
        undo.layer === undefined ? "what mends nothing" : "leaving that part out"
      }: no cause is named`,
    };
  }

  /** Whether an undo does better than what mends nothing; where it is one of a single layer beyond chance, on more text. */
  async #beats(after: readonly TextLosses[], undo: Undo, control: Alteration): Promise<boolean> {
    const isOne = undo.layer !== undefined;
    const texts = isOne ? [...TEXTS, MORE] : TEXTS;
    const own = after.slice(0, TEXTS.length);
    if (isOne) own.push(...await this.#attempt(undo, [MORE]));
    const other = await this.#attempt({ ...undo, alteration: control }, texts);
    const { share, deviations } = gainOf(other, own);
    return share > OVER_CONTROL && (!isOne || deviations > DEVIATIONS);
  }

  /** Whether one undo is not enough: with the second one alone, which was found on top of it, the loss is higher than with both. */
  async needsBoth({ detail, alteration, after }: Trial): Promise<boolean> {
    const alone = await this.#attempt({ detail, alteration }, TEXTS);
    return isRestored(gainOf(alone, after!.slice(0, TEXTS.length)));
  }

  /** What the file makes of texts with something altered; of the first one alone where that says enough. */
  async #attempt(
    { detail, alteration }: Pick<Undo, "detail" | "alteration">,
    texts: readonly Text[],
    isEnough?: (first: TextLosses) => boolean,
  ): Promise<TextLosses[]> {
    this.signal?.throwIfAborted();
    this.say(detail);
    return await this.#altered(alteration, async (altered, variant) => {
      const isOwn = ![...alteration.metadata?.keys() ?? []].some(isOfTokenizer);
      const tokenizer = isOwn
        ? this.#tokenizer ??= createTokenizer(this.file.metadata)
        : createTokenizer(altered.metadata);
      const losses: TextLosses[] = [];
      for (const text of texts) {
        losses.push(await textLosses(variant, tokenizer, text, this.signal));
        if (losses.length === 1 && isEnough?.(losses[0])) break;
      }
      return losses;
    });
  }

  /** Uses the file with something altered, and an engine that has its weights. */
  async #altered<Result>(
    alteration: Alteration,
    use: (file: GgufFile, engine: Engine) => Promise<Result>,
  ): Promise<Result> {
    const { engine, signal } = this;
    const file = alteredFile(this.file, alteration);
    const variant = await engine.variant(file, readConfig(file), { signal });
    try {
      return await use(file, variant);
    } finally {
      variant.dispose();
    }
  }
}

/** Whether two undos restore the loss about equally: neither foretells the texts better than the other beyond chance. */
export function areEqual(a: Trial, b: Trial): boolean {
  const { share, deviations } = gainOf(
    a.after!.slice(0, TEXTS.length),
    b.after!.slice(0, TEXTS.length),
  );
  return Math.abs(share) < OVER_CONTROL || Math.abs(deviations) < DEVIATIONS;
}

/** Whether only the ids of a text change. */
function changesIds({ metadata, tensors }: Alteration): boolean {
  return !tensors && [...metadata?.keys() ?? []].every(isOfTokenizer);
}

function isOfTokenizer(key: string): boolean {
  return key.startsWith("tokenizer.");
}

function isRestored({ share, deviations, texts }: Gain): boolean {
  return share > SHARE && deviations > DEVIATIONS && texts.every((each) => each > -RISE);
}
