/**
 * The local verdict of an engine that rounds. What rounding may make of a point is computed from what the reference shows: each number's
 * deviation is a sum of many small ones of either sign, so that its spread tells how far off the worst of many may be, and the
 * root mean square of a whole row lies close to what the spread says.
 */
import {
  compareTensors,
  type Difference,
  isAttention,
  localAllowance,
  placesOf,
  shareOf,
} from "../compare.ts";
import type { LocalValue } from "../local.ts";
import { type ChainModel, type Deviation, RoundedChains } from "./rounded_chain.ts";
import { type RoundedType, UNIT } from "./rounding.ts";
import type { ReferencePass } from "../../references/reference.ts";

/** Spreads by which a number may be off: of normal ones one in 10⁹ is farther, and there are some 10⁷ in a pass of 60 tokens of SmolLM2. */
const SPREADS = 6;
/** How much larger the root mean square of a row may be than that of the tries, which round at other places than the engine. */
const ROW_FACTOR = 3;
/** Numbers from which on a row's root mean square says something. */
const LEAST_WIDTH = 16;
/** Positions that are computed at a time: those that are farthest off. */
const POSITIONS = 8;
/** Of positions that would take too much work it is known how far off others are, as a part of their rows; they may be that many times farther. */
const UNCOMPUTED_FACTOR = 2;

/** A row of a local value: along the last axis, of attention the visible keys. */
interface Row {
  readonly first: number;
  readonly end: number;
  /** Place of its position in the pass; below 0 for slots of a cache that an earlier pass wrote. */
  readonly at: number;
  /** Where its first number is in that position's. */
  readonly within: number;
}

/** A row's verdict. */
interface RowVerdict {
  readonly share: number;
  readonly worst: number;
  readonly allowed: number;
}

/** Judges what an engine shows whose activations are of a type that rounds. */
export function roundedJudge(
  model: ChainModel,
  type: RoundedType,
): (value: LocalValue, pass: ReferencePass) => Promise<Difference> {
  const chains = new RoundedChains(model, type);
  const known = new WeakMap<ReferencePass, Map<string, Map<number, Deviation>>>();
  return async (value, pass) => {
    const { point, ours, reference, start } = value;
    const difference = compareTensors(point, ours, reference, localAllowance(point), start);
    const rows = rowsOfValue(value, pass);
    const verdicts = rows.map((row) => judgeRow(value, row, type));
    let points = known.get(pass);
    if (!points) known.set(pass, points = new Map());
    let deviations = points.get(point);
    if (!deviations) points.set(point, deviations = new Map());
    const judged = new Set<number>();
    for (;;) {
      // What rounding the outcome alone explains needs no more.
      const open = openPositions(rows, verdicts, judged);
      if (open.length === 0) break;
      for (const at of open) judged.add(at);
      const missing = open.filter((at) => !deviations.has(at));
      if (missing.length > 0) {
        for (const [at, found] of await chains.deviations(pass, point, missing)) {
          deviations.set(at, found);
        }
      }
      rejudge(value, rows, verdicts, deviations, judged, type);
      // One that is too far off decides.
      if (rows.some(({ at }, i) => judged.has(at) && verdicts[i].share > 1)) break;
    }
    return withVerdict(difference, value, verdicts);
  };
}

/** Positions that are not computed yet and too far off by what is known, the farthest first. */
function openPositions(
  rows: readonly Row[],
  verdicts: readonly RowVerdict[],
  judged: ReadonlySet<number>,
): number[] {
  const shares = new Map<number, number>();
  rows.forEach(({ at }, i) => {
    const { share } = verdicts[i];
    if (share > 1 && at >= 0 && !judged.has(at)) {
      shares.set(at, Math.max(share, shares.get(at) ?? 0));
    }
  });
  return [...shares].sort((a, b) => b[1] - a[1]).slice(0, POSITIONS).map(([at]) => at);
}

/** Judges rows anew: by what is computed of their positions, or else by what is usual in others. */
function rejudge(
  value: LocalValue,
  rows: readonly Row[],
  verdicts: RowVerdict[],
  deviations: ReadonlyMap<number, Deviation>,
  judged: ReadonlySet<number>,
  type: RoundedType,
): void {
  const { most, ...usual } = usualOf(value, rows, deviations);
  rows.forEach((row, i) => {
    if (row.at < 0) return;
    const own = deviations.get(row.at);
    const tooMuch = !own && judged.has(row.at);
    const mean = tooMuch ? UNCOMPUTED_FACTOR ** 2 * most : usual.mean;
    verdicts[i] = judgeRow(value, row, type, { ...usual, own, mean });
  });
}

/** What is known of deviations in a position, and of those in others. */
interface Known {
  readonly own?: Deviation;
  /** Mean square of deviations as a part of their row's: the mean of all rows that were computed. */
  readonly mean: number;
  /** Of each number of a position, its mean square as a part of its row's. */
  readonly columns?: Float64Array;
}

function usualOf(
  { reference: { data }, point }: LocalValue,
  rows: readonly Row[],
  deviations: ReadonlyMap<number, Deviation>,
): Known & { readonly most: number } {
  let [sum, count, most] = [0, 0, 0];
  let columns: Float64Array | undefined;
  for (const { first, end, at, within } of rows) {
    const own = deviations.get(at);
    if (!own) continue;
    const size = meanSquare(data, first, end);
    const moved = mean(own.squares, within, within + end - first);
    if (!(size > 0) || !(size < Infinity)) continue;
    sum += moved / size;
    count++;
    most = Math.max(most, moved / size);
    if (isAttention(point) || !(moved > 0)) continue;
    columns ??= new Float64Array(own.squares.length);
    for (let i = first; i < end; i++) {
      columns[within + i - first] += own.squares[within + i - first] / moved;
    }
  }
  const perPosition = columns ? columns.length : 1;
  const positions = count / Math.max(1, perPosition / (rows[0].end - rows[0].first));
  return {
    mean: count > 0 ? sum / count : 0,
    most,
    columns: columns?.map((each) => each / positions),
  };
}

/** A row against what rounding its outcome allows, and what is known of the roundings before that. */
function judgeRow(
  { ours: { data: a }, reference: { data: b }, point }: LocalValue,
  { first, end, within, at }: Row,
  type: RoundedType,
  known?: Known,
): RowVerdict {
  // What an earlier pass wrote is not rounded anew.
  const unit = at < 0 ? 0 : UNIT[type];
  const { tolerance, relative } = localAllowance(point);
  let largest = 0;
  for (let i = first; i < end; i++) {
    const magnitude = Math.abs(b[i]);
    if (magnitude > largest && magnitude < Infinity) largest = magnitude;
  }
  const size = meanSquare(b, first, end);
  const exact = tolerance + relative * largest;
  const own = known?.own;
  const moved = own ? mean(own.squares, within, within + end - first) : 0;
  const rowSquare = Math.max(moved, (known?.mean ?? 0) * size);
  // A rounding moves a number by up to a unit either way, evenly: its mean square is a third of the unit's.
  const third = unit ** 2 / 3;
  let [share, worst, allowedThere, errors] = [0, first, exact, 0];
  for (let i = first; i < end; i++) {
    const error = a[i] === b[i] || (a[i] !== a[i] && b[i] !== b[i]) ? 0 : Math.abs(a[i] - b[i]);
    errors += error * error;
    const column = known?.columns?.[within + i - first] ?? 1;
    const square = Math.max(
      rowSquare * Math.max(1, column),
      own ? own.squares[within + i - first] : 0,
    );
    // The engine's own steps within the operation, each of the size of its outcome, or of the numbers that it sums up.
    const inner = third * (size + b[i] * b[i]);
    const allowed = exact + unit * Math.abs(b[i]) + SPREADS * Math.sqrt(square + inner);
    const found = shareOf(error, allowed);
    if (found > share) [share, worst, allowedThere] = [found, i, allowed];
  }
  const width = end - first;
  if (width >= LEAST_WIDTH) {
    const tries = own ? own.tries.map((each) => meanSquare(each, within, within + width)) : [];
    const square = Math.max(rowSquare, ...tries);
    const allowed = exact + ROW_FACTOR * Math.sqrt(square + 2 * third * size);
    const found = shareOf(Math.sqrt(errors / width), allowed);
    if (found > share) {
      // Each is near enough, and all together are not: the largest stands for them.
      for (let i = first; i < end; i++) {
        if (Math.abs(a[i] - b[i]) > Math.abs(a[worst] - b[worst])) worst = i;
      }
      [share, allowedThere] = [found, Math.abs(a[worst] - b[worst]) / found];
    }
  }
  return { share, worst, allowed: allowedThere };
}

/** The difference as its worst row has it. */
function withVerdict(
  difference: Difference,
  { point, ours: { data: a }, reference, start }: LocalValue,
  verdicts: readonly RowVerdict[],
): Difference {
  const found = verdicts.reduce<RowVerdict | undefined>(
    (most, each) => each.share > (most?.share ?? -1) ? each : most,
    undefined,
  );
  if (!found) return { ...difference, passed: true, share: 0 };
  const { share, worst, allowed } = found;
  const error = Math.abs(a[worst] - reference.data[worst]);
  return {
    ...difference,
    ...{ share, allowed, passed: share <= 1 },
    place: placesOf(point, reference, start)(worst),
    ours: a[worst],
    reference: reference.data[worst],
    error: share === 0 ? 0 : Number.isNaN(error) ? Infinity : error,
  };
}

function rowsOfValue(
  { point, reference: { shape }, start }: LocalValue,
  pass: ReferencePass,
): Row[] {
  const width = shape.at(-1)!;
  const rows: Row[] = [];
  if (isAttention(point)) {
    const [heads, queries, keys] = shape;
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < queries; query++) {
        const seen = Math.min(keys, start + query + 1);
        const first = (head * queries + query) * keys;
        const at = start + query - pass.start;
        rows.push({ first, end: first + seen, at, within: head * seen });
      }
    }
    return rows;
  }
  const isCache = /\.cache_[kv]$/.test(point);
  const perPosition = shape.slice(1).reduce((product, size) => product * size, 1);
  for (let position = 0; position < shape[0]; position++) {
    const at = (isCache ? position : start + position) - pass.start;
    for (let within = 0; within < perPosition; within += width) {
      const first = position * perPosition + within;
      rows.push({ first, end: first + width, at, within });
    }
  }
  return rows;
}

function mean(numbers: Float64Array, first: number, end: number): number {
  let sum = 0;
  for (let i = first; i < end; i++) sum += numbers[i];
  return sum / (end - first);
}

/** Of what is a number. */
function meanSquare(numbers: Float32Array | Float64Array, first: number, end: number): number {
  let sum = 0;
  for (let i = first; i < end; i++) {
    if (Number.isFinite(numbers[i])) sum += numbers[i] * numbers[i];
  }
  return sum / (end - first);
}
