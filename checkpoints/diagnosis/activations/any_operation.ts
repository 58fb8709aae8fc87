/** Suspected faults that any operation can have: it is left out, its outcome has a factor, a bound or a constant too much. */
import { factorBetween, factorText, namedFactor } from "../../files/patterns/factors.ts";
import { runsText } from "../../files/patterns/runs.ts";
import type { Operation, Variant } from "./operation.ts";

/** What a factor may leave of all numbers, where it is worth trying. */
const FACTOR_LEAVES = 0.01;
/** How near a factor must be to one that has a name. */
const NAMED = 1e-4;
/** Numbers at a bound that make it one. */
const AT_BOUND = 3;

/** The outcome as another number of times what it is here. */
export function factorVariants(
  { output, target, config }: Operation,
): Variant[] {
  if (!target || output.length < 4) return [];
  const { factor, left } = factorBetween(output, target);
  if (!(left <= FACTOR_LEAVES) || Math.abs(factor - 1) < NAMED || factor === 0) return [];
  const named = namedFactor(factor, config, NAMED);
  const value = named?.value ?? factor;
  return [{
    cause: "scaled",
    what: `there it is ${factorText(factor, config, NAMED)} times what it is here`,
    fitted: !named,
    make: () => output.map((each) => each * value),
  }];
}

/** Features that are zero there at every position, and not here: of operations without a weight. */
export function zeroVariants({ output, target, shape, weights }: Operation): Variant[] {
  if (!target || weights.length > 0) return [];
  const width = output.length / shape[0];
  const [ours, theirs] = [new Uint8Array(width), new Uint8Array(width)];
  output.forEach((value, i) => {
    if (value !== 0) ours[i % width] = 1;
    if (target[i] !== 0) theirs[i % width] = 1;
  });
  const isZero = (i: number) => ours[i] === 1 && theirs[i] === 0;
  const zero = [...ours.keys()].filter(isZero);
  if (zero.length === 0) return [];
  return [{
    cause: "zeros",
    what: zero.length === width
      ? "all of it is zero there"
      : `${runsText(zero, "features")} ${zero.length === 1 ? "is" : "are"} zero there`,
    late: zero.length === width,
    make: () => output.map((value, i) => isZero(i % width) ? 0 : value),
  }];
}

/** A number that bounds the outcome there: nothing is beyond it, and several numbers stand at it. */
export function boundVariants({ output, target }: Operation): Variant[] {
  if (!target) return [];
  const [low, high] = [Math.min, Math.max].map((of) => target.reduce((a, b) => of(a, b)));
  const count = (bound: number) => target.reduce((sum, value) => sum + Number(value === bound), 0);
  const isLow = count(low) >= AT_BOUND && output.some((value) => value < low);
  const isHigh = count(high) >= AT_BOUND && output.some((value) => value > high);
  if (low === high || (!isLow && !isHigh)) return [];
  const [from, to] = [isLow ? low : -Infinity, isHigh ? high : Infinity];
  return [{
    cause: "unknown",
    what: isLow && isHigh
      ? `numbers are cut at ${short(low)} and ${short(high)} there`
      : `numbers are cut at ${short(isLow ? low : high)} there`,
    late: true,
    make: () => output.map((value) => Math.min(to, Math.max(from, value))),
  }];
}

/** What any operation of the chain reads, in place of the last one's outcome. */
export function leftOutVariants(operations: readonly Operation[]): Variant[] {
  const last = operations.at(-1)!;
  const read = new Map<string, Float32Array>();
  for (const { step, inputs } of operations.toReversed()) {
    step.inputs.forEach(({ name, kind }, i) => {
      const isNumbers = kind !== "ids" && kind !== "table";
      if (isNumbers && inputs[i].length === last.output.length) read.set(name, inputs[i]);
    });
  }
  // What the other side shows has a name that people know.
  const isShown = ([name]: [string, Float32Array]) => Number(last.shown.has(name));
  const named = [...read].toSorted((a, b) => isShown(b) - isShown(a));
  return named.flatMap(([name, data]): Variant[] => [
    {
      cause: "left-out",
      what: `its numbers are those of ${name}`,
      make: () => data.slice(),
    },
    ...partlyLeftOut(last, name, data),
  ]);
}

/** The same of some positions only: those whose numbers are exactly what was read. */
function partlyLeftOut(
  { output, target, shape, pass }: Operation,
  name: string,
  data: Float32Array,
): Variant[] {
  const [T] = shape;
  if (!target || T !== pass.tokens) return [];
  const width = output.length / T;
  const isRead = Array.from({ length: T }, (_, t) => {
    for (let i = t * width; i < (t + 1) * width; i++) if (target[i] !== data[i]) return false;
    return true;
  });
  const positions = [...isRead.keys()].filter((t) => isRead[t]);
  if (positions.length === 0 || positions.length === T) return [];
  const named = runsText(positions.map((t) => pass.start + t), "positions");
  return [{
    cause: "left-out",
    what: `${named} ${positions.length === 1 ? "has" : "have"} the numbers of ${name}`,
    make: () => output.map((value, i) => isRead[Math.floor(i / width)] ? data[i] : value),
  }];
}

/** cap · tanh(x / cap), with the cap that the largest numbers show; or the same without its outer factor. */
export function softCapVariants({ output, target }: Operation): Variant[] {
  if (!target) return [];
  const of = (cap: number | undefined, outer: number | undefined, what: string): Variant[] =>
    cap === undefined || outer === undefined ? [] : [{
      cause: "soft-cap",
      what: `there numbers go through ${what} ${short(cap)}`,
      fitted: true,
      make: () => output.map((x) => outer * Math.tanh(x / cap)),
    }];
  const cap = fittedCap(output, target, capOf);
  const inner = fittedCap(output, target, (x, y) => y < 1 ? x / Math.atanh(y) : NaN);
  return [
    ...of(cap, cap, "a soft cap of"),
    ...of(inner, 1, "tanh, and are not multiplied with the soft cap of"),
  ];
}

/** Numbers that a cap is fitted to: the largest one of as many parts. */
const FITTED_NUMBERS = 31;
/** Caps that are this near to a number of two digits are taken for it. */
const ROUND = 1e-3;

/** The cap that makes y of x, as most of the largest numbers have it; undefined where they have none. */
function fittedCap(
  x: Float32Array,
  y: Float32Array,
  capOf: (x: number, y: number) => number,
): number | undefined {
  const part = Math.ceil(x.length / FITTED_NUMBERS);
  const caps: number[] = [];
  for (let first = 0; first < x.length; first += part) {
    let at = first;
    for (let i = first; i < Math.min(x.length, first + part); i++) {
      if (Math.abs(x[i]) > Math.abs(x[at])) at = i;
    }
    const cap = capOf(Math.abs(x[at]), Math.abs(y[at]));
    if (!Number.isNaN(cap)) caps.push(cap);
  }
  if (caps.length < FITTED_NUMBERS / 2) return undefined;
  const cap = caps.sort((a, b) => a - b)[caps.length >> 1];
  const round = Number(cap.toPrecision(2));
  return Math.abs(round / cap - 1) < ROUND ? round : cap;
}

/** The cap with cap · tanh(x / cap) = y, by halving; NaN where there is none. */
function capOf(x: number, y: number): number {
  if (!(y > 0 && y < x * (1 - 1e-4))) return NaN;
  let [low, high] = [y, 1e4 * x];
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (middle * Math.tanh(x / middle) < y) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function short(value: number): string {
  return `${Number(value.toPrecision(4))}`;
}
