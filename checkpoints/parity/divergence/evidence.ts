/** What the operation that went wrong first read and made, on both sides: what a bundle holds of it, and what a notebook looks at. */
import type { RopeScaling } from "../../../engine/model/config.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import type { Constants, Operation, Pass } from "../../../kernels/kernel.ts";
import { isCache } from "../cache.ts";
import { type ElementPlace, isAttention } from "../compare.ts";
import type { ActivationType } from "../../references/reference.ts";

/** Numbers with a name, row-major. */
export interface NamedTensor {
  /** Its point: `blk.3.attn_norm`; `ids` or `rope_table` for what is no point. */
  readonly name: string;
  /** As the point has it, over the rows that are kept. */
  readonly shape: readonly number[];
  /** As many as the shape says; none of a tensor that was left out. */
  readonly data: Float32Array;
  /** Whose they are: the reference's, computed here from the reference's, or known beforehand (ids, RoPE's table). */
  readonly source: "reference" | "computed" | "given";
}

/** Rows of a weight. */
export interface WeightRows {
  /** As in the GGUF file: `blk.3.attn_q.weight`. */
  readonly name: string;
  /** How the file has it: `Q8_0`. */
  readonly type: string;
  /** Rows of the whole weight; vectors are one row. */
  readonly rows: number;
  /** Numbers of a row. */
  readonly columns: number;
  /** Which rows are here, ascending; undefined for all. */
  readonly kept?: readonly number[];
  /** Their numbers [rows kept, columns]. */
  readonly data: Float32Array;
  /** Their bytes as the file has them, little-endian; undefined for F32, whose bytes are the numbers. */
  readonly blocks?: Uint8Array;
}

/** What an operation is told and works with on one of the sides. */
export interface Settings {
  /** What the kernel is told beside the pass: widths, epsilons, scales. */
  readonly constants: Constants;
  /** What it reads of the pass, in the kernel's order. */
  readonly inputs: readonly NamedTensor[];
  /** What it reads of the file. */
  readonly weights: readonly WeightRows[];
  /** How angles are made, where it turns. */
  readonly rope?: RopeFacts;
}

/** One operation of the chain. */
export interface OperationRecord extends Settings {
  /** What it makes: `blk.3.q`. */
  readonly point: string;
  /** What is computed. */
  readonly operation: Operation;
  /** What it makes of its inputs in 64-bit floats, rounded once. */
  readonly output: NamedTensor;
  /** The same operation as the other file has it, where the other side runs a file of its own, from what is shown there. */
  readonly other?: Settings;
}

/** What RoPE's table was made from. */
export interface RopeFacts {
  /** Of the frequencies: base^(−2i / width). */
  readonly base: number;
  /** Numbers of a head that turn. */
  readonly width: number;
  /** What positions are divided by. */
  readonly scaling: RopeScaling;
  /** Divisors of the pairs' angles, where the file has them. */
  readonly factors?: readonly number[];
  /** Factor on cosines and sines; 1 where it is left out. */
  readonly magnitude?: number;
  /** In 64-bit floats, or as ggml does. */
  readonly builder: RopeBuilder;
}

/** The first operation that went wrong, from what the reference shows to what it made. */
export interface OperationEvidence {
  /** That a tensor went wrong. */
  readonly kind: "operation";
  /** `blk.3.q` */
  readonly point: string;
  /** The checkpoint that it belongs to: `2`. */
  readonly checkpoint: string;
  /** Who the other side is: `llama.cpp`. */
  readonly referenceName: string;
  /** Type of its activations. */
  readonly activations: ActivationType;
  /** Whether the other side runs a file of its own. */
  readonly hasOtherFile: boolean;
  /** Which prompt: `prompt` or `long prompt`. */
  readonly case: string;
  /** 0 in the prompt, n in the pass of the n-th generated token. */
  readonly step: number;
  /** The rows that are kept: `start` is the absolute position of the first. */
  readonly pass: Pass;
  /** Of these rows: ids and texts of their tokens. */
  readonly tokens: readonly { readonly id: number; readonly text: string }[];
  /** The number by which the point failed. */
  readonly place: ElementPlace;
  /** How far off it may be; undefined where the point failed by what each side's own run added up to, not by these inputs. */
  readonly allowed?: number;
  /** In the order of computation; the last one makes the point. What the reference shows is read as it has it. */
  readonly operations: readonly OperationRecord[];
  /** What our kernels made of the reference's inputs. */
  readonly ours: NamedTensor;
  /** What the reference has. */
  readonly reference: NamedTensor;
  /** What would have been too large, one line each. */
  readonly leftOut: readonly string[];
}

/** Token ids that differ. */
export interface IdsEvidence {
  readonly kind: "ids";
  readonly point: "token ids";
  readonly checkpoint: string;
  readonly referenceName: string;
  readonly case: string;
  /** Where it was given as a text. */
  readonly text?: string;
  readonly ours: readonly { readonly id: number; readonly text: string }[];
  readonly reference: readonly { readonly id: number; readonly text: string }[];
}

/** What can be looked at of a first divergence. */
export type DivergenceEvidence = OperationEvidence | IdsEvidence;

/**
 * Where in a tensor of a pass a place lies; undefined where it is not among its numbers.
 *
 * @param start absolute position of the tensor's first row
 */
export function elementAt(
  { name, shape }: Pick<NamedTensor, "name" | "shape">,
  start: number,
  { head = 0, position, index }: ElementPlace,
): number | undefined {
  const within = (at: number, size: number) => Number.isInteger(at) && at >= 0 && at < size;
  const row = isCache(name) ? position : position - start;
  const [a, b, c] = isAttention(name)
    ? [head, row, index]
    : shape.length === 3
    ? [row, head, index]
    : [0, row, index];
  const [A, B, C] = shape.length === 3 ? shape : [1, ...shape];
  if (!within(a, A) || !within(b, B) || !within(c, C)) return undefined;
  return (a * B + b) * C + c;
}

/** Which row of a product's weight makes a place. */
export function weightRowAt({ shape }: Pick<NamedTensor, "shape">, place: ElementPlace): number {
  return shape.length === 3 ? (place.head ?? 0) * shape[2] + place.index : place.index;
}

/** A row of a weight; undefined where it was left out. */
export function rowOf({ kept, rows, columns, data }: WeightRows, row: number) {
  const at = kept ? kept.indexOf(row) : row < rows ? row : -1;
  return at < 0 ? undefined : data.subarray(at * columns, (at + 1) * columns);
}

/** The bytes of a row's blocks, where they are not its numbers. */
export function blocksOf({ kept, rows, blocks }: WeightRows, row: number): Uint8Array | undefined {
  const at = kept ? kept.indexOf(row) : row;
  if (!blocks || at < 0) return undefined;
  const width = blocks.length / (kept?.length ?? rows);
  return blocks.subarray(at * width, (at + 1) * width);
}
