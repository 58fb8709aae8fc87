/** Attention in 64-bit floats: who sees whom, how strongly, and what comes of it. */
import type { Block, Config } from "../model/config.ts";
import { dot } from "./math.ts";

/** How many heads of which width. */
export type Heads = Pick<Config, "heads" | "kvHeads" | "headWidth">;

/** What becomes of a product of query and key. */
export type Scoring = Pick<Config, "attentionScale" | "attentionCap" | "alibi">;

/** Whose keys a query sees. */
export type Sight = Pick<Block, "window" | "chunk">;

/**
 * Attention scores: q · k times the scale, then capped, then less what ALiBi takes for the distance; −∞ of keys that a query does not
 * see (arXiv 1706.03762; grouped queries, arXiv 2305.13245; cap, arXiv 2408.00118; ALiBi, arXiv 2108.12409).
 *
 * @param q [T, H, d]
 * @param keys [S, Hkv, d] of the positions from 0 on, of which the last T are the queries' own
 * @returns [H, T, S]
 */
export function attentionScores(
  q: Float64Array,
  keys: Float64Array,
  { heads, kvHeads, headWidth, attentionScale, attentionCap, alibi }: Heads & Scoring,
  sight: Sight,
): Float64Array {
  const T = q.length / (heads * headWidth);
  const S = keys.length / (kvHeads * headWidth);
  const scores = new Float64Array(heads * T * S).fill(-Infinity);
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    const slope = alibi === 0 ? 0 : alibiSlope(h, heads, alibi);
    for (let t = 0; t < T; t++) {
      const query = S - T + t; // the position
      for (let key = 0; key <= query; key++) {
        if (!sees(query, key, sight)) continue;
        const atQ = (t * heads + h) * headWidth;
        const atK = (key * kvHeads + kvHead) * headWidth;
        let score = attentionScale * dot(q, atQ, keys, atK, headWidth);
        if (attentionCap !== 0) score = attentionCap * Math.tanh(score / attentionCap);
        if (slope !== 0) score -= slope * (query - key);
        scores[(h * T + t) * S + key] = score;
      }
    }
  }
  return scores;
}

/**
 * Whether the query at a position sees the key at another: none that is later, in a window the last so many (arXiv 2310.06825), of
 * chunks its own (Llama 4; `llama_hparams::is_masked_swa`).
 */
export function sees(query: number, key: number, { window, chunk }: Sight): boolean {
  if (key > query) return false;
  if (window !== 0 && query - key >= window) return false;
  return chunk === 0 || Math.floor(query / chunk) === Math.floor(key / chunk);
}

/**
 * ALiBi's slope of a head, 2^(−largest · (head + 1) / n) for n heads, n being a power of two. Otherwise the heads beyond the greatest
 * power of two below take those of twice as many that lie between (section 3 of arXiv 2108.12409; `ggml_compute_forward_soft_max_f32`).
 *
 * @param head from 0 on
 * @param largest 8 in the paper
 */
export function alibiSlope(head: number, heads: number, largest: number): number {
  const power = 2 ** Math.floor(Math.log2(heads));
  return head < power
    ? 2 ** (-largest * (head + 1) / power)
    : 2 ** (-largest / 2 * (2 * (head - power) + 1) / power);
}

/**
 * Softmax of scores over the keys and one more, the head's sink, which takes its share and brings no value (gpt-oss; arXiv 2309.17453;
 * `ggml_soft_max_add_sinks`).
 *
 * @param scores [H, T, S], −∞ of keys that are not seen
 * @param sinks the score of each head's sink [H]
 * @returns [H, T, S]; rows sum to less than 1
 */
export function sinkSoftmax(scores: Float64Array, S: number, sinks: Float32Array): Float64Array {
  const probs = new Float64Array(scores.length);
  const perHead = scores.length / sinks.length;
  for (let row = 0; row < scores.length; row += S) {
    const sink = sinks[Math.floor(row / perHead)];
    const seen = scores.subarray(row, row + S);
    const max = seen.reduce((a, b) => Math.max(a, b), sink);
    const sum = seen.reduce((total, score) => total + Math.exp(score - max), Math.exp(sink - max));
    for (let i = 0; i < S; i++) probs[row + i] = Math.exp(seen[i] - max) / sum;
  }
  return probs;
}

/**
 * Each head's mix of values.
 *
 * @param probs [H, T, S]
 * @param values [S, Hkv, d]
 * @returns [T, H, d]
 */
export function mixValues(
  probs: Float64Array,
  values: Float64Array,
  { heads, kvHeads, headWidth }: Heads,
): Float64Array {
  const S = values.length / (kvHeads * headWidth);
  const T = probs.length / (heads * S);
  const mixed = new Float64Array(T * heads * headWidth);
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    for (let t = 0; t < T; t++) {
      const out = (t * heads + h) * headWidth;
      for (let s = 0; s < S; s++) {
        const prob = probs[(h * T + t) * S + s];
        const value = (s * kvHeads + kvHead) * headWidth;
        for (let i = 0; i < headWidth; i++) mixed[out + i] += prob * values[value + i];
      }
    }
  }
  return mixed;
}

/**
 * Queries that grow with their position: times 1 + scale · ln(1 + ⌊(position + offset) / period⌋) (`llm_graph_input_attn_temp`).
 *
 * @param q [T, H, d]
 * @param start position of the first
 * @param columns H · d
 */
export function scaleByPosition(
  q: Float64Array,
  start: number,
  columns: number,
  { scale, period, offset }: NonNullable<Config["queryScaling"]>,
): Float64Array {
  return q.map((value, i) => {
    const position = start + Math.floor(i / columns);
    return value * (1 + scale * Math.log(1 + Math.floor((position + offset) / period)));
  });
}
