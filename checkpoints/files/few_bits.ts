/** Whether numbers that are stored in many bits are ones that few bits hold: they were rounded on their way. */

/** 16-bit types that can hold every number of a tensor. */
export type HalfType = "bf16" | "f16";

/** What few bits hold all numbers of a matrix. */
export interface FewBits {
  /** In words: `bf16`, `4 bits in equal steps in each row`. */
  readonly what: string;
  /** The NMSE, Σ(b − a)² / Σa², that rounding to it, or cutting off, makes at most, about: what is farther off was not only rounded. */
  readonly nmse: number;
}

/** Largest relative error of the floats, squared: a unit in the last place; of 8-bit ones also what their smallest numbers lose. */
const FLOAT_NMSE: Readonly<Record<string, number>> = {
  "f8 (e4m3)": 0.02,
  "f8 (e5m2)": 0.06,
  bf16: 2 ** -14,
  f16: 2 ** -20,
};
/** Of n bits in equal steps: a third of a step squared, of numbers whose largest is up to 20 times their root mean square. */
const GRID_NMSE = 128;
/** More than this is no rounding. */
const MOST_NMSE = 0.3;
/** Half a unit in the last place, as a share: how far a number is from what it was before it was held in 16 bits. */
const UNITS: Readonly<Record<HalfType, number>> = { bf16: 2 ** -8, f16: 2 ** -11 };
/** Bits by which numbers stand nearer to a grid's than by chance. */
const EVIDENCE = 24;
/** The smallest number of a row is so many steps at most. */
const MOST_FIRST = 8;

/** Numbers besides zeros that say something. */
const ENOUGH = 32;
/** Steps of a grid are equal within this part of one: 32-bit products of an integer and a scale are. */
const EQUAL = 1e-3;
/** Different numbers that do not stand on one grid by chance. */
const MANY = 8;
/** Most bits of a grid that are looked for. */
const MOST_BITS = 8;
/** Entries of a table, at most, and the numbers that there must be of each on the average. */
const TABLE = 256;
const PER_ENTRY = 16;

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** The bits of a number as an f32. */
function bitsOf(value: number): number {
  floats[0] = value;
  return words[0];
}

const HOLDS: Readonly<Record<string, (value: number) => boolean>> = {
  // Three and two bits after the point; normal numbers only go down to 2⁻⁶ and 2⁻¹⁴.
  "f8 (e4m3)": (value) =>
    Math.abs(value) <= 448 &&
    (Math.abs(value) < 2 ** -6
      ? Number.isInteger(value * 2 ** 9)
      : (bitsOf(value) & 0xfffff) === 0),
  "f8 (e5m2)": (value) =>
    Math.abs(value) <= 57344 &&
    (Math.abs(value) < 2 ** -14
      ? Number.isInteger(value * 2 ** 16)
      : (bitsOf(value) & 0x1fffff) === 0),
  bf16: (value) => (bitsOf(value) & 0xffff) === 0,
  f16: (value) => Math.f16round(value) === value,
};

/**
 * The type of floats, the smallest first, that holds every number; undefined where none does, or where there are too few numbers to
 * say so. Whatever is not finite counts for nothing.
 */
export function floatHolding(
  numbers: Float32Array | Float64Array,
  types: readonly string[] = Object.keys(HOLDS),
): string | undefined {
  return types.find((type) => {
    const holds = HOLDS[type];
    let count = 0;
    for (const value of numbers) {
      if (value === 0 || !Number.isFinite(value)) continue;
      if (Math.fround(value) !== value || !holds(value)) return false;
      count++;
    }
    return count >= ENOUGH;
  });
}

/**
 * What few bits hold every number of a matrix [rows, columns]; undefined where none do: a float type, equal steps in each row or in all
 * of it (these also where 16 bits hold the products), or a table of few entries.
 */
export function fewBits(numbers: Float32Array, columns: number): FewBits | undefined {
  const float = floatHolding(numbers);
  const held = float === undefined ? undefined : { what: float, nmse: FLOAT_NMSE[float] };
  if (float?.startsWith("f8")) return held;
  const steps = (bits: number, where: string): FewBits => ({
    what: `${bits} bits in equal steps${where}`,
    nmse: Math.min(MOST_NMSE, GRID_NMSE / 4 ** bits),
  });
  const grid = gridBits(numbers);
  if (grid !== undefined) return steps(grid, "");
  const perRow = rowBits(numbers, columns, gridBits) ??
    (float === undefined
      ? undefined
      : rowBits(numbers, columns, (row) => heldGridBits(row, UNITS[float as HalfType])));
  if (perRow !== undefined) return steps(perRow, " in each row");
  const table = tableOf(numbers);
  if (table === undefined) return held;
  return {
    what: `one of ${table} different numbers`,
    nmse: Math.min(MOST_NMSE, GRID_NMSE / table ** 2),
  };
}

/** The most bits of a row; undefined where one has no few. */
function rowBits(
  numbers: Float32Array,
  columns: number,
  bitsOf: (row: Float32Array) => number | undefined,
): number | undefined {
  let most = 0;
  for (let first = 0; first < numbers.length; first += columns) {
    const row = numbers.subarray(first, first + columns);
    if (row.every((value) => value === 0)) continue;
    const bits = bitsOf(row);
    if (bits === undefined) return undefined;
    most = Math.max(most, bits);
  }
  return most > 0 ? most : undefined;
}

/** Bits of the whole numbers that all are, times one step; undefined where they are none, or too few to say so. */
function gridBits(numbers: Float32Array): number | undefined {
  const distinct = distinctOf(numbers, 2 ** MOST_BITS);
  // What so few numbers have in common may be chance.
  if (!distinct || distinct.length < 3) return undefined;
  if (distinct.length < MANY && numbers.length < PER_ENTRY * distinct.length) return undefined;
  let step = Infinity;
  for (let i = 1; i < distinct.length; i++) step = Math.min(step, distinct[i] - distinct[i - 1]);
  const steps = (distinct.at(-1)! - distinct[0]) / step;
  if (Math.round(steps) >= 2 ** MOST_BITS) return undefined;
  const first = distinct[0];
  const isOnGrid = (value: number) => {
    const place = (value - first) / step;
    return Math.abs(place - Math.round(place)) <= EQUAL * Math.max(1, steps / 16);
  };
  if (!distinct.every(isOnGrid)) return undefined;
  return Math.max(2, Math.ceil(Math.log2(Math.round(steps) + 1)));
}

/**
 * The same of whole numbers times a step that were rounded to floats: each says in what range the step is.
 *
 * @param unit how far a number may have been moved, as a share
 */
function heldGridBits(numbers: Float32Array, unit: number): number | undefined {
  const sizes = distinctOf(numbers.map(Math.abs), 2 ** (MOST_BITS - 1))?.filter((size) => size > 0);
  if (!sizes || sizes.length < 2) return undefined;
  for (let first = 1; first <= MOST_FIRST; first++) {
    let [low, high] = [0, Infinity];
    let [evidence, place] = [0, first];
    for (const size of sizes) {
      if (high < Infinity) {
        const range = [size * (1 - unit) / high, size * (1 + unit) / low];
        place = Math.round((range[0] + range[1]) / 2);
        evidence -= Math.log2(Math.min(1, range[1] - range[0]));
      }
      low = Math.max(low, size * (1 - unit) / place);
      high = Math.min(high, size * (1 + unit) / place);
      if (low > high) break;
    }
    if (low > high || evidence < EVIDENCE || place >= 2 ** (MOST_BITS - 1)) continue;
    return Math.max(2, Math.ceil(Math.log2(2 * place + 1)));
  }
}

function tableOf(numbers: Float32Array): number | undefined {
  const distinct = distinctOf(numbers, TABLE);
  if (!distinct || distinct.length < 3) return undefined;
  return numbers.length >= PER_ENTRY * distinct.length ? distinct.length : undefined;
}

/** The different numbers, ascending; undefined where they are more than `most`. */
function distinctOf(numbers: Float32Array, most: number): number[] | undefined {
  const found = new Set<number>();
  for (const value of numbers) {
    found.add(value);
    if (found.size > most) return undefined;
  }
  return [...found].sort((a, b) => a - b);
}
