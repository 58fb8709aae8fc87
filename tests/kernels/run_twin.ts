/** Running a 64-bit twin on a few numbers, for the tests of twins. */
import assert from "node:assert/strict";
import type { Pass, RowReader } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";

export interface Given {
  readonly pass?: Pass;
  readonly constants?: Record<string, number>;
  readonly inputs?: ArrayLike<number>[];
  readonly weights?: number[][][];
}

/** Runs a twin; `sizes` are the numbers of its outputs. */
export function run(name: string, given: Given, ...sizes: number[]): number[][] {
  const outputs = sizes.map((size) => new Float32Array(size).fill(9));
  KERNELS.get(name)!.twin({
    pass: given.pass ?? { tokens: 1, start: 0, rows: 1 },
    constants: given.constants ?? {},
    inputs: (given.inputs ?? []).map((input) => Float32Array.from(input)),
    weights: (given.weights ?? []).map(reader),
    outputs,
  });
  return outputs.map((output) => [...output]);
}

export function reader(rows: number[][]): RowReader {
  return {
    rows: rows.length,
    columns: rows[0].length,
    read: (row, out) => out.set(rows[row]),
  };
}

export function assertClose(found: readonly number[], expected: readonly number[]): void {
  assert.equal(found.length, expected.length);
  found.forEach((value, i) => {
    const error = Math.abs(value - expected[i]);
    // Results are rounded to f32 once.
    assert.ok(error <= 1e-6 * Math.max(1, Math.abs(expected[i])), `${found} against ${expected}`);
  });
}

export function tokens(count: number, start = 0, rows = 1): Pass {
  return { tokens: count, start, rows };
}

export const W = [[1, 2], [3, 4], [5, 6]];
export const X = [1, 10, -1, 2]; // two positions
export const WX = [21, 43, 65, 3, 5, 7];
