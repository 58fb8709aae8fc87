/** One operation of a pass with all that it works on, and how it is computed once more. */
import type { Config } from "../../../engine/model/config.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { Step } from "../../../engine/plan/plan.ts";
import type { RopeBuilder } from "../../../engine/model/rope_table.ts";
import type { Pass, RowReader } from "../../../kernels/kernel.ts";
import { kernelOf } from "../../../kernels/mod.ts";
import type { ReferencePass } from "../../references/reference.ts";
import type { Cause } from "../causes.ts";

/** A weight in memory: [rows, columns]; vectors are one row. */
export interface Weight {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  /** Numbers that the file keeps together in a block: 1 where it keeps them singly. */
  readonly blockSize: number;
  readonly data: Float32Array;
}

/** Reads weights of a file, each once. */
export class WeightReader {
  readonly #weights = new Map<string, Promise<Weight | undefined>>();

  constructor(readonly file: GgufFile) {}

  /** Undefined where the file has no such weight. */
  read(name: string): Promise<Weight | undefined> {
    let weight = this.#weights.get(name);
    if (!weight) this.#weights.set(name, weight = this.#load(name));
    return weight;
  }

  async #load(name: string): Promise<Weight | undefined> {
    const tensor = this.file.tensors.get(name);
    if (!tensor) return undefined;
    const data = dequantize(tensor.type, await this.file.readTensor(tensor));
    const columns = tensor.shape[0];
    return { name, rows: data.length / columns, columns, blockSize: tensor.type.blockSize, data };
  }
}

/** A step of the chain with all that it works on. */
export interface Operation {
  readonly step: Step;
  readonly name: string;
  readonly config: Config;
  readonly pass: Pass;
  readonly inputs: readonly Float32Array[];
  readonly weights: readonly Weight[];
  /** What the step makes of its inputs. */
  readonly output: Float32Array;
  readonly shape: readonly number[];
  /** What the other side has instead, at the point that went wrong and where it can be told from that. */
  readonly target?: Float32Array;
  /** What the other side shows of this pass. */
  readonly shown: ReferencePass["tensors"];
  /** What of that is made before this operation, in the order of computation. */
  readonly earlier: readonly string[];
  /** Of a tensor that it shows: those rows that the operation has. */
  readonly shownRows: (name: string) => Float32Array;
  readonly reader: WeightReader;
  /** The other side's weights, where it is a file. */
  readonly others?: WeightReader;
  /** RoPE's frequency factors. */
  readonly factors?: Float32Array;
  readonly builder: RopeBuilder;
}

/** What a suspected fault would make of an operation. */
export interface Variant {
  /** `unknown` for a fault without a name, which can be told from those that have one. */
  readonly cause: Cause;
  /** The fault in figures: which base, which offset, which order. The same fault of several operations has the same words. */
  readonly what: string;
  /** The weight that is concerned. */
  readonly where?: string;
  /** Whether it has numbers of its own that were fitted to the data: then it has to explain more. */
  readonly fitted?: boolean;
  /** Where others make the same of several operations together: all of them in words, since none can be named there. */
  readonly jointly?: string;
  /** Whether it is tried after all others: a guess, or what others make too. */
  readonly late?: boolean;
  make(): Float32Array;
}

/** The largest number of a 16-bit float. */
export const LARGEST_F16 = 65504;
/** Scores of hidden keys are below this. */
export const HIDDEN = -1e29;

/** What a variant changes of an operation. */
export interface Changes {
  readonly inputs?: readonly Float32Array[];
  readonly weights?: readonly Weight[];
  readonly constants?: Readonly<Record<string, number>>;
}

/** Runs an operation's kernel in 64-bit floats into `out`, on other inputs, constants or weights where some are given. */
export function compute(
  { step, pass, inputs, weights }: Pick<Operation, "step" | "pass" | "inputs" | "weights">,
  out: Float32Array,
  changes: Changes = {},
): Float32Array {
  kernelOf(step)!.twin({
    pass,
    constants: { ...step.constants, ...changes.constants },
    inputs: changes.inputs ?? inputs,
    weights: (changes.weights ?? weights).map(asReader),
    outputs: [out],
  });
  return out;
}

/** What an operation makes with something changed: what variants are made of. */
export function rerun(operation: Operation, changes: Changes): Float32Array {
  return compute(operation, new Float32Array(operation.output.length), changes);
}

/** What an operation makes with other numbers in its weight. */
export function withWeight(operation: Operation, data: Float32Array): Float32Array {
  return rerun(operation, { weights: [{ ...operation.weights[0], data }] });
}

function asReader({ rows, columns, data }: Weight): RowReader {
  return {
    rows,
    columns,
    read: (row, out) => out.set(data.subarray(row * columns, (row + 1) * columns)),
  };
}
