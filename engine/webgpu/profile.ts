/** What each step of a pass costs on the GPU: time, bytes, arithmetic. */
import { computationName } from "../../kernels/kernel.ts";
import type { StepCost } from "../backend.ts";
import {
  elementCount,
  type Lengths,
  onLastRows,
  type Step,
  stepName,
  type Value,
} from "../plan/plan.ts";
import type { Weights } from "../model/weights.ts";

/**
 * The cost of a step.
 *
 * @param ms what it took
 * @param lengths of the pass
 */
export function stepCost(
  step: Step,
  ms: number,
  lengths: Lengths,
  weights: Weights<GPUBuffer>,
): StepCost {
  const positions = onLastRows(step) ? lengths.R : lengths.T;
  // Of a table and of what goes into a cache only the pass's own rows count.
  const own = { ...lengths, S: lengths.T };
  const bytes = (value: Value | null, sizes: Lengths) =>
    value ? 4 * elementCount(value.shape, sizes) : 0;
  const read = step.inputs.map((value) => bytes(value, value.kind === "table" ? own : lengths));
  const written = step.outputs.map((value) =>
    bytes(value, value?.kind === "cache" ? own : lengths)
  );
  const packed = step.weights.map((name) => weightBytes(weights, name));
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  return {
    name: stepName(step),
    kernel: computationName(step),
    ms,
    // Of the embedding each position has a row.
    weightBytes: sum(
      packed.map(({ all, row }) => step.operation === "embed" ? positions * row : all),
    ),
    valueBytes: sum(read) + sum(written),
    flops: step.operation === "linear"
      ? 2 * positions *
        sum(step.weights.map((name, i) => weights.matrices.has(name) ? packed[i].numbers : 0))
      : 0,
  };
}

/** Bytes of a weight as it lies on the device, and its numbers. */
export function weightBytes(
  { matrices, vectors }: Weights<GPUBuffer>,
  name: string,
): { readonly all: number; readonly row: number; readonly numbers: number } {
  const matrix = matrices.get(name);
  if (!matrix) {
    const { size } = vectors.get(name)!;
    return { all: size, row: size, numbers: size / 4 };
  }
  const { packing, rows, columns } = matrix;
  const { quants, scales, highs } = packing.words(columns);
  const row = 4 * (quants + scales + highs);
  return { all: rows * row, row, numbers: rows * columns };
}
