/**
 * Figures of attention.
 *
 * @module
 */
export { generationAttention, type GenerationAttentionOptions } from "./generation.ts";
export { attentionLines, type AttentionLinesOptions } from "./lines.ts";
export { attentionMap, type AttentionMapOptions } from "./map.ts";
export { attentionOverview } from "./overview.ts";
export { headScores, type HeadScoresOptions } from "./scores.ts";
export type { AttentionKind, AttentionRowsOptions, AttentionSource } from "./source.ts";
