/** Attention that sees other keys than it should. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import { floored, made, masked, sees } from "./mistakes.ts";
import type { Making, Place } from "../../engines/engine_mistakes.ts";

const isCausal = ({ query, key }: Place) => key <= query;
const inWindow = (width: number) => ({ query, key }: Place) => key <= query && key > query - width;
const isNoPadding = ({ query, key }: Place) => key <= query && !(key >= 10 && key < 13);
const hasFirst = ({ query, key }: Place) => key <= query && (key > 0 || query === 0);

const PROBABILITIES = seen("4", "attn_probs", "mask");
const SCORES = seen("4", "attn_scores", "mask");

/** Softmax over all keys, then the mask. */
function maskedLate(scores: Float32Array, { start, count }: Making): Float32Array {
  const slots = start + count;
  return scores.map((score, i) => {
    const row = i - i % slots;
    if (i - row > start + row / slots % count) return 0;
    let sum = 0;
    for (let key = 0; key < slots; key++) sum += Math.exp(scores[row + key] - score);
    return 1 / sum;
  });
}

export const MASKS: Faults<EngineFault> = {
  "each query sees the next key": {
    make: () => sees(({ query, key }) => key <= query + 1),
    ...PROBABILITIES,
  },
  "each query sees all keys": { make: () => sees(() => true), ...PROBABILITIES },
  "each query sees the next key, scores not shown": {
    hides: /^attn_scores$/,
    make: () => sees(({ query, key }) => key <= query + 1),
    ...PROBABILITIES,
  },
  "no query but the first sees itself": {
    make: () => sees(({ query, key }) => key < query || query === 0),
    ...PROBABILITIES,
  },
  "no query but the first sees itself, scores not shown": {
    hides: /^attn_scores$/,
    on: ["random"],
    make: () => sees(({ query, key }) => key < query || query === 0),
    ...PROBABILITIES,
  },
  "a window of 8": { make: () => sees(inWindow(8)), ...PROBABILITIES, detail: /\b8\b/ },
  "a window of 24, scores not shown": {
    hides: /^attn_scores$/,
    make: () => sees(inWindow(24)),
    ...PROBABILITIES,
    detail: /\b24\b/,
  },
  "a window of 8 in the mask that scores show": {
    make: ({ shape }) => floored(shape, (score, place) => inWindow(8)(place) ? score : -Infinity),
    ...SCORES,
    detail: /\b8\b/,
  },
  "a window of 8 within attention that shows neither scores nor probabilities": {
    hides: /^attn_(scores|probs)$/,
    make: () => sees(inWindow(8)),
    ...seen("5", "head_out", "mask"),
  },
  "attention in chunks of 16": {
    make: () =>
      sees(({ query, key }) => key <= query && Math.floor(key / 16) === Math.floor(query / 16)),
    ...PROBABILITIES,
  },
  "the first key is not seen": { make: () => sees(hasFirst), ...PROBABILITIES },
  "the first key is not seen, scores not shown": {
    hides: /^attn_scores$/,
    make: () => sees(hasFirst),
    ...PROBABILITIES,
  },
  "four keys at the left are taken for padding": {
    make: () => sees(({ query, key }) => key <= query && (key >= 4 || key === query)),
    ...PROBABILITIES,
  },
  "three keys in the middle are taken for padding": {
    make: () => sees((place) => isNoPadding(place) || place.key === place.query),
    ...PROBABILITIES,
  },
  "three keys in the middle are taken for padding, scores not shown": {
    hides: /^attn_scores$/,
    on: ["random"],
    make: () => sees((place) => isNoPadding(place) || place.key === place.query),
    ...PROBABILITIES,
  },
  "the first eight tokens see each other, as a prefix does": {
    make: () => sees(({ query, key }) => key <= query || query < 8 && key < 8),
    ...PROBABILITIES,
  },
  "the mask is transposed": {
    make: () => sees(({ query, key, start }) => start > 0 ? key <= query : key >= query),
    ...PROBABILITIES,
  },
  "a packed sequence: nothing before position 20 is seen after it": {
    make: () => sees(({ query, key }) => key <= query && (key >= 20 || query < 20)),
    ...PROBABILITIES,
  },
  "one head has no mask": {
    make: ({ shape: { heads }, draw }) => {
      const wrong = draw.integer(0, heads);
      return sees(({ head, query, key }) => head === wrong || key <= query);
    },
    ...PROBABILITIES,
  },
  "while decoding the newest key is not seen": {
    make: () => sees(({ query, key, start }) => start > 0 ? key < query : key <= query),
    ...PROBABILITIES,
    step: 1,
  },
  "while decoding only the newest key is seen": {
    make: () => sees(({ query, key, start }) => start > 0 ? key === query : key <= query),
    ...PROBABILITIES,
    step: 1,
  },
  "while decoding the first key is not seen": {
    make: () => sees((place) => place.start > 0 ? hasFirst(place) : isCausal(place)),
    ...PROBABILITIES,
    step: 1,
  },
  "the last prompt token's key is not seen later": {
    make: () => sees(({ query, key, start }) => key <= query && (start === 0 || key !== 49)),
    ...PROBABILITIES,
    step: 1,
  },
  "a floor of -10000 at the first key": {
    make: ({ shape }) =>
      floored(shape, (score, { query, key }) => key === 0 && query > 0 ? -1e4 : score),
    ...SCORES,
  },
  "a floor of -65504 at padding that is none": {
    make: ({ shape }) =>
      floored(shape, (score, { query, key }) => key >= 5 && key < 8 && query > 8 ? -65504 : score),
    ...SCORES,
  },
  "minus infinity at each query's own key": {
    make: ({ shape }) =>
      floored(
        shape,
        (score, { query, key }) => key > query || key === query && query > 0 ? -Infinity : score,
      ),
    ...SCORES,
  },
  "the smallest 32-bit float at every third key": {
    on: ["random"],
    make: ({ shape }) =>
      floored(
        shape,
        (score, { query, key }) =>
          key > query || key % 3 === 1 && key < query ? -3.4028234663852886e38 : score,
      ),
    ...seen("4", "attn_scores", "mask"),
  },
  "the mask takes 5 from keys that should not be seen": {
    make: ({ shape }) => ({
      ...floored(shape, (score, { query, key }) => key > query ? score - 5 : score),
      ...sees(() => true),
    }),
    ...PROBABILITIES,
  },
  "keys are masked after the softmax": {
    make: () => made("attn_probs", (_, pass) => maskedLate(pass.of("attn_scores"), pass)),
    ...PROBABILITIES,
  },
  "keys are masked after the softmax, scores not shown": {
    hides: /^attn_scores$/,
    on: ["random"],
    make: () => made("attn_probs", (_, pass) => maskedLate(pass.of("attn_scores"), pass)),
    ...PROBABILITIES,
  },
  "distance makes scores smaller, as ALiBi does": {
    make: ({ shape }) => ({
      ...floored(
        shape,
        (score, { head, query, key }) =>
          score - (query - key) * 2 ** -(8 * (head + 1) / shape.heads),
      ),
    }),
    ...seen("4", "attn_scores", "unknown"),
  },
  "a sink takes its share of each row": {
    make: ({ shape }) => ({
      ...masked(shape),
      ...made("attn_probs", (x) => x.map((p) => p * 0.75)),
    }),
    // All visible probabilities are the right ones times one factor.
    ...seen("4", "attn_probs", "scaled"),
  },
};
