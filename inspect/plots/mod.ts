/**
 * Figures: functions from runs and tables to Plotly figures that show themselves.
 *
 * @module
 */
export * from "./attention/mod.ts";
export * from "./figure.ts";
export { tensorMap, type TensorMapOptions } from "./tensor.ts";
export { attributionBars, attributionMap } from "./attribution.ts";
export { generationComparison, generationErrors } from "./beside.ts";
export { benchRatios } from "./bench.ts";
export { bars, type BarsOptions, type NamedNumber } from "./bars.ts";
export { histogram, type HistogramOptions } from "./histogram.ts";
export { logitLensLines, logitLensMap, type SequenceOption } from "./lens.ts";
export { neuronActivations } from "./neurons.ts";
export { patchingMap } from "./patching.ts";
export { residualNormLines, residualNormMap } from "./residual.ts";
export { weightSpectra } from "./spectrum.ts";
export { surprisalText } from "./surprisal.ts";
export { topTokens, type TopTokensOptions } from "./top.ts";
export { parityErrors, type ParityErrorsOptions } from "./parity.ts";
export { type PairedAxis, type PairedTensors, tensorPairMap } from "./tensor_pair.ts";
export { threeWayScatter } from "./three_way.ts";
export { quantizationDivergence } from "./quantization.ts";
export {
  quantizationErrorMap,
  quantizationLayerErrors,
  quantizationWeightErrors,
} from "./quantization_errors.ts";
export { layerSensitivityBars } from "./sensitivity.ts";
