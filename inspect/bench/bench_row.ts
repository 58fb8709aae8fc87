/** A line of the bench. */
import type { Spread } from "./rounds.ts";

/** What a line is about. In this order they are shown: ratios first. */
export const SECTIONS = [
  "against others",
  "against the device",
  "against itself",
  "speed",
  "memory",
  "device",
] as const;
/** One of them. */
export type Section = typeof SECTIONS[number];

/** Something that was measured. */
export interface BenchRow extends Spread {
  readonly section: Section;
  /** In words: `prefill, 128 tokens`. */
  readonly what: string;
  /** The other engine that a ratio is to, or that a speed is of; undefined for Lamina's own. */
  readonly engine?: string;
  /**
   * `×` against others is our speed over theirs, against itself time over time; `%` is a share of what the device can do.
   */
  readonly unit: "×" | "%" | "tokens/s" | "ms" | "µs" | "GB/s" | "GFLOP/s" | "MB";
  /** What the median is to be at least. */
  readonly atLeast?: number;
  /** What the median may be at most. */
  readonly atMost?: number;
  /** The median of ours against the other's best round. */
  readonly againstBest?: number;
  /** Bytes that were captured. */
  readonly bytes?: number;
  /** The best of some variants, and the like. */
  readonly note?: string;
}

/** Whether a line keeps what it is to keep; undefined where it is to keep nothing. */
export function isKept({ median, atLeast, atMost }: BenchRow): boolean | undefined {
  if (atLeast === undefined && atMost === undefined) return undefined;
  return median >= (atLeast ?? -Infinity) && median <= (atMost ?? Infinity);
}
