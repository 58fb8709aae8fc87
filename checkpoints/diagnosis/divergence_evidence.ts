/** What a first divergence can be followed with: the operations behind it with all that they read and made, within bounds. */
import type { Config } from "../../engine/model/config.ts";
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Step } from "../../engine/plan/plan.ts";
import type { Pass } from "../../kernels/kernel.ts";
import { sizeOf } from "../../base/shape.ts";
import { formatBytes } from "../../inspect/format.ts";
import type { ParityRow } from "../parity/comparison.ts";
import { failedVerdict } from "../parity/reports/report.ts";
import type {
  NamedTensor,
  OperationEvidence,
  OperationRecord,
  Settings,
  WeightRows,
} from "../parity/divergence/evidence.ts";
import { readRows, rowBytes } from "../parity/divergence/weight_rows.ts";
import { rowsOf } from "../parity/local.ts";
import type { Provenance, ReferencePass, ReferenceTensor } from "../references/reference.ts";
import type { Chain } from "./activations/chain.ts";
import type { Operation } from "./activations/operation.ts";
import { type OtherOperation, otherOperations, ropeFacts } from "./other_file.ts";

/** What is kept at most, in bytes. */
const LIMITS = {
  /** Of tensors: above it the worst position's row alone is kept, and of that what fits. */
  tensors: 16 * 2 ** 20,
  /** Of weights, of both files: those of the last operation first. */
  weights: 16 * 2 ** 20,
  /** Of one weight that is kept whole. */
  wholeWeight: 4 * 2 ** 20,
};
/** Rows of a larger one. */
const WORST_ROWS = 64;

/** What evidence is made of. */
export interface Scene {
  readonly chain: Chain;
  readonly config: Config;
  readonly file: GgufFile;
  readonly other?: GgufFile;
  readonly provenance: Provenance;
  readonly row: ParityRow;
  /** The other side's, with the point and what it was made of. */
  readonly pass: ReferencePass;
  /** What our kernels made of the pass's own inputs, all its rows; where they did not, their twins' numbers stand for it. */
  readonly ours?: ReferenceTensor;
  /** The text of a token. */
  readonly piece: (id: number) => string;
}

/** Keeps what is needed to follow a divergence; undefined where already its outcome is too large. */
export async function operationEvidence(
  scene: Scene,
  limits: typeof LIMITS = LIMITS,
): Promise<OperationEvidence | undefined> {
  const { chain, row, pass, provenance } = scene;
  const { point } = row;
  const judged = failedVerdict(row);
  const { place } = judged;
  const isLocal = judged === row.local;
  const [{ pass: computed }] = chain.operations;
  const leftOut: string[] = [];
  const others = scene.other && await otherOperations(scene.other, chain);
  const all = tensorsOf(scene, computed, others);
  const isLarge = bytesOf(all) > limits.tensors;
  // A slot of the cache may be older than the pass.
  const at = Math.max(0, place.position - computed.start);
  const kept: Pass = isLarge ? { tokens: 1, start: computed.start + at, rows: 1 } : computed;
  // A table has no rows of the pass.
  const tables = new Set(scene.config.ropes.map(({ table }) => table));
  const tensors = isLarge
    ? new Map(
      Array.from(
        all,
        ([key, each]) => [key, tables.has(each.name) ? each : oneRow(each, computed, at)],
      ),
    )
    : all;
  if (isLarge) leftOut.push(`the rows of other positions than ${kept.start}: too large`);
  const byName = fitting(tensors, limits.tensors, leftOut);
  const named = (name: string) => byName.get(name)!;
  const outcomes = ["ours", "reference", outputName(point)].map(named);
  if (outcomes.some(({ data }) => data.length === 0)) return undefined;

  const operations: OperationRecord[] = [];
  let room = limits.weights;
  for (const operation of chain.operations.toReversed()) {
    const { step, name } = operation;
    const rows = wantedRows(scene, operation, leftOut, { ...limits, weights: room });
    const own: Settings = {
      constants: step.constants,
      inputs: step.inputs.map((input) => named(input.name)),
      weights: await readAll(scene.file, step.weights, rows),
      ...(step.operation === "rope" ? { rope: ropeFacts(operation) } : {}),
    };
    const theirs = others?.get(name);
    const other: Settings | undefined = theirs && {
      constants: theirs.step.constants,
      inputs: step.inputs.map((input) => byName.get(otherName(input.name)) ?? named(input.name)),
      weights: await readAll(scene.other!, theirs.step.weights, rows),
      ...(theirs.rope ? { rope: theirs.rope } : {}),
    };
    room -= [own, other].reduce((sum, each) => sum + weightBytes(each?.weights ?? []), 0);
    operations.unshift({
      ...{ point: name, operation: step.operation, output: named(outputName(name)), ...own },
      ...(other ? { other } : {}),
    });
  }
  return {
    kind: "operation",
    point,
    checkpoint: row.checkpoint,
    referenceName: provenance.name,
    activations: provenance.activations ?? "f32",
    hasOtherFile: scene.other !== undefined,
    case: row.case,
    step: row.step,
    pass: kept,
    tokens: pass.ids.slice(kept.start - pass.start, kept.start - pass.start + kept.tokens)
      .map((id) => ({ id, text: scene.piece(id) })),
    ...{ place, operations, leftOut },
    ...(isLocal ? { allowed: judged.allowed } : {}),
    ours: named("ours"),
    reference: named("reference"),
  };
}

/** Under which key an operation's outcome is found: the reference's of the same name is what others read. */
function outputName(point: string): string {
  return `output ${point}`;
}

/** The same of what the other file's operations read. */
function otherName(name: string): string {
  return `other ${name}`;
}

/** Everything that the operations read (by its name) and made, and both outcomes, over the rows that the chain computed. */
function tensorsOf(
  { chain, pass, ours, row: { point } }: Scene,
  computed: Pass,
  others?: ReadonlyMap<string, OtherOperation>,
): Map<string, NamedTensor> {
  const all = new Map<string, NamedTensor>();
  const last = chain.operations.at(-1)!;
  for (const { step, inputs, name, output, shape } of chain.operations) {
    for (const [i, { name: input, kind }] of step.inputs.entries()) {
      const isGiven = kind === "ids" || kind === "table";
      const source = isGiven ? "given" : pass.tensors.has(input) ? "reference" : "computed";
      const data = inputs[i];
      const own = shapeOf(input, chain, data, computed, step);
      all.set(input, { name: input, shape: own, data, source });
      const theirs = others?.get(name)?.inputs[i];
      if (theirs && theirs !== data) {
        all.set(otherName(input), { name: input, shape: own, data: theirs, source });
      }
    }
    all.set(outputName(name), { name, shape, data: output, source: "computed" });
  }
  const { shape, target } = chain;
  const at = computed.start - pass.start;
  const kernels = ours && rowsOf(point, ours, pass.start, at, computed.tokens).data;
  const data = kernels ? Float32Array.from(kernels) : last.output;
  all.set("ours", { name: point, shape, data, source: "computed" });
  all.set("reference", { name: point, shape, data: target, source: "reference" });
  return all;
}

/** The shape of what an operation reads: rows first, and what is left over last. */
function shapeOf(
  name: string,
  { operations }: Chain,
  { length }: Float32Array,
  { tokens, start }: Pass,
  step: Step,
): readonly number[] {
  const made = operations.find((each) => each.name === name);
  if (made) return made.shape;
  const { shape } = step.inputs.find((input) => input.name === name)!;
  const numbers = shape.map((dim) =>
    typeof dim === "number" ? dim : dim === "S" ? start + tokens : tokens
  );
  return sizeOf(numbers) === length ? numbers : [length];
}

function bytesOf(tensors: ReadonlyMap<string, NamedTensor>): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** One row of a tensor. */
function oneRow(tensor: NamedTensor, { start }: Pass, at: number): NamedTensor {
  const { shape, data } = rowsOf(tensor.name, tensor, start, at, 1);
  return { ...tensor, shape, data: Float32Array.from(data) };
}

/** The tensors that fit: the largest of the others are empty, and said. */
function fitting(
  tensors: ReadonlyMap<string, NamedTensor>,
  most: number,
  leftOut: string[],
): Map<string, NamedTensor> {
  let room = most;
  const kept = new Map<string, NamedTensor>();
  for (const [key, tensor] of [...tensors].sort(([, a], [, b]) => a.data.length - b.data.length)) {
    const { name, data } = tensor;
    room -= data.byteLength;
    const isKept = room >= 0;
    kept.set(key, isKept ? tensor : { ...tensor, shape: [0], data: new Float32Array() });
    if (!isKept) leftOut.push(`${name}: ${formatBytes(data.byteLength)}`);
  }
  return kept;
}

/** Rows of an operation's weights that are kept; undefined for all of them, none where there is no room. */
function wantedRows(
  { chain, file, other }: Scene,
  operation: Operation,
  leftOut: string[],
  { weights: room, wholeWeight }: typeof LIMITS,
): readonly number[] | undefined {
  const { step: { weights: [name], operation: kind }, inputs: [ids], output, target } = operation;
  if (name === undefined) return undefined;
  const { rows, perRow } = rowBytes(file, name);
  const perBoth = perRow * (other ? 2 : 1);
  if (rows === 1 || rows * perRow <= wholeWeight && rows * perBoth <= room) return undefined;
  if (operation !== chain.operations.at(-1)) {
    leftOut.push(`${name} (${formatBytes(rows * perRow)})`);
    return [];
  }
  const most = Math.max(1, Math.min(WORST_ROWS, Math.floor(room / perBoth)));
  const wanted = kind === "embed"
    ? [...new Set(ids)]
    : kind === "embed_positions"
    ? Array.from({ length: chain.operations[0].pass.tokens }, (_, i) => chain.start + i)
    : worstRows(output, target!, rows, most, rowOfOutput(operation));
  leftOut.push(`${name}: all rows but ${wanted.length} (${formatBytes(rows * perRow)})`);
  return wanted.toSorted((a, b) => a - b);
}

/** Which row of the weight makes a number of the outcome. */
function rowOfOutput(
  { step: { operation, constants: { rows } }, inputs: [, ids] }: Operation,
): (output: number) => number {
  if (operation !== "linear_experts") return (i) => i % rows;
  return (i) => ids[Math.floor(i / rows)] * rows + i % rows;
}

/** The rows of a product whose numbers are farthest off. */
function worstRows(
  ours: Float32Array,
  theirs: Float32Array,
  rows: number,
  most: number,
  rowOf: (output: number) => number,
): number[] {
  const errors = new Float64Array(rows);
  ours.forEach((value, i) => {
    const error = Math.abs(value - theirs[i]);
    const row = rowOf(i);
    errors[row] = Math.max(errors[row], Number.isNaN(error) ? Infinity : error);
  });
  return [...errors.keys()].sort((a, b) => errors[b] - errors[a]).slice(0, most);
}

async function readAll(
  file: GgufFile,
  names: readonly string[],
  rows: readonly number[] | undefined,
): Promise<WeightRows[]> {
  const read = await Promise.all(names.map((name) => readRows(file, name, rows)));
  return read.filter((each) => each !== undefined);
}

function weightBytes(weights: readonly WeightRows[]): number {
  return weights.reduce(
    (sum, { data, blocks }) => sum + 4 * data.length + (blocks?.length ?? 0),
    0,
  );
}
