/** What a fault is: how it is made, where it shows first, and which causes are right for it. */
import type { Cause } from "../../../checkpoints/diagnosis/causes.ts";
import type { Random } from "../../../checkpoints/files/random.ts";
import type { Mistakes, Shape } from "../engines/engine_mistakes.ts";
import type { FileFault } from "../models/broken_files.ts";
import type { FaultModel } from "../models/fault_models.ts";

/** Where a fault has to be found, and as what. */
export interface Expected {
  readonly checkpoint: string;
  /** Without the layer. */
  readonly point: string;
  /** Names that are true of it; that none is known is always honest, but for faults that are `known`. */
  readonly causes: readonly Cause[];
  /** What the detail must say where a cause is named. */
  readonly detail?: RegExp;
  /** The first pass that shows it; the prompt's without it. */
  readonly step?: number;
  /** Whether its first name has to be found. */
  readonly known?: true;
}

/** What a fault is made with. */
export interface Bench {
  readonly model: FaultModel;
  readonly shape: Shape;
  /** The block that is wrong. */
  readonly layer: number;
  readonly draw: Random;
}

/** By the names of `faultModels`. */
export type ModelName = "tiny" | "random" | "large" | "mixed" | "bpe";

/** A fault of an engine. */
export interface EngineFault extends Expected {
  readonly on?: readonly ModelName[];
  /** Where it is: in the drawn block, in all, in the drawn one of all but the first or the last, or outside of blocks. */
  readonly where?: "everywhere" | "not first" | "not last" | "outside";
  /** Points that the engine does not show; names without `blk.<layer>.`. */
  readonly hides?: RegExp;
  /** Blocks that it runs, where those are not all. */
  readonly blocks?: (shape: Shape) => readonly number[];
  readonly make: (bench: Bench) => Mistakes;
}

/** A fault of a file. */
export interface BrokenFile extends Expected {
  readonly on?: readonly ModelName[];
  /** Where it shows first: in the drawn block, in the first one since it is in all, in the drawn one but for the last, or outside of blocks. */
  readonly where?: "first" | "not last" | "outside";
  readonly make: (bench: Bench) => FileFault;
}

/** Faults by their names. */
export type Faults<Fault> = Readonly<Record<string, Fault>>;

/** Where a fault shows, and as what. */
export function seen(checkpoint: string, point: string, ...causes: Cause[]): Expected {
  return { checkpoint, point, causes };
}
