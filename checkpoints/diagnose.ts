/**
 * What is wrong with a file, without a reference: the loss of a fixed text, then each known fault undone. A fault that one undoes lowers
 * the loss as nothing else can.
 */
import type { Engine } from "../engine/backend.ts";
import { type Config, readConfig } from "../engine/config.ts";
import type { GgufFile } from "../engine/gguf/reader.ts";
import { logSumExp } from "../inspect/surprisals.ts";
import { type Alteration, alteredFile } from "./altered_file.ts";
import { damagedBlocks } from "./damaged_blocks.ts";
import type { Cause } from "./causes.ts";
import { type Undo, undosOf } from "./undo.ts";

/** A text that every language model of English foretells to some degree, simple enough for small ones, with repetitions. */
export const TEXT =
  "Once upon a time, in a small village, there lived a girl called Lily. She had a good friend, a boy called Tom. " +
  'One day, Lily and Tom went to the river. "Look, a red boat!" said Tom. "Look, a red boat!" said Lily. ' +
  "The boat was small and old, but it could still swim. Lily and Tom were very happy. In the evening, her mother " +
  'came and said, "Good night, Lily." "Good night, mother," said Lily.';

/** A fault undone, and what the text's loss is then. */
export interface Trial {
  readonly cause: Cause;
  readonly detail: string;
  /** Nats per token; NaN where the model makes no numbers. */
  readonly loss: number;
  readonly alteration: Alteration;
}

/** What a diagnosis found. */
export interface Diagnosis {
  /** Of the file as it is. */
  readonly loss: number;
  /** The undo that restores the loss; undefined where none does. */
  readonly found?: Trial;
  /** All undos, the best first. */
  readonly trials: readonly Trial[];
  /** Causes whose undoing leaves the loss where it is: it cannot tell whether they are there. */
  readonly undecidable: readonly Cause[];
}

/** How a diagnosis is made. */
export interface DiagnoseOptions {
  /** Loads a file onto a device; disposed by the diagnosis. */
  readonly load: (file: GgufFile, config: Config) => Promise<Engine>;
  /** Ids of a text by a file's tokenizer. */
  readonly tokenize: (file: GgufFile, text: string) => readonly number[];
  /** Undoes faults in each layer by itself too: slow. */
  readonly everyLayer?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

/** An undo counts when it lowers the loss by this share, by this much, and by this many standard errors over the tokens. */
const SHARE = 0.04;
const NATS = 0.1;
const DEVIATIONS = 1.5;
/** What changes the loss by less cannot be told. */
const UNDECIDABLE = 0.01;

/** Tries the known faults on a file. */
export async function diagnose(file: GgufFile, options: DiagnoseOptions): Promise<Diagnosis> {
  const config = readConfig(file);
  const own = await surprisals(file, options);
  const loss = mean(own);
  const undos: Undo[] = [
    ...await damagedBlocks(file),
    ...undosOf(file, config),
    ...(options.everyLayer
      ? [...Array(config.layers).keys()].flatMap((layer) =>
        undosOf(file, config, [layer]).map((undo) => ({
          ...undo,
          detail: `layer ${layer}: ${undo.detail}`,
        }))
      )
      : []),
  ];
  const trials: (Trial & { readonly restores: boolean })[] = [];
  for (const [i, { cause, detail, alteration }] of undos.entries()) {
    options.signal?.throwIfAborted();
    options.onProgress?.(i, undos.length, detail);
    const undone = await surprisals(alteredFile(file, alteration), options);
    const restores = isBetter(own, undone);
    trials.push({ cause, detail, alteration, loss: mean(undone), restores });
  }
  trials.sort((a, b) => order(a.loss) - order(b.loss));
  const found = trials.find(({ restores }) => restores);
  const undecidable = found ? [] : [
    ...new Set(
      trials.filter((each) => Math.abs(each.loss - loss) < UNDECIDABLE).map(({ cause }) => cause),
    ),
  ];
  return { loss, found, trials, undecidable };
}

/** NaN last. */
function order(loss: number): number {
  return Number.isNaN(loss) ? Infinity : loss;
}

/** −ln p of the text's tokens after the first, in nats. */
async function surprisals(file: GgufFile, options: DiagnoseOptions): Promise<Float64Array> {
  const config = readConfig(file);
  const ids = options.tokenize(file, TEXT);
  const engine = await options.load(file, config);
  const session = engine.session({ capacity: ids.length });
  try {
    const found = new Float64Array(ids.length - 1);
    for (let at = 0; at < ids.length; at += session.maxTokens) {
      const chunk = ids.slice(at, at + session.maxTokens);
      const tensors = await session.pass({ ids: chunk, rows: chunk.length, wanted: ["logits"] });
      const { data } = tensors.get("logits")!;
      for (let row = 0; row < chunk.length && at + row + 1 < ids.length; row++) {
        const logits = data.subarray(row * config.vocabSize, (row + 1) * config.vocabSize);
        found[at + row] = logSumExp(logits) - logits[ids[at + row + 1]];
      }
    }
    return found;
  } finally {
    session.dispose();
    engine.dispose();
  }
}

/** Whether a text is foretold better for sure: token by token from the end, since other ids may stand in front. */
function isBetter(before: Float64Array, after: Float64Array): boolean {
  if (after.some(Number.isNaN)) return false;
  if (before.some(Number.isNaN)) return true;
  const count = Math.min(before.length, after.length);
  const gains = before.slice(-count).map((value, i) => value - after.at(i - count)!);
  const gain = mean(gains);
  const deviation = Math.sqrt(mean(gains.map((each) => (each - gain) ** 2)) / count);
  return gain > SHARE * mean(before) && gain > NATS && gain > DEVIATIONS * deviation;
}

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
