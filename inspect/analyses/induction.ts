/** Which heads continue what was there before: induction scores on random tokens, repeated once. */
import { uniform } from "../../kernels/sampling/random.ts";
import { TokenType } from "../../text/tokenizer/special.ts";
import type { Table } from "../tables/arrow.ts";
import type { Model } from "../run/model.ts";
import { hasVocabulary } from "../run/vocabulary.ts";
import { longWork } from "../work.ts";
import { meanOverQueries } from "./attention.ts";
import { analysisTable, type Row } from "./analysis_table.ts";

/** What {@linkcode inductionScores} is asked for. */
export interface InductionOptions {
  /** Random tokens before they are repeated; 50, or what the model's context holds. */
  readonly length?: number;
  /** One sequence each; the scores are means over them. Default: 0, 1, 2, 3. */
  readonly seeds?: readonly number[];
  /** Ends the analysis, in the middle of a pass too; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Sequences that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

const SCHEMA = {
  layer: "int32",
  head: "int32",
  induction: "float64",
  previous_token: "float64",
} as const;

/**
 * Scores of each head on [BOS,] r₁ … rₙ, r₁ … rₙ with different random tokens: `induction` is the mean attention of the second
 * rᵢ to what followed the first rᵢ, n − 1 positions back (Olsson et al., "In-context learning and induction heads", 2022, as
 * TransformerLens takes it: the diagonal of the pattern at 1 − n); `previous_token` that of all but the first position to the
 * one before.
 *
 * @throws {RangeError} for a length that the context or the vocabulary does not hold
 */
export async function inductionScores(
  model: Model,
  options: InductionOptions = {},
): Promise<Table> {
  return await longWork(
    "Running repeated random tokens",
    options,
    (options) => scores(model, options),
  );
}

async function scores(model: Model, options: InductionOptions): Promise<Table> {
  const { layers, heads } = model.config;
  const { seeds = [0, 1, 2, 3], signal, onProgress } = options;
  const rows: { -readonly [Column in keyof Row<typeof SCHEMA>]: number }[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      rows.push({ layer, head, induction: 0, previous_token: 0 });
    }
  }
  const length = options.length ?? Math.min(50, Math.floor((model.config.contextLength - 1) / 2));
  for (const [done, seed] of seeds.entries()) {
    const ids = repeatedRandomTokens(model, { length, seed });
    const run = await model.run([ids], { capture: ["blk.*.attn_probs"], signal });
    const second = ids.length - length;
    for (const row of rows) {
      const pieces = run.pieces(`blk.${row.layer}.attn_probs`);
      const attention = (back: number, from: number) =>
        meanOverQueries(pieces, row.head, (probs, query) => probs[query - back], from)!;
      row.induction += attention(length - 1, second) / seeds.length;
      row.previous_token += attention(1, 1) / seeds.length;
    }
    onProgress?.(done + 1, seeds.length);
  }
  return analysisTable("induction_scores", SCHEMA, rows, {
    meaning: "what each head looks at in random tokens that are repeated",
    model: model.name,
    length,
    seeds: seeds.join(" "),
  });
}

/**
 * Ids [BOS,] r₁ … rₙ, r₁ … rₙ: n different ordinary tokens twice, BOS where the file asks for it.
 *
 * @throws {RangeError} for a length that the context or the vocabulary does not hold
 */
export function repeatedRandomTokens(
  model: Model,
  options: { readonly length: number; readonly seed?: number },
): number[] {
  const { length, seed = 0 } = options;
  const ids = ordinaryTokens(model);
  const start = beginning(model);
  const room = Math.floor((model.config.contextLength - start.length) / 2);
  const most = Math.min(ids.length, room);
  if (!Number.isInteger(length) || length < 2 || length > most) {
    throw new RangeError(
      `Cannot repeat ${length} random tokens: this model takes from 2 to ${most}`,
    );
  }
  // The first steps of a shuffle: no token twice, so that only one place is the right one.
  for (let i = 0; i < length; i++) {
    const other = i + Math.floor(uniform(seed, i) * (ids.length - i));
    [ids[i], ids[other]] = [ids[other], ids[i]];
  }
  const chosen = ids.slice(0, length);
  return [...start, ...chosen, ...chosen];
}

/** Tokens that are text: no control tokens, no single bytes. */
function ordinaryTokens(model: Model): number[] {
  const types = model.metadata.get("tokenizer.ggml.token_type") as ArrayLike<number> | undefined;
  return Array.from({ length: model.config.vocabSize }, (_, id) => id)
    .filter((id) => !types || types[id] === TokenType.normal);
}

function beginning(model: Model): number[] {
  if (!hasVocabulary(model)) return [];
  const { addBos, bos } = model.tokenizer;
  return addBos && bos !== undefined ? [bos] : [];
}
