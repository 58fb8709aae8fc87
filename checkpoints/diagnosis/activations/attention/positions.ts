/** Suspected faults of some positions only, and of numbers here and there: of outcomes with a row per position. */
import { runsText } from "../../../files/patterns/runs.ts";
import type { Operation, Variant } from "../operation.ts";

/** How far rows move. */
const SHIFTS = [1, -1, 2, -2];
/** How near rows are that are the same: the largest error, as a share of the largest number. */
const NEAR = 1e-4;
/** Rows that tell whether all moved. */
const LEAST_ROWS = 4;

/** [T, …]: positions that are zero there, or that have the numbers of those beside them. */
export function positionVariants({ output, target, shape, pass }: Operation): Variant[] {
  const [T] = shape;
  if (!target || T !== pass.tokens || T < 2) return [];
  const width = output.length / T;
  const rowOf = (x: Float32Array, t: number) => x.subarray(t * width, (t + 1) * width);
  const isZero = (row: Float32Array) => row.every((value) => value === 0);
  const zero = Array.from({ length: T }, (_, t) => t)
    .filter((t) => isZero(rowOf(target, t)) && !isZero(rowOf(output, t)));
  const are = zero.length === 1 ? "is" : "are";
  const named = runsText(zero.map((t) => pass.start + t), "positions");
  const variants: Variant[] = zero.length === 0 || zero.length === T ? [] : [{
    cause: "zeros",
    what: `${named} ${are} zero there`,
    late: true,
    make: () => output.map((value, i) => zero.includes(Math.floor(i / width)) ? 0 : value),
  }];
  if (T < LEAST_ROWS) return variants;
  const largest = output.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const isSame = (a: Float32Array, b: Float32Array) =>
    a.every((value, i) => Math.abs(value - b[i]) <= NEAR * largest);
  for (const by of SHIFTS) {
    const moved = Array.from({ length: T }, (_, t) => t).filter((t) => t - by >= 0 && t - by < T);
    if (!moved.every((t) => isSame(rowOf(target, t), rowOf(output, t - by)))) continue;
    variants.push({
      cause: "position-offset",
      what: `rows are off by ${by}: each has the numbers of position ${
        by > 0 ? `p − ${by}` : `p + ${-by}`
      }`,
      make() {
        const out = output.slice();
        for (const t of moved) out.set(rowOf(output, t - by), t * width);
        return out;
      },
    });
  }
  return variants;
}

/** Numbers that are zero there and not here, wherever they stand. */
export function scatteredZeros({ output, target }: Operation): Variant[] {
  if (!target) return [];
  const places = [...output.keys()].filter((i) => target[i] === 0 && output[i] !== 0);
  if (places.length === 0 || places.length > output.length / 2) return [];
  return [{
    cause: "zeros",
    what: `${places.length} of ${output.length} numbers are zero there, the first at ${places[0]}`,
    late: true,
    make() {
      const out = output.slice();
      for (const i of places) out[i] = 0;
      return out;
    },
  }];
}
