/**
 * Lamina opens a Llama up: GGUF models on WebGPU, every tensor of the forward pass in sight.
 *
 * - {@linkcode loadModel} loads a model by name or path.
 * - {@linkcode Model.generate} writes text; {@linkcode Model.run} runs a prompt and keeps the tensors that are named;
 *   {@linkcode Model.stepper} walks through the pass.
 * - {@linkcode Run.table} gives Apache Arrow tables, {@linkcode Run.tensor} small views for recomputations.
 * - {@linkcode zero}, {@linkcode scale}, {@linkcode add}, {@linkcode patch} and {@linkcode meanAblate} change values on the way.
 * - The analyses ({@linkcode logitLens}, {@linkcode directLogitAttribution}, {@linkcode patchingSweep}, …) turn runs into tables.
 *
 * @example
 * ```ts
 * import { loadModel, zero } from "./mod.ts";
 *
 * using model = await loadModel("tiny");
 * const run = await model.run("Once upon a time", { capture: ["blk.*.attn_probs", "blk.*.out"] });
 * console.log(run.table("blk.3.attn_probs"));
 * console.log(run.tensor("blk.3.attn_probs").at({ head: 2, query: -1 }).toArray());
 * console.log(run.top(5), run.loss());
 *
 * for await (
 *   const { text } of model.generate("Once upon a time", {
 *     maxTokens: 20,
 *     edit: [["blk.3.head_out", zero({ head: 2 })]],
 *   })
 * ) console.log(text);
 * ```
 *
 * @module
 */
export { DisposedError, loadModel, Model, TokenError } from "./inspect/model.ts";
export type { LoadModelOptions, LoadPhase } from "./inspect/loading.ts";
export type { CaptureOptions, RunOptions } from "./inspect/runner.ts";
export { CaptureLimitError } from "./inspect/runner.ts";
export {
  type Candidate,
  NotCapturedError,
  Run,
  type Sequence,
  SeveralPointsError,
} from "./inspect/run.ts";
export type { Piece, PieceSink, SinkSource } from "./inspect/capture.ts";
export {
  type FinishReason,
  type GeneratedToken,
  type GenerateOptions,
  Generation,
  type GenerationTimings,
} from "./inspect/generation.ts";
export { type Prompt, PromptError } from "./inspect/prompt.ts";
export { type Extent, PositionError, type Positions } from "./inspect/positions.ts";
export {
  add,
  type Change,
  type ChangeFunction,
  type EditList,
  meanAblate,
  patch,
  scale,
  type Where,
  zero,
} from "./inspect/interventions.ts";
export {
  firstNaN,
  normAbove,
  type StepInfo,
  Stepper,
  StepperError,
  type StepperOptions,
  type StepsOptions,
  type StopCondition,
} from "./inspect/stepper.ts";
export { type Axis, type Point, UnknownPointError } from "./inspect/points.ts";
export { TensorError, TensorView, type TopK } from "./inspect/tensor.ts";
export { Table, tableColumns, tableVectors } from "./inspect/tables.ts";
export { readArrow, type TableFormat, writeTable } from "./inspect/tables/files.ts";
export { ArrowSink, type PointFile, type SinkOptions } from "./inspect/tables/sink.ts";
export * from "./inspect/analyses/mod.ts";
export type { SamplerOptions } from "./engine/sampler.ts";
export type { Config } from "./engine/config.ts";
export { EditError } from "./engine/edits.ts";
export type { DeviceInfo } from "./engine/webgpu/device.ts";
export { DeviceError } from "./engine/webgpu/device.ts";
export { GgufError } from "./engine/gguf/error.ts";
export { TokenizerError } from "./text/mod.ts";
export { ModelError, PullError, UnknownModelError } from "./models/mod.ts";
