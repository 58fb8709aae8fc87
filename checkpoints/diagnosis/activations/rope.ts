/** Suspected faults of RoPE. */
import type { Config } from "../../../engine/model/config.ts";
import { ropeTable } from "../../../engine/model/rope_table.ts";
import type { Step } from "../../../engine/plan/plan.ts";
import { CAUSES } from "../causes.ts";
import { compute, type Operation, rerun, type Variant } from "./operation.ts";

/** Farthest that positions are off. */
const MOST_OFFSET = 8;

/** x [T, heads, d], table [S, ropeWidth / 2, 2] → [T, heads, d] */
export function ropeVariants(operation: Operation): Variant[] {
  const { config, step, inputs: [x], pass, target, factors } = operation;
  const measured = target ? measure(operation, target) : undefined;
  const turnedBy = (other: Float32Array) => rerun(operation, { inputs: [x, other] });
  const variants: Variant[] = [{
    cause: "rope-pairing",
    what: config.ropeStyle === "adjacent"
      ? "halves instead of neighbours"
      : "neighbours instead of halves",
    make: () => rerun(operation, { constants: { half_style: step.constants.half_style ? 0 : 1 } }),
  }];

  const bases = new Set<number>(CAUSES["rope-base"].undo);
  if (measured) bases.add(Number(measured.base.toPrecision(5)));
  for (const base of bases) {
    if (base === config.ropeBase || !(base > 1)) continue;
    variants.push({
      cause: "rope-base",
      what: `${base} instead of ${config.ropeBase}`,
      make: () => turnedBy(tableOf(operation, { ropeBase: base })),
    });
  }

  const own = scaleOf(config);
  const factorsTried = CAUSES["rope-scaling"].undo.flatMap((factor) => [factor, 1 / factor]);
  const squeezes = new Set([...own === 1 ? [] : [1], ...factorsTried]);
  if (measured) squeezes.add(Number(measured.factor.toPrecision(4)));
  for (const factor of squeezes) {
    if (factor === own || !(factor > 0 && factor < Infinity)) continue;
    const ropeScaling = { type: "linear", factor } as const;
    variants.push({
      cause: "rope-scaling",
      what: `positions divided by ${factor} instead of ${own}`,
      make: () => turnedBy(tableOf(operation, { ropeScaling })),
    });
  }
  if (factors) {
    variants.push({
      cause: "rope-scaling",
      what: "without the file's rope_freqs",
      make: () => turnedBy(tableOf({ ...operation, factors: undefined })),
    });
  }

  const offsets = Array.from({ length: 2 * MOST_OFFSET + 1 }, (_, i) => i - MOST_OFFSET);
  for (const offset of new Set([...offsets, -pass.start])) {
    if (offset === 0) continue;
    variants.push({
      cause: "position-offset",
      what: `positions are off by ${offset}`,
      make: () => turnedBy(shifted(operation, offset)),
    });
  }

  if (measured?.divisors.every((divisor) => divisor > 0 && divisor < 1000)) {
    variants.push({
      cause: "rope-scaling",
      what: "every pair turns by a share of its own",
      fitted: true,
      make: () => turnedBy(tableOf({ ...operation, factors: measured.divisors })),
    });
  }
  // At a single position that may be any of the above.
  variants.push({ cause: "unknown", what: "nothing turns", make: () => x.slice() });
  return variants;
}

/** A product that RoPE turned though it should not have: v. */
export function rotatedVariants(x: Float32Array, heads: number, operation: Operation): Variant[] {
  const { headWidth, ropeWidth } = operation.config;
  return [0, 1].map((half) => ({
    cause: "v-rotated",
    what: `turned by its position, ${half ? "in halves" : "in neighbours"}`,
    make() {
      const sizes = { heads, head_width: headWidth, rope_width: ropeWidth };
      const { inputs: read, outputs } = operation.step;
      const constants = { ...sizes, half_style: half };
      const step: Step = { operation: "rope", inputs: read, weights: [], outputs, constants };
      const inputs = [x, tableOf(operation)];
      return compute({ ...operation, step, inputs, weights: [] }, new Float32Array(x.length));
    },
  }));
}

/** What RoPE would have had to turn to make this. */
export function inverse(operation: Operation, turned: Float32Array): Float32Array {
  const { inputs: [, table] } = operation;
  const back = table.map((value, i) => i % 2 === 1 ? -value : value);
  return rerun(operation, { inputs: [turned, back] });
}

/** What a file has positions divided by. */
export function scaleOf({ ropeScaling }: Config): number {
  return ropeScaling.type === "linear" ? ropeScaling.factor : 1;
}

function tableOf(
  { config, builder, factors, pass }: Operation,
  changes: Partial<Config> = {},
  positions: number = pass.start + pass.tokens,
): Float32Array {
  return ropeTable({ ...config, ...changes }, positions, builder, factors);
}

/** The table with every position's turn where another's belongs. */
function shifted(operation: Operation, offset: number): Float32Array {
  const { inputs: [, table], pass, config: { ropeWidth } } = operation;
  const positions = pass.start + pass.tokens;
  const long = tableOf(operation, {}, positions + Math.abs(offset));
  const out = new Float32Array(table.length);
  for (let position = 0; position < positions; position++) {
    const at = position + offset;
    for (let i = 0; i < ropeWidth; i++) {
      const value = long[Math.abs(at) * ropeWidth + i];
      // Turning backwards is turning forwards with the sine's sign changed.
      out[position * ropeWidth + i] = at < 0 && i % 2 === 1 ? -value : value;
    }
  }
  return out;
}

/** How the other side turns pairs. */
interface Measured {
  /** The base that its angles follow, if that is all that differs. */
  readonly base: number;
  /** What it divides positions by, if that is all that differs. */
  readonly factor: number;
  /** What it divides each pair's angle by, the factor aside. */
  readonly divisors: Float32Array;
}

/** Measures the turn of each pair from one position to the next; undefined with too few positions. */
function measure(operation: Operation, target: Float32Array): Measured | undefined {
  const { inputs: [x], config, pass, step, factors } = operation;
  if (pass.tokens < 4) return undefined;
  const { headWidth, ropeWidth, ropeStyle, ropeBase } = config;
  const heads = step.constants.heads;
  const pairs = ropeWidth / 2;
  const own = scaleOf(config);
  const angles = Array.from({ length: pairs }, (_, pair) => {
    // The turn of each position, as a complex number summed over heads.
    const turns = Array.from({ length: pass.tokens }, (_, t): [number, number] => {
      let [re, im] = [0, 0];
      for (let head = 0; head < heads; head++) {
        const base = (t * heads + head) * headWidth;
        const a = base + (ropeStyle === "half" ? pair : 2 * pair);
        const b = a + (ropeStyle === "half" ? pairs : 1);
        re += x[a] * target[a] + x[b] * target[b];
        im += x[a] * target[b] - x[b] * target[a];
      }
      const size = Math.hypot(re, im) || 1;
      return [re / size, im / size];
    });
    return turnPerPosition(turns);
  });
  const exponent = (pair: number) => -2 * pair / ropeWidth;
  const given = (pair: number) => own * (factors?.[pair] ?? 1);
  const shares = angles.map((angle, pair) => ropeBase ** exponent(pair) / (given(pair) * angle));
  return {
    base: median(
      angles.flatMap((angle, pair) =>
        pair > 0 && angle > 0 ? [(angle * given(pair)) ** (1 / exponent(pair))] : []
      ),
    ),
    factor: own * median(shares),
    divisors: Float32Array.from(shares, (share, pair) => share * (factors?.[pair] ?? 1)),
  };
}

/** The angle from one position to the next, out of each position's turn. */
function turnPerPosition(turns: readonly (readonly [number, number])[]): number {
  const between = ([a, b]: readonly [number, number], [c, d]: readonly [number, number]) => [
    c * a + d * b,
    d * a - c * b,
  ];
  let [re, im] = [0, 0];
  for (let t = 1; t < turns.length; t++) {
    const [x, y] = between(turns[t - 1], turns[t]);
    re += x;
    im += y;
  }
  // The sum over neighbours is good to some digits; the whole stretch gives the rest.
  const span = turns.length - 1;
  const [x, y] = between(turns[0], turns[span]);
  const whole = Math.atan2(y, x);
  const rounds = Math.round((Math.atan2(im, re) * span - whole) / (2 * Math.PI));
  return (whole + rounds * 2 * Math.PI) / span;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}
