/**
 * Figures: functions from runs and tables to Plotly figures that show themselves.
 *
 * @module
 */
export * from "./attention/mod.ts";
export * from "./figure.ts";
export { tensorMap, type TensorMapOptions } from "./tensor.ts";
