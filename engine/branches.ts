/** Several sequences in one pass: whole prompts of any lengths, or continuations of one. */
import type { HostTensor, PassRequest, Session } from "./backend.ts";
import { extract, pickRows } from "./compile.ts";
import type { Edit, LinearEdit } from "./edits.ts";
import { type Lengths, type Plan, planValues, type Value } from "./plan.ts";

/** One sequence, from the session's position on. */
export interface Branch {
  /** Its token ids. */
  readonly ids: readonly number[];
  /** How many of the last rows get logits. Default 1. */
  readonly rows?: number;
  /** Absolute positions whose rows come back; all of the branch's where left out. */
  readonly positions?: readonly number[];
  /** Interventions. See {@linkcode canBranch}. */
  readonly edits?: readonly Edit[];
}

/** What a pass of several branches computes. */
export interface BranchesRequest extends Pick<PassRequest, "wanted" | "whole"> {
  /** The sequences; all their positions together are at most `session.maxTokens`. */
  readonly branches: readonly Branch[];
  /** Values that are handed in: rows of all branches, one behind another. Not of attention. */
  readonly given?: ReadonlyMap<string, Float32Array>;
}

/** Whether branches can have these edits: rows of attention and functions are for sequences that run alone. */
export function canBranch(edits: readonly Edit[], plan: Plan): boolean {
  const values = planValues(plan);
  return edits.every(({ kind, point }) =>
    kind === "linear" && values.get(point)?.shape.at(-1) !== "S"
  );
}

/**
 * Runs several sequences in one pass. Each goes on from the session's position and sees nothing of the others; the session stays
 * where it is. Gives what each would have made alone, to within the order in which sums are rounded.
 *
 * @throws what {@linkcode Session.pass} throws, for all branches together
 */
export async function runBranches(
  session: Session,
  plan: Plan,
  { branches, wanted = ["logits"], whole, given }: BranchesRequest,
): Promise<Map<string, HostTensor>[]> {
  const start = session.position;
  const places: Place[] = [];
  let [first, firstRow] = [0, 0];
  for (const { ids, rows = 1 } of branches) {
    places.push({ first, firstRow, lengths: { T: ids.length, S: start + ids.length, R: rows } });
    first += ids.length;
    firstRow += rows;
  }
  const edits = branches.flatMap(({ edits = [] }, i) =>
    edits.map((edit) => moved(edit as LinearEdit, places[i], start))
  );
  const tensors = await session.pass({
    ids: branches.flatMap(({ ids }) => ids),
    rows: firstRow,
    branches: places.map(({ lengths }) => ({ tokens: lengths.T, rows: lengths.R })),
    wanted,
    given,
    ...(edits.length > 0 ? { edits } : {}),
  });
  const values = planValues(plan);
  return branches.map(({ positions }, i) =>
    new Map(wanted.map((name) => {
      const value = values.get(name)!;
      const own = partOf(value, tensors.get(name)!, places[i], start);
      const kept = whole?.includes(name) ? undefined : positions;
      return [name, pickRows(own, extract(value, places[i].lengths, start, kept))];
    }))
  );
}

/** Where a branch's rows lie. */
interface Place {
  /** Its first row, of all and of those with logits. */
  readonly first: number;
  readonly firstRow: number;
  /** Those of its pass if it ran alone. */
  readonly lengths: Lengths;
}

/** An edit of one branch, as one of the whole pass: positions are slots there. */
function moved(edit: LinearEdit, { first, lengths }: Place, start: number): LinearEdit {
  const own = Array.from({ length: lengths.T }, (_, i) => start + i);
  const positions = (edit.where?.positions ?? own)
    .filter((position) => position >= start && position < start + lengths.T)
    .map((position) => position + first);
  const { rows } = edit;
  return {
    ...edit,
    where: { ...edit.where, positions },
    ...(rows ? { rows: { ...rows, firstPosition: rows.firstPosition + first } } : {}),
  };
}

/** A branch's part of a tensor of the whole pass. */
function partOf(value: Value, tensor: HostTensor, place: Place, start: number): HostTensor {
  const { first, firstRow, lengths } = place;
  const runs = tensor.shape.map((size, axis): (readonly [number, number])[] => {
    switch (value.shape[axis]) {
      case "T":
        return [[first, lengths.T]];
      case "R":
        return [[firstRow, lengths.R]];
      case "S":
        return [[0, start], [start + first, lengths.T]];
      default:
        return [[0, size]];
    }
  });
  const shape = runs.map((each) => each.reduce((sum, [, count]) => sum + count, 0));
  const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let to = 0;
  const copy = (axis: number, from: number) => {
    const inner = tensor.shape.slice(axis + 1).reduce((product, size) => product * size, 1);
    const last = runs.slice(axis + 1).every(([[, count]], i) =>
      count === tensor.shape[axis + 1 + i]
    );
    for (const [begin, count] of runs[axis]) {
      if (last) {
        const at = from + begin * inner;
        data.set(tensor.data.subarray(at, at + count * inner), to);
        to += count * inner;
      } else {
        for (let i = begin; i < begin + count; i++) copy(axis + 1, from + i * inner);
      }
    }
  };
  copy(0, 0);
  return { shape, data };
}
