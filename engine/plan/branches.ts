/** Several sequences in one pass: whole prompts of any lengths, or continuations of one. */
import { sizeOf } from "../../base/shape.ts";
import type { Session } from "../backend.ts";
import type { PassRequest } from "../pass_request.ts";
import type { HostTensor } from "../host_tensor.ts";
import { extract, pickRows } from "./compile.ts";
import type { Edit, LinearEdit } from "./edits.ts";
import {
  elementCount,
  type Lengths,
  type Plan,
  planValues,
  resolveShape,
  type Value,
} from "./plan.ts";

/** One sequence, from some position on. */
export interface Branch {
  /** Its token ids. */
  readonly ids: readonly number[];
  /** How many of the session's first positions it goes on from. Default: all. */
  readonly from?: number;
  /** How many of the last rows get logits. Default 1. */
  readonly rows?: number;
  /** Absolute positions whose rows come back; all of the branch's where left out. */
  readonly positions?: readonly number[];
  /** The ids that follow its last rows, for `surprisal`. */
  readonly nextIds?: readonly (number | undefined)[];
  /** Interventions. See {@linkcode canBranch}. */
  readonly edits?: readonly Edit[];
  /** Values that are handed in instead of being computed: dense, for its positions. All branches are given the same points. */
  readonly given?: ReadonlyMap<string, Float32Array>;
}

/** What a pass of several branches computes. */
export interface BranchesRequest extends Pick<PassRequest, "wanted" | "whole" | "lastRow"> {
  /** The sequences; all their positions together are at most `session.maxTokens`. */
  readonly branches: readonly Branch[];
}

/** Whether branches can have these edits: rows of attention and functions are for sequences that run alone. */
export function canBranch(edits: readonly Edit[], plan: Plan): boolean {
  const values = planValues(plan);
  return edits.every(({ kind, point }) =>
    kind === "linear" && values.get(point)?.shape.at(-1) !== "S"
  );
}

/**
 * Runs several sequences in one pass. Each goes on from some of the session's positions and sees nothing of the others; the session
 * stays where it is. Gives what each would have made alone, to within the order in which sums are rounded.
 *
 * @throws what {@linkcode Session.pass} throws, for all branches together
 * @throws {RangeError} for given values of another size than a branch's
 */
export async function runBranches(
  session: Session,
  plan: Plan,
  { branches, wanted = ["logits"], whole, lastRow }: BranchesRequest,
): Promise<Map<string, HostTensor>[]> {
  const start = session.position;
  const places: BranchRows[] = [];
  let [first, firstRow] = [0, 0];
  for (const { ids, rows = 1, from = start } of branches) {
    const lengths = { T: ids.length, S: from + ids.length, R: rows };
    places.push({ from, first, firstRow, slot: start + first, lengths });
    first += ids.length;
    firstRow += rows;
  }
  const values = planValues(plan);
  const edits = branches.flatMap(({ edits = [] }, i) =>
    edits.map((edit) => moved(edit as LinearEdit, places[i]))
  );
  const tensors = await session.pass({
    ids: branches.flatMap(({ ids }) => ids),
    rows: firstRow,
    branches: places.map(({ from, lengths }) => ({ from, tokens: lengths.T, rows: lengths.R })),
    wanted,
    nextIds: branches.flatMap(({ rows = 1, nextIds }) =>
      Array.from({ length: rows }, (_, i) => nextIds?.[i])
    ),
    given: givenOf(branches, places, values, { T: first, S: start + first, R: firstRow }),
    ...(edits.length > 0 ? { edits } : {}),
  });
  return branches.map(({ ids, positions }, i) =>
    new Map(wanted.map((name) => {
      const value = values.get(name)!;
      const own = partOf(value, tensors.get(name)!, places[i]);
      const last = lastRow?.includes(name) ? [places[i].from + ids.length - 1] : undefined;
      const kept = last ?? (whole?.includes(name) ? undefined : positions);
      return [name, pickRows(own, extract(value, places[i].lengths, places[i].from, kept))];
    }))
  );
}

/** Where a branch's rows lie. */
interface BranchRows {
  /** Positions that it goes on from. */
  readonly from: number;
  /** Its first row, of all and of those with logits. */
  readonly first: number;
  readonly firstRow: number;
  /** The slot of its first row. */
  readonly slot: number;
  /** Those of its pass if it ran alone. */
  readonly lengths: Lengths;
}

/** An edit of one branch, as one of the whole pass: positions are slots there. */
function moved(edit: LinearEdit, { from, slot, lengths }: BranchRows): LinearEdit {
  const own = Array.from({ length: lengths.T }, (_, i) => from + i);
  const positions = (edit.where?.positions ?? own)
    .filter((position) => position >= from && position < from + lengths.T)
    .map((position) => position + slot - from);
  const { rows } = edit;
  return {
    ...edit,
    where: { ...edit.where, positions },
    ...(rows ? { rows: { ...rows, firstPosition: rows.firstPosition + slot - from } } : {}),
  };
}

/** What the branches are given, as values of the whole pass. */
function givenOf(
  branches: readonly Branch[],
  places: readonly BranchRows[],
  values: ReadonlyMap<string, Value>,
  lengths: Lengths,
): Map<string, Float32Array> | undefined {
  const names = new Set(branches.flatMap(({ given }) => [...given?.keys() ?? []]));
  if (names.size === 0) return undefined;
  return new Map([...names].map((name) => {
    const value = values.get(name);
    // The pass refuses it.
    if (!value) return [name, new Float32Array(0)];
    const shape = resolveShape(value.shape, lengths);
    const all = new Float32Array(elementCount(value.shape, lengths));
    branches.forEach(({ given }, i) => {
      const data = given?.get(name);
      const size = elementCount(value.shape, places[i].lengths);
      if (data?.length !== size) {
        throw new RangeError(
          `Cannot resume branch ${i} from ${
            data?.length ?? 0
          } numbers of ${name}: it has ${size} there`,
        );
      }
      let at = 0;
      for (const [begin, count] of runsOf(value, shape, places[i])) {
        all.set(data.subarray(at, at + count), begin);
        at += count;
      }
    });
    return [name, all];
  }));
}

/** A branch's part of a tensor of the whole pass. */
function partOf(value: Value, tensor: HostTensor, place: BranchRows): HostTensor {
  const shape = resolveShape(value.shape, place.lengths);
  const data = new Float32Array(elementCount(value.shape, place.lengths));
  let at = 0;
  for (const [begin, count] of runsOf(value, tensor.shape, place)) {
    data.set(tensor.data.subarray(begin, begin + count), at);
    at += count;
  }
  return { shape, data };
}

/** The numbers of a branch's part of a tensor of the whole pass, in order: where runs of them begin, and how long they are. */
function* runsOf(
  value: Value,
  shape: readonly number[],
  { from, first, firstRow, slot, lengths }: BranchRows,
): Generator<readonly [begin: number, count: number]> {
  const parts = value.shape.map((dim): (readonly [number, number])[] => {
    switch (dim) {
      case "T":
        return [[first, lengths.T]];
      case "R":
        return [[firstRow, lengths.R]];
      case "S":
        return [[0, from], [slot, lengths.T]];
      default:
        return [[0, dim]];
    }
  });
  // Behind the last axis of which there is a part, numbers lie in one run.
  const axis = value.shape.findLastIndex((dim) => typeof dim === "string");
  const inner = (axis: number) => sizeOf(shape.slice(axis + 1));
  function* runs(at: number, offset: number): Generator<readonly [number, number]> {
    for (const [begin, count] of parts[at]) {
      const size = inner(at);
      if (at === axis) yield [offset + begin * size, count * size];
      else for (let i = begin; i < begin + count; i++) yield* runs(at + 1, offset + i * size);
    }
  }
  yield* runs(0, 0);
}
