/**
 * Analyses: small functions that turn runs into Arrow tables.
 *
 * @module
 */
export { attentionStatistics } from "./attention.ts";
export { type AttributionOptions, directLogitAttribution } from "./direct_logit_attribution.ts";
export { type InductionOptions, inductionScores, repeatedRandomTokens } from "./induction.ts";
export { type LensOptions, logitLens, tokenProbabilities } from "./logit_lens.ts";
export { type NearestOptions, nearestTokens } from "./nearest_tokens.ts";
export { type Neuron, neuronDirection, neuronTokens, topNeurons } from "./neurons.ts";
export {
  type CleanAndCorrupted,
  type Metric,
  patchingSweep,
  type PatchingSweepOptions,
} from "./patching_sweep.ts";
export { residualNorms } from "./residual_norms.ts";
export { expertLoads, routing } from "./routing.ts";
export type { Subject } from "./analysis_table.ts";
export { type SpectrumOptions, weightSpectrum } from "./weight_spectrum.ts";
export { surprisal } from "./surprisal.ts";
export type { TokenName } from "./tokens.ts";
