/**
 * Figures: functions from runs and tables to Plotly figures that show themselves.
 *
 * @module
 */
export * from "./attention/mod.ts";
export * from "./drawing/figure.ts";
export type { PackedNumbers } from "./drawing/numbers.ts";
export { tensorMap, type TensorMapOptions } from "./tensor_map.ts";
export { attributionBars, attributionMap } from "./attribution.ts";
export { generationComparison, generationErrors } from "./comparison/generation.ts";
export { benchRatios } from "./bench.ts";
export { bars, type BarsOptions, type NamedNumber } from "./drawing/bars.ts";
export { expertLoadMap, routingMap } from "./experts.ts";
export { histogram, type HistogramOptions } from "./histogram.ts";
export { logitLensLines, logitLensMap, type SequenceOption } from "./lens.ts";
export { neuronActivations } from "./neurons.ts";
export { patchingMap } from "./patching.ts";
export { residualNormLines, residualNormMap } from "./residual.ts";
export { weightSpectra } from "./spectrum.ts";
export { surprisalText } from "./surprisal.ts";
export { topTokens, type TopTokensOptions } from "./top_tokens.ts";
export { parityErrors, type ParityErrorsOptions } from "./comparison/errors.ts";
export { type PairedAxis, type PairedTensors, tensorPairMap } from "./comparison/tensor_pair.ts";
export { threeWayScatter } from "./comparison/three_way.ts";
export { quantizationDivergence } from "./quantization/divergence.ts";
export {
  quantizationErrorMap,
  quantizationLayerErrors,
  quantizationWeightErrors,
} from "./quantization/errors.ts";
export { layerSensitivityBars } from "./quantization/sensitivity.ts";
