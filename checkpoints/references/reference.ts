/** What a reference is: another engine, or a folder of its tensors, that yields named tensors of the passes over some ids. */
import { kindOf } from "../../base/layer_names.ts";
import type { RopeBuilder } from "../../engine/model/rope_table.ts";
import type { Candidates, SamplingOptions } from "../../engine/sampling.ts";
import type { ChatMessage } from "../../text/mod.ts";
import { largest } from "../../inspect/analyses/numbers.ts";

export type { Candidates };

/** Where a reference's numbers come from: what a proof bundle and a table's metadata say about them. */
export interface Provenance {
  /** `llama.cpp`, `PyTorch`, `oracle`, `Lamina`, … */
  readonly name: string;
  /** Of the engine that computes: `v0.5.0 (@node-llama-cpp/linux-x64 3.22.1)`. */
  readonly version: string;
  /** Where it runs: `CPU`. */
  readonly device: string;
  /** Which weights it runs on: `F32 copy of tiny.gguf`. */
  readonly weights: string;
  /** How it builds RoPE's angles; comparisons with it build theirs alike. */
  readonly rope: RopeBuilder;
  /** Type of its activations, which sets how far off its results may be; default `f32`. */
  readonly activations?: ActivationType;
  /** Kinds of points that it makes with 16-bit floats all the same: `ffn_act`. */
  readonly halves?: readonly string[];
}

/** What an engine's numbers of a point are like. */
export function activationsOf(
  point: string,
  { activations, halves = [] }: Pick<Provenance, "activations" | "halves">,
): ActivationType | undefined {
  return halves.includes(kindOf(point)) && (activations ?? "f32") === "f32" ? "f16" : activations;
}

/** Types of activations that an engine may compute with: `q8` rounds them to 8 bits before each product. */
export type ActivationType = "f32" | "f16" | "bf16" | "q8";

/** A tensor of a pass. */
export interface ReferenceTensor {
  /** As our point has it: [T, D], [T, H, d], [H, T, S] (hidden keys hold anything), [S, Hkv, d]. Heads in the file's row order. */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array | Float64Array;
  /** Absolute positions of its rows (attention: queries), where not all of the pass are there. */
  readonly positions?: readonly number[];
}

/** One pass of a reference. */
export interface ReferencePass {
  /** 0 for the prompt, n for the pass that ran the n-th generated token. */
  readonly step: number;
  /** Absolute position of its first row. */
  readonly start: number;
  /** The ids that it ran. */
  readonly ids: readonly number[];
  /** By canonical point. What the reference does not show is not there. */
  readonly tensors: ReadonlyMap<string, ReferenceTensor>;
  /** Keys and values of the positions before it, as the passes before it left them, by cache: [start, Hkv, d]. Whoever compares adds them. */
  readonly before?: ReadonlyMap<string, Float32Array>;
}

/** What a reference shall run. */
export interface ReferenceRequest {
  /** The prompt's ids. */
  readonly ids: readonly number[];
  /** How many tokens to generate greedily and to run; 0 for the prompt alone. */
  readonly generate: number;
  /** Ids that are run instead of its own choices, as far as they go: so that two engines stay together past a tie. */
  readonly forced?: readonly number[];
  /** Which passes' tensors are wanted: 0 the prompt, n the n-th generated token. */
  readonly steps: readonly number[];
  /** Canonical points that are wanted. */
  readonly points: readonly string[];
  /** Positions that there is room for, which LongRoPE's factors depend on; prompt and generated tokens without it. */
  readonly capacity?: number;
  readonly signal?: AbortSignal;
}

/** What a reference ran. */
export interface ReferenceRun {
  /** The passes whose tensors were wanted, in order. */
  readonly passes: readonly ReferencePass[];
  /** Its own greedy choices after each pass: `generate + 1` of them, whatever ids were forced; none where it shows no logits. */
  readonly ids: readonly number[];
  /** Best minus second-best logit of each choice. */
  readonly margins: readonly number[];
}

/** The greedy choice from logits [V], and by how much it leads: of equal ones the lowest id; NaN is never the largest. */
export function greedyChoice(logits: ArrayLike<number>): { id: number; margin: number } {
  const [id, second] = largest(logits, 2);
  return { id, margin: logits[id] - logits[second] };
}

/** What a sequence needs that is run pass by pass. */
export interface FollowRequest {
  /** Canonical points that are wanted of every pass. */
  readonly points: readonly string[];
  /** Positions of the longest pass. */
  readonly longestPass: number;
  /** Positions in all. */
  readonly positions: number;
  readonly signal?: AbortSignal;
}

/** What a pass made. */
export interface FollowedPass {
  /** Of the last position: [V]. */
  readonly logits: Float32Array;
  /** By canonical point. What the reference does not show is not there. */
  readonly tensors: ReadonlyMap<string, ReferenceTensor>;
}

/** A sequence that grows as its ids become known; it keeps its cache. */
export interface Follower extends AsyncDisposable {
  /**
   * Runs the next positions.
   *
   * @throws {ReferenceFailure} when it cannot
   */
  pass(ids: readonly number[]): Promise<FollowedPass>;
}

/** The filters of sampling, and the temperature after them. */
export type SampledWith = Required<
  Pick<SamplingOptions, "topK" | "topP" | "minP" | "temperature">
>;

/** Another engine, or its tensors. */
export interface Reference {
  readonly provenance: Provenance;
  /** Whether ids must be forced in generation: a model that runs in windows of layers chooses none before the last window. */
  readonly needsForcedIds?: boolean;
  /**
   * Runs a prompt and what follows it.
   *
   * @throws {ReferenceFailure} when it cannot; the line says why
   */
  run(request: ReferenceRequest): Promise<ReferenceRun>;
  /** Begins a sequence whose ids are not known yet; undefined where it cannot. */
  follow?(request: FollowRequest): Follower;
  /** Its own ids of some texts, BOS as the file says; undefined where it has no tokenizer. */
  tokenize?(texts: readonly string[]): Promise<readonly (readonly number[])[]>;
  /** What its chat template makes of a conversation; undefined where it has none, or it fails. */
  renderChat?(messages: readonly ChatMessage[]): Promise<string | undefined>;
  /** Whether its tokenizer is made of another file than the model's: a `tokenizer.json`, whose rules GGUF's are only nearly. */
  readonly isOtherTokenizer?: boolean;
  /** What its samplers draw from, of each of some logits [V]; undefined where it has none. */
  sample?(logits: readonly Float32Array[], options: SampledWith): Promise<readonly Candidates[]>;
  close(): Promise<void>;
}

/** A reference that died, hangs, is missing, has another version or delivers nonsense. The comparison with others goes on. */
export class ReferenceFailure extends Error {
  /** The class's name. */
  override readonly name = "ReferenceFailure";
  /**
   * Thrown where a reference is opened or run.
   *
   * @param problem what is wrong with it, in one line
   */
  constructor(
    /** Of its provenance. */
    readonly reference: string,
    problem: string,
  ) {
    super(`${reference}: ${problem}`);
  }
}

/** A reference whose tensors are those of another model: what it shows does not fit, and the line says where. */
export class OtherModelFailure extends ReferenceFailure {}
