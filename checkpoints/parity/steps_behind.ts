/** The steps between what a reference shows and a point, and how each is computed once more: in 64-bit floats, by its kernel's twin. */
import { dequantize } from "../../engine/gguf/dequantize.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import {
  elementCount,
  type Lengths,
  type Plan,
  type Step,
  stepName,
  type Value,
} from "../../engine/plan/plan.ts";
import type { Pass } from "../../kernels/kernel.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { matrixOf } from "./divergence/weight_rows.ts";
import { rowsOf } from "./local.ts";
import type { ReferencePass } from "../references/reference.ts";

/** A weight in memory: [rows, columns]; vectors are one row. */
export interface Weight {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  /** Numbers that the file keeps together in a block: 1 where it keeps them singly. */
  readonly blockSize: number;
  readonly data: Float32Array;
}

/** Reads a weight; undefined where the file has no such one. */
export async function readWeight(file: GgufFile, name: string): Promise<Weight | undefined> {
  const tensor = file.tensors.get(name);
  if (!tensor) return undefined;
  const data = dequantize(tensor.type, await file.readTensor(tensor));
  const { rows, columns } = matrixOf(tensor);
  return { name, rows, columns, blockSize: tensor.type.blockSize, data };
}

/** The steps from what is shown to a point, in the order of computation; none where no step makes it. */
export function stepsBehind(plan: Plan, { tensors }: ReferencePass, point: string): Step[] {
  const makes = new Map(plan.map((step) => [stepName(step), step]));
  const needed = new Set<Step>();
  const visit = (name: string) => {
    const step = makes.get(name);
    if (!step || needed.has(step)) return;
    needed.add(step);
    for (const { name } of step.inputs) if (!tensors.has(name)) visit(name);
  };
  visit(point);
  return plan.filter((step) => needed.has(step));
}

/** Multiplications of a step for one row, about. */
export function workPerRow({ operation, constants: { rows = 1, columns = 1 } }: Step): number {
  return operation === "embed" ? columns : rows * columns;
}

/**
 * Room for what a step makes of the first rows of a pass. Slots of a cache that are older than the pass are in it: they are what they
 * are.
 *
 * @param lengths of those rows
 * @param point for which it is computed
 * @throws {RangeError} for older slots that are not known
 */
export function roomFor(
  { outputs: [output] }: Step,
  { start, before, tensors }: ReferencePass,
  lengths: Lengths,
  point: string,
): Float32Array {
  const { name, kind, shape } = output as Value;
  const room = new Float32Array(elementCount(shape, lengths));
  if (kind !== "cache" || start === 0) return room;
  const shown = tensors.get(name);
  const slots = before?.get(name) ?? (shown && rowsOf(name, shown, start, 0, lengths.T).data);
  if (!slots) throw new RangeError(`Cannot compute ${point}: ${name} is not shown`);
  room.set(slots);
  return room;
}

/** What a step is computed of. */
export interface StepInputs {
  readonly step: Step;
  readonly pass: Pass;
  readonly inputs: readonly Float32Array[];
  readonly weights: readonly Weight[];
}

/** Computes a step into `out`. */
export function compute(
  { step, pass, inputs, weights }: StepInputs,
  out: Float32Array,
): Float32Array {
  kernelOf(step)!.twin({
    pass,
    constants: step.constants,
    inputs,
    weights: weights.map(({ rows, columns, data }) => ({
      rows,
      columns,
      read: (row, into) => into.set(data.subarray(row * columns, (row + 1) * columns)),
    })),
    outputs: [out],
  });
  return out;
}
