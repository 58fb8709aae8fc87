/** Whether what a bundle holds of a divergence fits together: numbers with their bytes, outcomes with what they are made of. */
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GGML_TYPES } from "../../../engine/gguf/types.ts";
import type { RowReader } from "../../../kernels/kernel.ts";
import { kernelOf } from "../../../kernels/mod.ts";
import { compareTensors, localAllowance, placeText } from "../compare.ts";
import {
  type NamedTensor,
  type OperationEvidence,
  type OperationRecord,
  rowOf,
  type WeightRows,
} from "./evidence.ts";
import { DivergenceError, readEvidence } from "./files.ts";
import { recompute, type Right } from "./recompute.ts";
import { isComplete } from "./sizes.ts";

/** Largest share by which a second run of the same operation differs. */
const SAME = 1e-4;
/** Other processors may round functions like exp otherwise, in the last place. */
const ROUNDING = 1e-6;

/**
 * What does not fit together in a divergence's folder, or with the row of its point.
 *
 * @param rows columns of the bundle's rows
 */
export async function divergenceProblems(
  folder: string,
  rows: Readonly<Record<string, ArrayLike<unknown>>>,
): Promise<string[]> {
  try {
    const { evidence, right } = await readEvidence(folder);
    if (evidence.kind === "ids") return [];
    const { referenceName, step, point, place, allowed } = evidence;
    const verdict = allowed === undefined ? "cumulative" : "local";
    const at = Array.from({ length: rows.point.length }, (_, i) => i).find((i) =>
      rows.reference[i] === referenceName && rows.case[i] === evidence.case &&
      rows.step[i] === step && rows.point[i] === point
    );
    if (at === undefined) return [`${point} is no row`];
    const problems = evidenceProblems(evidence, right!);
    const { ours, reference } = recompute(evidence);
    const same = (value: unknown, found: number) =>
      Object.is(value, found) ||
      Math.abs(Number(value) - found) <= SAME * Math.max(Math.abs(found), SAME);
    if (rows[`${verdict}_place`][at] !== placeText(place)) {
      problems.push(`${point} is off at another place than its row says`);
    } else {
      // What our own run made is not among the tensors.
      const isOurs = verdict === "cumulative" || same(rows.local_ours[at], ours);
      if (!isOurs || !same(rows[`${verdict}_reference`][at], reference)) {
        problems.push(`the numbers of ${point} are not those of its row`);
      }
    }
    return problems;
  } catch (error) {
    if (error instanceof DivergenceError || error instanceof RangeError) return [error.message];
    throw error;
  }
}

/** What does not fit together, one line each. */
function evidenceProblems(evidence: OperationEvidence, right: Right): string[] {
  const { operations, pass, point, ours } = evidence;
  const problems = operations.flatMap(({ weights, other }) =>
    [...weights, ...other?.weights ?? []].flatMap(weightProblems)
  );
  const isSame = (name: string, a: Float32Array, { data, shape }: NamedTensor) => {
    const allowance = { tolerance: ROUNDING, relative: ROUNDING };
    return compareTensors(name, { shape, data: a }, { shape, data }, allowance, pass.start).passed;
  };
  for (const operation of operations) {
    const { point: name, output, other } = operation;
    const again = recomputed(operation, evidence);
    if (again && !isSame(name, again, output)) {
      problems.push(`${name} is not what recomputing it gives`);
    }
    // What the other file makes of it is what later operations read.
    const theirs = operations.flatMap((each) => each.other?.inputs ?? [])
      .find((input) => input.name === name && input.source === "computed");
    if (!other || !theirs) continue;
    const there = recomputed({ ...operation, ...other, output: theirs }, evidence);
    if (there && !isSame(name, there, theirs)) {
      problems.push(`${name} is not what recomputing it with the other file gives`);
    }
  }
  const found = recompute(evidence);
  if (found.right !== right) {
    problems.push(
      `it says of ${point} that right is: ${right}, and recomputing it says: ${found.right}`,
    );
  }
  if (/^(ours|both|each)$/.test(found.right)) {
    const last = operations.at(-1)!;
    const allowance = localAllowance(point);
    const { passed, place } = compareTensors(
      point,
      ours,
      last.output,
      allowance,
      pass.start,
    );
    if (!passed) {
      problems.push(`recomputing ${point} does not give our number at ${placeText(place)}`);
    }
  }
  return problems;
}

/** Numbers that are not those of their bytes. */
function weightProblems({ name, type, data, blocks }: WeightRows): string[] {
  if (!blocks) return [];
  const numbers = dequantize(GGML_TYPES.find((known) => known.name === type)!, blocks);
  const same = numbers.every((value, i) => Object.is(value, data[i]));
  return same ? [] : [`the numbers of ${name} are not those of its bytes`];
}

/** What the operation's 64-bit twin makes, in the output's shape; undefined where something that it needs was left out. */
function recomputed(
  record: OperationRecord,
  { pass }: OperationEvidence,
): Float32Array | undefined {
  if (!isComplete(record)) return undefined;
  const { operation, constants, inputs, weights, output } = record;
  const kept = operation === "linear" ? weights[0].kept : undefined;
  // Slots of before the pass stay, and so do numbers whose rows were left out.
  const out = output.data.slice();
  const read = rowsByNumber(record, pass);
  const isThere = read
    ? read.every((row) => rowOf(weights[0], row))
    : operation === "linear" || weights.every(({ kept }) => !kept);
  if (!isThere) return undefined;
  const made = kept ? new Float32Array(pass.tokens * kept.length) : out;
  const has = weights.length > 0;
  const fields = { sinks: operation === "softmax" && has, biased: operation === "route" && has };
  kernelOf({ operation, ...fields })!.twin({
    pass,
    constants,
    inputs: inputs.map(({ data }) => data),
    weights: weights.map((weight) => asReader(weight, read !== undefined)),
    outputs: [made],
  });
  const rows = weights.at(0)?.rows ?? 0;
  kept?.forEach((row, i) => {
    for (let token = 0; token < pass.tokens; token++) {
      out[token * rows + row] = made[token * kept.length + i];
    }
  });
  return out;
}

/** The rows of an embedding that an operation asks for; undefined of operations that read whole weights. */
function rowsByNumber(
  { operation, inputs: [ids] }: OperationRecord,
  { start, tokens }: OperationEvidence["pass"],
): number[] | undefined {
  if (operation === "embed") return [...ids.data];
  if (operation !== "embed_positions") return undefined;
  return Array.from({ length: tokens }, (_, i) => start + i);
}

/** The rows that are there, one after the other; by their own numbers where an operation asks for some. */
function asReader(weight: WeightRows, byNumber: boolean): RowReader {
  const { kept, rows, columns, data } = weight;
  return {
    rows: byNumber ? rows : kept?.length ?? rows,
    columns,
    read: (row, out) =>
      out.set(
        byNumber ? rowOf(weight, row)! : data.subarray(row * columns, (row + 1) * columns),
      ),
  };
}
