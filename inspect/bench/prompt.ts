import type { Model } from "../run/model.ts";

/** Ids for a prompt: which ones does not matter for the time that they take. */
export function benchPrompt({ config }: Model, tokens: number, shift = 0): number[] {
  return Array.from({ length: tokens }, (_, i) => (i * 7919 + 101 + shift) % config.vocabSize);
}
