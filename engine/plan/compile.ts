/** From a request to the steps that serve it, and to the rows of its results. */
import { sizeOf } from "../../base/shape.ts";
import type { PassRequest } from "../pass_request.ts";
import type { HostTensor } from "../host_tensor.ts";
import { EditError, type FunctionEdit } from "./edits.ts";
import { applyEdits } from "./passes/edit.ts";
import { select } from "./passes/select.ts";
import { type Dim, type Lengths, type Plan, planValues, resolveShape, type Value } from "./plan.ts";

/** The steps of one kind of pass. */
export interface Compiled {
  /** Edited and selected, not fused. */
  readonly plan: Plan;
  /** What edits and given values bring along, by value name. */
  readonly operands: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  readonly wanted: ReadonlySet<string>;
}

/**
 * Edits the plan and leaves out what the request does not need.
 *
 * @throws {RangeError} for an unknown point
 * @throws {EditError} for an edit that cannot be made
 */
export function compile(plan: Plan, request: PassRequest, capacity: number): Compiled {
  const { wanted = ["logits"], edits = [], given = new Map() } = request;
  const values = planValues(plan);
  for (const name of [...wanted, ...given.keys()]) {
    if (!values.has(name)) {
      throw new RangeError(`Cannot capture ${name}: the plan has no such point`);
    }
  }
  const edited = applyEdits(plan, edits, capacity);
  const operands = new Map(edited.operands);
  for (const [name, data] of given) operands.set(name, data.slice());
  const points = new Set(wanted);
  const selected = select(edited.plan, points, new Set(given.keys()));
  return { plan: selected, operands, wanted: points };
}

/** The function edit that a `host` step stands for. */
export function hostEdit(
  request: PassRequest,
  constants: Readonly<Record<string, number>>,
): FunctionEdit {
  return request.edits![constants.edit] as FunctionEdit;
}

/** @throws {EditError} when a function returned another number of values than it was given */
export function checkLength(edit: FunctionEdit, data: Float32Array, tensor: HostTensor): void {
  if (data.length === tensor.data.length) return;
  throw new EditError(
    edit.point,
    `the function returned ${data.length} numbers where the value has ${tensor.data.length} (${
      tensor.shape.join(" × ")
    })`,
  );
}

/** A value, as far as its rows go. */
type Shaped = Pick<Value, "shape">;

/** The absolute position of a value's first row in a pass that begins at `start`. */
export function firstPosition({ shape }: Shaped, { T, R }: Lengths, start: number): number {
  const dim = shape.find((dim) => typeof dim === "string");
  return dim === "S" ? 0 : dim === "R" ? start + T - R : start;
}

/** A run of numbers of a value, in numbers from its beginning. */
export interface Region {
  readonly offset: number;
  readonly count: number;
}

/** Which numbers of a value come back, and as which shape. */
export interface Extract {
  readonly shape: readonly number[];
  readonly regions: readonly Region[];
  readonly positions?: readonly number[];
}

/**
 * The rows of a value at the given absolute positions (all of them without): rows of the first axis, or of the second where the
 * first is heads. Neighbouring rows become one region.
 */
export function extract(
  value: Shaped,
  lengths: Lengths,
  start: number,
  positions?: readonly number[],
): Extract {
  const shape = resolveShape(value.shape, lengths);
  const axis = value.shape.findIndex((dim: Dim) => typeof dim === "string");
  const size = sizeOf(shape);
  if (!positions || value.shape.length < 2) return { shape, regions: [{ offset: 0, count: size }] };
  const first = firstPosition(value, lengths, start);
  const kept = positions.filter((position) => position >= first && position < first + shape[axis]);
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const regions: Region[] = [];
  for (let block = 0; block < outer; block++) {
    for (const position of kept) {
      const offset = (block * shape[axis] + position - first) * inner;
      const last = regions.at(-1);
      if (last && last.offset + last.count === offset) {
        regions[regions.length - 1] = { offset: last.offset, count: last.count + inner };
      } else regions.push({ offset, count: inner });
    }
  }
  return { shape: shape.with(axis, kept.length), regions, positions: kept };
}

/** The extracted rows of a whole tensor. */
export function pickRows(tensor: HostTensor, { shape, regions, positions }: Extract): HostTensor {
  if (!positions) return tensor;
  const data = new Float32Array(sizeOf(shape));
  let at = 0;
  for (const { offset, count } of regions) {
    data.set(tensor.data.subarray(offset, offset + count), at);
    at += count;
  }
  return { shape, data, positions };
}
