/** How many positions a session has room for, checked before anything is made for it. */
import type { Config } from "./config.ts";
import { isGranted } from "../../base/permission.ts";
import { elementCount, type Plan, planValues } from "../plan/plan.ts";

/** More positions than there is room for. */
export class CapacityError extends RangeError {
  /** The class's name. */
  override readonly name = "CapacityError";
  /**
   * Thrown where a session is to begin, before anything is made for it.
   *
   * @param positions how many were asked for
   * @param most how many fit
   * @param reason what there is too little of
   */
  constructor(
    readonly positions: number,
    readonly most: number,
    reason: string,
  ) {
    super(
      `Cannot keep ${positions} positions: ${reason}, enough for ${most}; ` +
        "lower --max-tokens (maxTokens), or shorten the prompt",
    );
  }
}

/** The room that a session can have, in bytes. */
export interface Room {
  /** Of one buffer. */
  readonly buffer: number;
  /** Of all together, where that is known. */
  readonly total?: number;
  /** Of what one pass brings back, about. */
  readonly together?: number;
}

/** Capacities are rounded up to a multiple, so that what was made for one prompt serves others of about the same length. */
export const CAPACITY_STEP = 64;

/** @throws {CapacityError} where the caches and the RoPE table of so many positions do not fit */
export function checkCapacity(positions: number, config: Config, plan: Plan, room: Room): void {
  const caches = [...planValues(plan).values()].filter(({ kind }) => kind === "cache");
  const rows = caches.map(({ shape }) => 4 * elementCount(shape, { T: 1, S: 1, R: 1 }));
  rows.push(...config.ropes.map(({ width }) => 4 * width));
  const largest = Math.max(...rows);
  const sum = rows.reduce((total, row) => total + row, 0);
  const check = (bytes: number, row: number, reason: string) => {
    const most = Math.floor(bytes / row / CAPACITY_STEP) * CAPACITY_STEP;
    if (positions > most) throw new CapacityError(positions, most, reason);
  };
  check(room.buffer, largest, `a layer's cache can have ${mebibytes(room.buffer)}`);
  const { total = Infinity } = room;
  check(total, sum, `${mebibytes(total)} of memory are free for the KV cache`);
}

/** Bytes of this machine's memory that are free; undefined where it may not be asked. */
export function freeMemory(): number | undefined {
  const allowed = isGranted({ name: "sys", kind: "systemMemoryInfo" });
  return allowed ? Deno.systemMemoryInfo().available : undefined;
}

/** Bytes in words, rounded down. */
export function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 2 ** 20)} MiB`;
}
