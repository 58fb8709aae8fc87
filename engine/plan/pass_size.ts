/** How many positions one pass takes, so that each of its values fits in a buffer. */
import type { PassRequest } from "../pass_request.ts";
import { CAPACITY_STEP, CapacityError, mebibytes, type Room } from "../model/capacity.ts";
import { EditError } from "./edits.ts";
import { fuse } from "./passes/fuse.ts";
import { select } from "./passes/select.ts";
import { elementCount, type Plan, planValues, type Value } from "./plan.ts";

/** What the passes of a session will ask for, as far as the size of their values depends on it. */
export interface PassKind extends Pick<PassRequest, "wanted" | "edits"> {
  /** Points beside those that come back: given ones, and those that are looked at step by step. */
  readonly points?: readonly string[];
  /** Whether only the last row gets logits. */
  readonly oneRow?: boolean;
  /** Whether passes run step by step: nothing is fused then. Those with function edits do. */
  readonly stepwise?: boolean;
}

/**
 * The most positions that a pass of a session takes: `most`, or a half, a quarter, … of them. Of many points that come back it takes
 * fewer, too, so that they do not fill the device.
 *
 * @param capacity positions of the session
 * @throws {CapacityError} where not even one position fits
 * @throws {EditError} where the rows of an edit do not fit
 */
export function passTokens(
  plan: Plan,
  kind: PassKind,
  { capacity, most, room }: { capacity: number; most: number; room: Room },
): number {
  const { wanted = ["logits"], edits = [], points = [], oneRow = false } = kind;
  for (const edit of edits) {
    const bytes = edit.kind === "linear" ? (edit.rows?.data.byteLength ?? 0) : 0;
    if (bytes <= room.buffer) continue;
    throw new EditError(
      edit.point,
      `the rows given take ${mebibytes(bytes)}, a buffer can have ${mebibytes(room.buffer)}; ` +
        "give those of fewer positions",
    );
  }
  const names = new Set([...wanted, ...points]);
  const stepwise = kind.stepwise || edits.some((edit) => edit.kind === "function");
  const selected = select(plan, names);
  for (const { point } of edits) names.add(point);
  const steps = stepwise ? selected : fuse(selected, { wanted: names, adjacent: () => false });
  const made = [...planValues(steps).values()].filter(({ kind }) => kind === "result");
  const back = made.filter(({ name }) => wanted.includes(name));

  const bytes = (value: Value, T: number, S: number) =>
    4 * elementCount(value.shape, { T, S, R: oneRow ? 1 : T });
  const excess = (T: number, S: number) => made.find((value) => bytes(value, T, S) > room.buffer);
  const slots = (positions: number) => Math.ceil(positions / CAPACITY_STEP) * CAPACITY_STEP;
  for (let T = most; T > 1; T = Math.floor(T / 2)) {
    if (excess(T, slots(capacity))) continue;
    const together = back.reduce((sum, value) => sum + bytes(value, T, slots(capacity)), 0);
    if (together <= (room.together ?? Infinity)) return T;
  }
  const large = excess(1, slots(capacity));
  if (!large) return 1;
  const row = bytes(large, 1, CAPACITY_STEP);
  throw new CapacityError(
    capacity,
    large.shape.includes("S") ? Math.floor(room.buffer / row) * CAPACITY_STEP : 0,
    `one position of ${large.name} can have ${mebibytes(room.buffer)}`,
  );
}
