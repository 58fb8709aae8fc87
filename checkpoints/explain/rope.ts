/** Suspected faults of RoPE and of the cache behind it. */
import type { Config } from "../../engine/config.ts";
import { ropeTable } from "../../engine/rope_table.ts";
import { type Operation, rerun } from "./chain.ts";
import type { Variant } from "./variants.ts";

/** Base frequencies that models have. */
const BASES = [1e4, 5e5, 1e6, 1e5, 1.3e5, 2.5e5, 2e6, 5e6, 8e6, 1e7];
/** Factors by which positions are squeezed. */
const FACTORS = [2, 4, 8, 16, 32];
/** Farthest that positions are off. */
const MOST_OFFSET = 8;

/** x [T, heads, d], table [S, ropeWidth / 2, 2] → [T, heads, d] */
export function ropeVariants(operation: Operation): Variant[] {
  const { config, step, inputs: [x, table], pass, target } = operation;
  const positions = pass.start + pass.tokens;
  const turnedBy = (other: Float32Array, constants = {}) =>
    rerun(operation, { inputs: [x, other], constants });
  const variants: Variant[] = [{
    cause: "rope-pairing",
    detail: config.ropeStyle === "adjacent"
      ? "halves instead of neighbours"
      : "neighbours instead of halves",
    output: turnedBy(table, { half_style: step.constants.half_style ? 0 : 1 }),
  }];
  const measured = target ? measure(operation, target) : undefined;
  const pairs = config.ropeWidth / 2;

  const bases = new Set(BASES);
  if (measured) bases.add(fitBase(measured, config));
  for (const base of bases) {
    if (base === config.ropeBase || !(base > 1)) continue;
    variants.push({
      cause: "rope-base",
      detail: `${Number(base.toPrecision(5))} instead of ${config.ropeBase}`,
      output: turnedBy(tableOf(operation, { ropeBase: base }, positions)),
    });
  }

  const factors = new Set(FACTORS.flatMap((factor) => [factor, 1 / factor]));
  const own = config.ropeScaling.type === "linear" ? config.ropeScaling.factor : 1;
  if (own !== 1) factors.add(1);
  for (const factor of factors) {
    if (factor === own) continue;
    const ropeScaling = factor === 1
      ? { type: "none" as const }
      : { type: "linear" as const, factor };
    variants.push({
      cause: "rope-scaling",
      detail: `positions divided by ${factor} instead of ${own}`,
      output: turnedBy(tableOf(operation, { ropeScaling }, positions)),
    });
  }
  if (operation.factors) {
    variants.push({
      cause: "rope-scaling",
      detail: "without the file's rope_freqs",
      output: turnedBy(ropeTable(config, positions, operation.builder)),
    });
  }

  for (let offset = -MOST_OFFSET; offset <= MOST_OFFSET; offset++) {
    if (offset === 0) continue;
    const shifted = new Float32Array(table.length);
    const long = tableOf(operation, {}, positions + MOST_OFFSET);
    for (let position = 0; position < positions; position++) {
      for (let i = 0; i < pairs * 2; i += 2) {
        const at = position + offset;
        // Turning backwards is turning forwards with the sine's sign changed.
        const from = Math.abs(at) * pairs * 2 + i;
        shifted[position * pairs * 2 + i] = long[from];
        shifted[position * pairs * 2 + i + 1] = at < 0 ? -long[from + 1] : long[from + 1];
      }
    }
    variants.push({
      cause: "position-offset",
      detail: `positions are off by ${offset}`,
      output: turnedBy(shifted),
    });
  }

  if (measured && isScaled(measured, config)) {
    variants.push({
      cause: "rope-scaling",
      detail: "every pair turns by a share of its own",
      output: turnedBy(tableOf(operation, {}, positions, Float32Array.from(measured.shares))),
    });
  }
  return variants;
}

/** A product that RoPE turned though it should not have: v. */
export function rotatedVariants(
  output: Float32Array,
  heads: number,
  operation: Pick<Operation, "config" | "pass" | "builder" | "factors">,
): Variant[] {
  const { config, pass, builder, factors } = operation;
  const table = ropeTable(config, pass.start + pass.tokens, builder, factors);
  return (["adjacent", "half"] as const).map((style) => ({
    cause: "v-rotated",
    detail: `turned by its position, ${style === "half" ? "in halves" : "in neighbours"}`,
    output: turn(output, table, heads, { ...config, ropeStyle: style }, pass.start),
  }));
}

/** x [T, Hkv, d] → the cache [S, Hkv, d] */
export function storeVariants(operation: Operation): Variant[] {
  const { name, inputs: [x], output, config, pass } = operation;
  const variants: Variant[] = [];
  const stored = (rows: Float32Array, slot: number) => {
    const cache = output.slice();
    const width = config.kvHeads * config.headWidth;
    for (let t = 0; t < pass.tokens; t++) {
      const to = pass.start + t + slot;
      if (to < 0 || (to + 1) * width > cache.length) continue;
      cache.set(rows.subarray(t * width, (t + 1) * width), to * width);
    }
    return cache;
  };
  if (name.endsWith("cache_v")) {
    for (const { cause, detail, output: turned } of rotatedVariants(x, config.kvHeads, operation)) {
      variants.push({ cause, detail, output: stored(turned, 0) });
    }
  }
  for (const slot of [-1, 1]) {
    variants.push({
      cause: "position-offset",
      detail: `slots are off by ${slot}`,
      output: stored(x, slot),
    });
  }
  return variants;
}

function tableOf(
  { config, builder, factors }: Operation,
  changes: Partial<Config>,
  positions: number,
  own: Float32Array | undefined = factors,
): Float32Array {
  return ropeTable({ ...config, ...changes }, positions, builder, own);
}

function turn(
  x: Float32Array,
  table: Float32Array,
  heads: number,
  { headWidth, ropeWidth, ropeStyle }: Config,
  start: number,
): Float32Array {
  const out = x.slice();
  const pairs = ropeWidth / 2;
  for (let row = 0; row < x.length / headWidth; row++) {
    const position = start + Math.floor(row / heads);
    for (let i = 0; i < pairs; i++) {
      const a = row * headWidth + (ropeStyle === "half" ? i : 2 * i);
      const b = a + (ropeStyle === "half" ? pairs : 1);
      const [cos, sin] = [table[(position * pairs + i) * 2], table[(position * pairs + i) * 2 + 1]];
      out[a] = x[a] * cos - x[b] * sin;
      out[b] = x[a] * sin + x[b] * cos;
    }
  }
  return out;
}

/** By how much each pair turns from one position to the next, measured between neighbours, as a share of what it should. */
interface Measured {
  /** Radians per position. */
  readonly angles: number[];
  /** Divisors of the config's own angles: 1 where it turns as it should. */
  readonly shares: number[];
}

/** Measures the angles in the target; undefined with too few positions. */
function measure(
  { inputs: [x], config, pass, step }: Operation,
  target: Float32Array,
): Measured | undefined {
  if (pass.tokens < 4) return undefined;
  const { headWidth, ropeWidth, ropeStyle, ropeBase } = config;
  const heads = step.constants.heads;
  const pairs = ropeWidth / 2;
  const angles: number[] = [];
  const shares: number[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    // The turn of each position, as a complex number summed over heads.
    const turns = Array.from({ length: pass.tokens }, (_, t) => {
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
    let [re, im] = [0, 0];
    for (let t = 1; t < turns.length; t++) {
      re += turns[t][0] * turns[t - 1][0] + turns[t][1] * turns[t - 1][1];
      im += turns[t][1] * turns[t - 1][0] - turns[t][0] * turns[t - 1][1];
    }
    let angle = Math.atan2(im, re);
    // The sum over neighbours is good to some digits; the whole stretch gives the rest.
    const span = turns.length - 1;
    const [first, last] = [turns[0], turns[span]];
    const whole = Math.atan2(
      last[1] * first[0] - last[0] * first[1],
      last[0] * first[0] + last[1] * first[1],
    );
    const rounds = Math.round((angle * span - whole) / (2 * Math.PI));
    angle = (whole + rounds * 2 * Math.PI) / span;
    const expected = ropeBase ** (-2 * pair / ropeWidth);
    angles.push(angle);
    shares.push(expected / angle);
  }
  return { angles, shares };
}

/** The base that the angles follow: the median over pairs. */
function fitBase({ angles }: Measured, { ropeWidth }: Config): number {
  const bases = angles.flatMap((angle, pair) =>
    pair > 0 && angle > 0 ? [angle ** (-ropeWidth / (2 * pair))] : []
  ).sort((a, b) => a - b);
  return bases[bases.length >> 1] ?? 0;
}

/** Whether the pairs turn by sensible shares: else the numbers are no turn at all. */
function isScaled({ shares }: Measured, { ropeScaling }: Config): boolean {
  const own = ropeScaling.type === "linear" ? ropeScaling.factor : 1;
  return shares.every((share) => share > 0 && share < 1000) &&
    shares.some((share) => Math.abs(share / own - 1) > 1e-3);
}
