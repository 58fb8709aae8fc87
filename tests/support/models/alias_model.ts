import type { RandomLlamaOptions } from "./random_llama.ts";

/**
 * The model on which llama.cpp, Hugging Face and TransformerLens computed fixtures/aliases_*.json: grouped queries and biases
 * tell apart what a plain model would mix up.
 */
export const ALIAS_MODEL: RandomLlamaOptions = {
  layers: 2,
  width: 32,
  heads: 4,
  kvHeads: 2,
  ffnWidth: 48,
  vocab: 64,
  biases: true,
  ropeBase: 500,
  normEpsilon: 1e-3,
  seed: 21,
};

/** The prompt. */
export const ALIAS_IDS: readonly number[] = [1, 5, 9, 33, 60];
