/** What formulas are written in: an operation at one place, and the sums and rows that they are made of. */
import type { Pass } from "../../../../kernels/kernel.ts";
import type { ElementPlace } from "../../compare.ts";
import type { NamedTensor, Settings } from "../evidence.ts";

/** A number of an operation, computed by hand. */
export interface Formula {
  /** What is computed, with names, places and constants. */
  readonly text: string;
  /** Numbers on the way to it. */
  readonly facts: readonly (readonly [name: string, value: number])[];
  /** What is summed up, the largest first; undefined where nothing is. */
  readonly terms?: Terms;
  /** The outcome, not rounded; undefined where something that it needs was left out, which `text` says. */
  readonly value?: number;
  /** Magnitudes that are summed up on the way to it: what a rounding error is measured by. */
  readonly size: number;
}

/** What an operation's formula says; its size is that of the outcome unless something larger goes into it. */
export type Said = Omit<Formula, "size"> & { readonly size?: number };

/** The terms of a sum. */
export interface Terms {
  /** What the numbers of a row are; the last one is the term. */
  readonly columns: readonly string[];
  /** The largest ones. */
  readonly rows: readonly (readonly number[])[];
  /** How many there are in all. */
  readonly count: number;
  /** The sum of those that are not listed. */
  readonly others: number;
}

/** An operation at one place. */
export interface At extends Settings {
  readonly output: NamedTensor;
  readonly pass: Pass;
  readonly place: ElementPlace;
  /** Row of the pass, and the head or 0. */
  readonly token: number;
  readonly head: number;
  /** Its element of the output. */
  readonly element: number;
}

/** Terms that are listed. */
const LISTED = 8;

/** Formulas by operation. */
export type Formulas = Readonly<Record<string, (at: At) => Said>>;

/** A formula that needs a row of a weight: without a value where it was left out. */
export function ofWeight(
  name: string,
  row: number,
  value: number | undefined,
  { text, ...rest }: { readonly text: string } & Partial<Said>,
): Said {
  if (value !== undefined) return { text, facts: [], value, ...rest };
  return { text: `${text}; row ${row} of ${name} is not in the bundle: give --model`, facts: [] };
}

/** A row of a tensor. */
export function rowAt({ data }: NamedTensor, row: number, width: number): Float32Array {
  return data.subarray(row * width, (row + 1) * width);
}

/** Sums up terms, which stand last in their rows, and lists the largest. */
export function termsOf(columns: readonly string[], count: number, row: (i: number) => number[]) {
  const rows = Array.from({ length: count }, (_, i) => row(i));
  const term = (each: readonly number[]) => each.at(-1)!;
  const sum = rows.reduce((total, each) => total + term(each), 0);
  const size = rows.reduce((total, each) => total + Math.abs(term(each)), 0);
  // What is no number is seen first.
  const weight = (each: readonly number[]) =>
    Number.isNaN(term(each)) ? Infinity : Math.abs(term(each));
  const sorted = rows.toSorted((a, b) => Math.sign(weight(b) - weight(a)) || 0);
  const others = sorted.slice(LISTED).reduce((total, each) => total + term(each), 0);
  const terms: Terms = { columns, rows: sorted.slice(0, LISTED), count, others };
  return { sum, size, terms };
}
