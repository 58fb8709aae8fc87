/** One operation of a pass with all that it works on, and what it makes where something of that is changed. */
import { layerOf } from "../../../base/layer_names.ts";
import { type Config, type Rope, ropeOfTable } from "../../../engine/model/config.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import type { RopeBuilder, RopeFactors } from "../../../engine/model/rope_table.ts";
import { compute, readWeight, type StepInputs, type Weight } from "../../parity/steps_behind.ts";
import type { ReferencePass } from "../../references/reference.ts";
import type { Cause } from "../causes.ts";

/** Reads weights of a file, each once. */
export class WeightReader {
  readonly #weights = new Map<string, Promise<Weight | undefined>>();

  constructor(readonly file: GgufFile) {}

  /** Undefined where the file has no such weight. */
  read(name: string): Promise<Weight | undefined> {
    let weight = this.#weights.get(name);
    if (!weight) this.#weights.set(name, weight = readWeight(this.file, name));
    return weight;
  }
}

/** A step of the chain with all that it works on. */
export interface Operation extends StepInputs {
  readonly name: string;
  readonly config: Config;
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
  /** The file's divisors of RoPE's angles. */
  readonly factors: RopeFactors;
  readonly builder: RopeBuilder;
}

/** The table that an operation turns by: that of its layer. */
export function ropeOf({ config, step, name }: Pick<Operation, "config" | "step" | "name">): Rope {
  const table = step.inputs.find(({ kind }) => kind === "table");
  return table ? ropeOfTable(config, table.name) : config.blocks[layerOf(name)!].rope!;
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
  /** Whether it is tried before all others: a fault of a part that the model's description has. */
  readonly early?: boolean;
  /** Whether it is tried after all others: a guess, or what others make too. */
  readonly late?: boolean;
  make(): Float32Array;
}

/** The largest number of a 16-bit float. */
export const LARGEST_F16 = 65504;
/** Scores of hidden keys are below this. */
export const HIDDEN = -1e29;

/** What a variant changes of an operation. */
export interface Changes extends Partial<Pick<Operation, "inputs" | "weights">> {
  readonly constants?: Readonly<Record<string, number>>;
}

/** What an operation makes with something changed: what variants are made of. */
export function rerun(operation: Operation, { constants, ...others }: Changes): Float32Array {
  const step = { ...operation.step, constants: { ...operation.step.constants, ...constants } };
  return compute({ ...operation, ...others, step }, new Float32Array(operation.output.length));
}

/** What an operation makes with other numbers in its weight. */
export function withWeight(operation: Operation, data: Float32Array): Float32Array {
  return rerun(operation, { weights: [{ ...operation.weights[0], data }] });
}
