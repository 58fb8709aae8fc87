/** What a case is: one run of one kernel on seeded inputs. */
import type { Packing } from "../../kernels/weights/packings.ts";
import type { Constants, Kernel, Knobs, Pass, RowReader } from "../../kernels/kernel.ts";
import type { Kind, Noise, PackedMatrices } from "./data.ts";

/** One run of one kernel on seeded inputs. */
export interface KernelCase {
  readonly kernel: Kernel;
  /** What it is, in words: "576 columns, 9 positions". */
  readonly name: string;
  readonly kind: Kind;
  readonly pass: Pass;
  /** Without those that only the packing decides. */
  readonly constants: Constants;
  /** Inputs by binding, in order; `ids` as numbers. */
  readonly inputs: readonly Float32Array[];
  readonly weights: readonly RowReader[];
  /** How the weights of a packed kernel lie on the device. */
  readonly packed?: PackedMatrices;
  /** Dispatches among which the rows are shared out, as where a matrix is split. */
  readonly parts: number;
  /** Numbers in each output, taps included. */
  readonly outputs: readonly number[];
  /** Whether taps are on. */
  readonly taps: boolean;
  /** Others than the device's own. */
  readonly knobs?: Knobs;
}

/** What most cases share is left out: real numbers, no weights, one part. */
export type Draft =
  & Partial<KernelCase>
  & Pick<KernelCase, "name" | "pass" | "constants" | "inputs" | "outputs">;

/** What cases are made for. */
export interface Order {
  readonly kernel: Kernel;
  /** Of kernels over packed weights. */
  readonly packing: Packing;
  readonly full: boolean;
  readonly noise: Noise;
}

/** Makes a kernel's cases. */
export type Maker = (order: Order) => Generator<Draft>;

export const KINDS: readonly Kind[] = ["real", "whole"];

/** Columns of kernels that take any number of them. */
export const COLUMNS = [1, 7, 8, 9, 63, 64, 65, 576, 1000, 4096, 11008];
/** Positions, to be gone through in a circle. */
export const FEW = [1, 9, 2, 5, 8, 3, 1, 7, 4, 6];
export const MANY = [1, 130, 8, 33, 32, 31, 9, 64, 2, 65, 7];

/** Slots of a cache behind those that a pass may see or write. */
export const SPARE_SLOTS = 3;

/** A pass's numbers. */
export function passOf(tokens: number, start = 0, rows = 1): Pass {
  return { tokens, start, rows };
}
