/** What each step of a pass costs on a device: time, bytes, arithmetic. */
import { computationName, type Operation } from "../../kernels/kernel.ts";
import type { StepCost } from "../backend.ts";
import { elementCount, type Lengths, onLastRows, type Step, stepName, type Value } from "./plan.ts";

/** Bytes of a weight as it lies on the device, and its numbers. */
export interface WeightSize {
  readonly all: number;
  readonly row: number;
  /** 0 of a vector, which no product has. */
  readonly numbers: number;
}

/** Operations that read rows of their weight, not all of it. */
const EMBEDDINGS: ReadonlySet<Operation> = new Set<Operation>(["embed", "embed_positions"]);

/**
 * The cost of a step.
 *
 * @param ms what it took
 * @param lengths of the pass
 * @param sizeOf the size of a weight
 */
export function stepCost(
  step: Step,
  ms: number,
  lengths: Lengths,
  sizeOf: (weight: string) => WeightSize,
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
  const packed = step.weights.map(sizeOf);
  const expertRows = positions * step.constants.used * step.constants.rows;
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  return {
    name: stepName(step),
    kernel: computationName(step),
    ms,
    // Of embeddings each position has a row, of a mixture its experts' matrices.
    weightBytes: sum(
      packed.map(({ all, row }) =>
        EMBEDDINGS.has(step.operation)
          ? positions * row
          : step.operation === "linear_experts"
          ? Math.min(all, expertRows * row)
          : all
      ),
    ),
    valueBytes: sum(read) + sum(written),
    flops: step.operation === "linear"
      ? 2 * positions * sum(packed.map(({ numbers }) => numbers))
      : step.operation === "linear_experts"
      ? 2 * expertRows * step.constants.columns
      : 0,
  };
}
