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
import "./inspect/jupyter/setup.ts";

// Models
export { loadModel, Model, TokenError } from "./inspect/run/model.ts";
export type { LoadModelOptions, LoadPhase } from "./inspect/run/loading.ts";
export type { TuneMode } from "./engine/webgpu/tuning/tuning.ts";
export type {
  Activation,
  Block,
  BlockNorms,
  Config,
  Embedding,
  Experts,
  LongRope,
  QkNorm,
  Rope,
  RopeScaling,
  Xielu,
  Yarn,
} from "./engine/model/config.ts";
export type { ProcessorUse } from "./engine/backend.ts";
export { DeviceError, type DeviceInfo } from "./engine/webgpu/device.ts";
export { AdapterError } from "./engine/webgpu/check/adapter_check.ts";
export { DisposedError, type Owner } from "./engine/lifetime.ts";
export { GgufError, type GgufErrorFacts } from "./engine/gguf/error.ts";
export { ModelError, PullError, type PullFailure, UnknownModelError } from "./models/mod.ts";

// Text and tokens
export { type Prompt, PromptError } from "./inspect/run/prompt.ts";
export {
  type DecodeOptions,
  type EncodeOptions,
  type StreamOptions,
  type Tokenizer,
  TokenizerError,
  type TokenizerErrorFacts,
  type TokenStream,
} from "./text/mod.ts";

// Generation
export {
  type FinishReason,
  type GeneratedToken,
  type GenerateOptions,
  Generation,
  type GenerationTimings,
} from "./inspect/run/generation.ts";
export { LogitsError, SamplingOptionError, type SamplingOptions } from "./engine/sampling.ts";

// Runs and what they capture
export { CaptureLimitError, type CaptureOptions, type RunOptions } from "./inspect/run/runner.ts";
export {
  type Candidate,
  NotCapturedError,
  Run,
  type Sequence,
  SeveralPointsError,
} from "./inspect/run/run.ts";
export {
  type Axis,
  type Conversion,
  type Point,
  UnknownPointError,
} from "./inspect/points/points.ts";
export { type Extent, PositionError, type Positions } from "./inspect/run/positions.ts";
export type { Piece, PieceSink, SinkSource } from "./inspect/run/capture.ts";
export {
  type Labels,
  type Nested,
  TensorError,
  TensorView,
  type TopK,
  type ViewOptions,
} from "./inspect/tensor/tensor.ts";
export type { Layout } from "./inspect/tensor/layout.ts";

// Interventions
export {
  add,
  type Change,
  type ChangeFunction,
  type EditContext,
  type EditList,
  type Indices,
  meanAblate,
  patch,
  scale,
  type Where,
  zero,
} from "./inspect/run/interventions.ts";
export {
  type Edit,
  EditError,
  type EditRows,
  type FunctionEdit,
  type LinearEdit,
  type Selection,
} from "./engine/plan/edits.ts";

// Walking through a pass
export {
  type EditedValue,
  firstNaN,
  normAbove,
  type StepInfo,
  type StepInput,
  Stepper,
  StepperError,
  type StepperOptions,
  type StepsOptions,
  type StopCondition,
} from "./inspect/run/stepper.ts";

// Tables and files
export {
  ColumnError,
  type ColumnValues,
  type LongOptions,
  LongTableError,
  PieceError,
  type RowFilter,
  Table,
  tableColumns,
  type TableMeta,
  type TableValue,
  tableVectors,
  type TokenOf,
} from "./inspect/tables/mod.ts";
export type { Cell, Preview, PreviewColumn, Statistics } from "./inspect/tables/preview.ts";
export {
  readArrow,
  type TableFormat,
  writeTable,
  type WrittenFile,
} from "./inspect/tables/files.ts";
export { ArrowSink, type PointFile, type SinkOptions } from "./inspect/tables/sink.ts";
export { OutputError } from "./inspect/tables/output.ts";
export { ArrowFileError } from "./inspect/tables/stream_layout.ts";

// Analyses
export * from "./inspect/analyses/mod.ts";

// Figures
export * from "./inspect/figures/mod.ts";
export type {
  Axis as FigureAxis,
  FigurePart,
  FigureRefs,
  Frozen,
  Layout as FigureLayout,
  Series,
} from "./inspect/figures/drawing/figure.ts";

// Parity: comparing with other engines and files, and finding faults
export {
  type Divergence,
  parity,
  ParityReport,
  type ParityRequest,
} from "./checkpoints/comparisons/parity.ts";
export type { ComparisonOptions } from "./checkpoints/comparisons/setup.ts";
export type { ElementPlace } from "./checkpoints/parity/compare.ts";
export type {
  NamedTensor,
  OperationEvidence,
  OperationRecord,
  RopeFacts,
  Settings as OperationSettings,
  WeightRows,
} from "./checkpoints/parity/divergence/evidence.ts";
export type { Formula, Terms as FormulaTerms } from "./checkpoints/parity/divergence/formula.ts";
export type { Recomputed, Right } from "./checkpoints/parity/divergence/recompute.ts";
export {
  type PairAxis,
  type PairOptions,
  TensorPair,
  type Verdict,
} from "./checkpoints/parity/tensor_pair.ts";
export {
  referenceRun,
  type ReferenceRunOptions,
  threeWay,
  type ThreeWayOptions,
} from "./checkpoints/references/reference_run.ts";
export type { EngineOptions } from "./checkpoints/references/mod.ts";
export {
  pyTorchEnvironment,
  type PyTorchEnvironmentOptions,
} from "./checkpoints/references/pytorch/reference.ts";
export type {
  PythonEnvironment,
  Start,
} from "./checkpoints/references/processes/python_environment.ts";
export {
  type ActivationType,
  type Provenance,
  ReferenceFailure,
} from "./checkpoints/references/reference.ts";
export {
  diagnose,
  type DiagnoseRequest,
  DiagnosisReport,
  type FoundFault,
} from "./checkpoints/diagnosis/without_reference/report.ts";
export {
  breakModel,
  type BreakOptions,
  type BrokenCopy,
} from "./checkpoints/diagnosis/without_reference/broken_copy.ts";
export {
  QUANTIZATION_TYPES,
  type QuantizationType,
  quantizeModel,
  type QuantizeModelOptions,
} from "./checkpoints/quantization/quantize.ts";
export type { LadderOptions } from "./checkpoints/quantization/ladder_runs.ts";
export { QuantizationLadder, quantizationLadder } from "./checkpoints/quantization/ladder.ts";
export {
  layerSensitivity,
  type SensitivityOptions,
} from "./checkpoints/quantization/layer_sensitivity.ts";
export {
  ComparedGeneration,
  type ComparedToken,
  compareGeneration,
  type CompareGenerationOptions,
  type PointError,
} from "./checkpoints/comparisons/generation.ts";

// In a notebook: figures that are drawn over, text as it comes, Stop
export { Display, display } from "./inspect/jupyter/display.ts";
export { live, type Watched } from "./inspect/jupyter/live.ts";
export { Stopped, type WorkOptions } from "./inspect/work.ts";

// The engine below: passes on ids and buffers
export type { Engine, Session, SessionOptions, StepRun } from "./engine/backend.ts";
export type { PassRequest } from "./engine/pass_request.ts";
export type { HostTensor } from "./engine/host_tensor.ts";
export {
  type Branch,
  type BranchesRequest,
  canBranch,
  runBranches,
} from "./engine/plan/branches.ts";
export type { BranchSize } from "./engine/plan/passes/branch.ts";
export { CapacityError } from "./engine/model/capacity.ts";
export type { PassKind } from "./engine/plan/pass_size.ts";
export type { Dim, Lengths, Plan, Step, Value } from "./engine/plan/plan.ts";
export type { RopeBuilder } from "./engine/model/rope_table.ts";
export type { Computation, Constants, Dtype, Operation, Pass } from "./kernels/kernel.ts";
