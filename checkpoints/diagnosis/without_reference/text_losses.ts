/** How well a model foretells texts. */
import type { Engine } from "../../../engine/backend.ts";
import type { Tokenizer } from "../../../text/mod.ts";

/** What a model has to foretell: pieces, each of which stands at the beginning of a sequence. */
export type Text = readonly string[];

/** Tokens of a piece beyond these are left out: one pass. */
const LONGEST = 128;
/**
 * The temperatures that are tried are 4 / k for k from 1 to this. The exponentials of one are powers of those of the other: one
 * exponential per logit serves all.
 */
const TEMPERATURES = 6;
const COLDEST = 4;

/** −ln p of the tokens of a text but the first of each piece, in nats. */
export interface TextLosses {
  /** Nats per token, as the model has it. */
  readonly mean: number;
  /** Of each piece's tokens, as the model has it. */
  readonly plain: readonly Float64Array[];
  /**
   * Of each piece's tokens, at the temperature at which the model foretells the whole text best. A fault that makes a model less sure
   * of itself lowers the loss of a text that the model does not know; the best temperature takes this gain away.
   */
  readonly tempered: readonly Float64Array[];
}

/** Runs a text through a model. */
export async function textLosses(
  engine: Engine,
  tokenizer: Tokenizer,
  text: Text,
  signal?: AbortSignal,
): Promise<TextLosses> {
  const session = engine.session({ capacity: Math.min(LONGEST, engine.config.contextLength) });
  try {
    const pieces: Float64Array[][] = [];
    for (const piece of text) {
      signal?.throwIfAborted();
      const ids = tokenizer.encode(piece, { eos: false }).slice(0, session.maxTokens);
      // The first token of the text is foretold only where BOS stands before it: it does not count.
      const rows = ids.length - (tokenizer.addBos ? 1 : 0);
      session.rewind(0);
      const tensors = await session.pass({ ids, rows, wanted: ["logits"] });
      const { data } = tensors.get("logits")!;
      pieces.push(lossesOf(data, ids.slice(-rows), engine.config.vocabSize));
    }
    const means = Array.from(
      { length: TEMPERATURES },
      (_, k) => mean(pieces.flatMap((losses) => [...losses[k]])),
    );
    const best = means.indexOf(Math.min(...means));
    return {
      mean: means[COLDEST - 1],
      plain: pieces.map((losses) => losses[COLDEST - 1]),
      tempered: pieces.map((losses) => losses[Math.max(best, 0)]),
    };
  } finally {
    session.dispose();
  }
}

/** −ln p of the tokens after the first, at each of the temperatures. */
function lossesOf(logits: Float32Array, ids: readonly number[], vocab: number): Float64Array[] {
  const losses = Array.from({ length: TEMPERATURES }, () => new Float64Array(ids.length - 1));
  const sums = new Float64Array(TEMPERATURES);
  for (let row = 0; row + 1 < ids.length; row++) {
    const own = logits.subarray(row * vocab, (row + 1) * vocab);
    let largest = -Infinity;
    for (const logit of own) largest = Math.max(largest, logit);
    sums.fill(0);
    for (const logit of own) {
      const base = Math.exp((logit - largest) / COLDEST);
      let power = 1;
      for (let k = 0; k < TEMPERATURES; k++) sums[k] += power *= base;
    }
    for (let k = 0; k < TEMPERATURES; k++) {
      losses[k][row] = Math.log(sums[k]) - (own[ids[row + 1]] - largest) * (k + 1) / COLDEST;
    }
  }
  return losses;
}

/** The mean; NaN of nothing. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** How much better texts are foretold than before. */
export interface Gain {
  /** By which share the loss is lower. */
  readonly share: number;
  /** The gain in standard errors over the tokens. */
  readonly deviations: number;
  /** The share of each text. */
  readonly texts: readonly number[];
}

/** Compares losses of the same texts, token by token from the end of each piece: other tokens may stand in front. */
export function gainOf(before: readonly TextLosses[], after: readonly TextLosses[]): Gain {
  const pairs = before.map((text, i) =>
    text.tempered.flatMap((piece, j) => {
      const other = after[i].tempered[j];
      const count = Math.min(piece.length, other.length);
      const start = piece.length - count;
      return Array.from(
        { length: count },
        (_, at) => [piece[start + at], other[other.length - count + at]] as const,
      );
    })
  );
  const texts = pairs.map(shareOf);
  const all = pairs.flat();
  const gains = all.map(([one, other]) => one - other);
  const gain = mean(gains);
  const spread = Math.sqrt(mean(gains.map((each) => (each - gain) ** 2)) / gains.length);
  // A model that makes no numbers is beaten by every one that does.
  const deviations = Number.isNaN(gain) ? texts[0] : gain / (spread || Infinity);
  return { share: shareOf(all), deviations, texts };
}

function shareOf(pairs: readonly (readonly [before: number, after: number])[]): number {
  const before = mean(pairs.map(([one]) => one));
  const after = mean(pairs.map(([, other]) => other));
  if (Number.isNaN(after)) return -Infinity;
  return Number.isNaN(before) ? Infinity : (before - after) / before;
}
