/** The values and weights that a page holds of each step. */
import { largest } from "../analyses/numbers.ts";
import { sizeOf } from "../../base/shape.ts";
import { argmax } from "../../kernels/sampling/argmax.ts";
import type { Model } from "../run/model.ts";
import type { Run } from "../run/run.ts";
import type { PageTensor } from "./pack.ts";
import type { PageStep, PageWeight } from "./steps.ts";

/** What a page knows of the logits at the positions that it holds. */
export interface LogitFacts {
  /** Token ids whose logits the page holds, ascending. */
  readonly columns: readonly number[];
  /** The likeliest token at each position; −1 where a logit is not finite. */
  readonly chosen: readonly number[];
  /** The largest logit, and Σ exp(logit − it) over the whole vocabulary. */
  readonly normalizers: readonly (readonly [max: number, sum: number])[];
}

/** A vocabulary up to this size is in the page as a whole. */
const WHOLE_VOCABULARY = 256;
/** Of a larger one, so many of the likeliest tokens of each position. */
const LIKELIEST = 24;

/** Looks through the logits at some positions. */
export function logitFacts(run: Run, positions: readonly number[]): LogitFacts {
  const logits = run.tensor("logits");
  const rows = positions.map((position) => logits.at({ position }).toFloat32Array());
  const [{ length: vocabulary }] = rows;
  const columns = vocabulary <= WHOLE_VOCABULARY
    ? Array.from({ length: vocabulary }, (_, id) => id)
    : [...new Set(rows.flatMap((row) => largest(row, LIKELIEST)))].sort((a, b) => a - b);
  return {
    columns,
    chosen: rows.map(choose),
    normalizers: rows.map((row) => {
      const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
      return [max, row.reduce((sum, logit) => sum + Math.exp(logit - max), 0)] as const;
    }),
  };
}

/** The plan's own last step, which is no point that could be captured. */
function choose(logits: Float32Array): number {
  const index = new Float32Array(1);
  argmax.twin({
    pass: { tokens: 1, start: 0, rows: 1 },
    constants: { columns: logits.length },
    inputs: [logits],
    weights: [],
    outputs: [index],
  });
  return index[0];
}

/**
 * A step's value at the kept positions (queries); the cache whole, and of logits and probabilities some columns. Undefined for ids
 * and the choice, which are no tensors of floats.
 */
export function valueOf(
  run: Run,
  { name, kind, inputs, axes, operation }: PageStep,
  positions: readonly number[],
  columns: readonly number[],
): PageTensor | undefined {
  if (operation === "ids" || operation === "argmax") return undefined;
  // Each row gets logits in this pass, so that all rows are taken.
  const view = run.tensor(operation === "take_rows" ? inputs[0] : name);
  const { shape } = view;
  const data = view.toFloat32Array();
  if (axes[0] === "slot") return { data, shape, axes };
  if (axes.includes("key")) {
    const [heads, queries, keys] = shape;
    const rows = Array.from({ length: heads }, (_, head) => head)
      .flatMap((head) => positions.map((query) => head * queries + query));
    return { data: takeRows(data, keys, rows), shape: [heads, positions.length, keys], axes };
  }
  const [, ...rest] = shape;
  const width = sizeOf(rest);
  const kept = takeRows(data, width, positions);
  if (!isOfVocabulary(kind)) {
    return { data: kept, shape: [positions.length, ...rest], axes };
  }
  const places = positions.flatMap((_, row) => columns.map((id) => row * width + id));
  return { data: takeRows(kept, 1, places), shape: [positions.length, columns.length], axes };
}

/** Whether a kind of step has a number for each token of the vocabulary: logits on their way, and probabilities. */
function isOfVocabulary(kind: string): boolean {
  return kind.startsWith("logits") || kind === "probs";
}

function takeRows(data: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const out = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) {
    out.set(data.subarray(row * width, (row + 1) * width), i * width);
  }
  return out;
}

/** The number that a page computes again before somebody picks another: the largest one at the last position. */
export function pickOf(
  { kind, axes }: PageStep,
  { data, shape }: PageTensor,
  { columns, chosen }: LogitFacts,
): number {
  if (isOfVocabulary(kind)) return Math.max(0, columns.indexOf(chosen.at(-1)!));
  const row = axes.includes("key")
    ? takeRows(data, shape[2], Array.from({ length: shape[0] }, (_, h) => (h + 1) * shape[1] - 1))
    : data.subarray(data.length - data.length / shape[0]);
  let best = 0;
  for (const [i, value] of row.entries()) {
    if (Number.isFinite(value) && Math.abs(value) > Math.abs(row[best])) best = i;
  }
  return best;
}

/** A weight of a step: what the page says of it, and the part of it that the page holds. */
interface StepWeight {
  readonly name: string;
  readonly facts: PageWeight;
  readonly tensor: PageTensor;
}

/**
 * The part of a step's weights with which one number at each position can be computed again: the embedding's rows of the ids, the
 * whole gain of a norm, one row of a matrix and the bias of that row; of experts that row of the one that each kept position goes to.
 */
export async function weightsOf(
  model: Model,
  { operation, kind, inputs, weights, constants }: PageStep,
  { pick, logits, ids, run, positions }: {
    readonly run: Run;
    readonly positions: readonly number[];
    readonly pick: number;
    readonly logits: LogitFacts;
    /** Of the whole sequence. */
    readonly ids: readonly number[];
  },
): Promise<StepWeight[]> {
  const output = isOfVocabulary(kind) ? logits.columns[pick] : pick;
  return await Promise.all(weights.map(async (facts, i): Promise<StepWeight> => {
    const { name } = facts;
    const rowOf = (row: number) => model.weightRows(name, { first: row, count: 1 });
    if (operation === "linear_experts") {
      const { rows, used } = constants;
      const chosen = run.tensor(inputs[1]).toFloat32Array();
      const experts = positions.map((position) =>
        chosen[position * used + Math.floor(pick / rows)]
      );
      const parts = await Promise.all(experts.map(async (expert) => {
        if (i === 0) return await rowOf(expert * rows + pick % rows);
        return (await rowOf(expert)).slice(pick % rows, pick % rows + 1);
      }));
      const data = Float32Array.from(parts.flatMap((part) => [...part]));
      const shape = [positions.length, parts[0].length];
      return {
        name,
        facts: { ...facts, row: pick },
        tensor: { data, shape, axes: ["position", "feature"] },
      };
    }
    if (operation === "embed" || operation === "embed_positions") {
      const rows = await Promise.all(
        positions.map((at) => rowOf(operation === "embed" ? ids[at] : at)),
      );
      const data = Float32Array.from(rows.flatMap((row) => [...row]));
      return {
        name,
        facts,
        tensor: { data, shape: [positions.length, rows[0].length], axes: ["position", "feature"] },
      };
    }
    const bias = operation === "linear" && i === 1;
    const data = operation === "linear" && !bias
      ? await rowOf(output)
      : await model.weightRows(name);
    const part = bias ? data.slice(output, output + 1) : data;
    return {
      name,
      facts: operation === "linear" ? { ...facts, row: output } : facts,
      tensor: { data: part, shape: [1, part.length], axes: ["row", "column"] },
    };
  }));
}
