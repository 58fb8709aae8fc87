import type { Rope, Yarn } from "../model/config.ts";

/** How the angles of RoPE are computed: in 64 bits, or with the rounding steps of ggml, or with those of PyTorch's models in f32. */
export type RopeKind = "exact" | "ggml" | "f32";

/** Cosines and sines, each [T, width / 2]. */
export interface RopeTable {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/**
 * Name of the tensor [width / 2] whose numbers divide the angles; undefined where they are not divided. LongRoPE
 * (arXiv 2402.13753) has two: the long ones serve where there is room for more positions than the model first had, from the first
 * position on, since keys that are kept cannot be turned anew (`llama_model::get_rope_factors`).
 *
 * @param capacity positions that the session has room for
 */
export function divisorsName({ factors, scaling }: Rope, capacity: number): string | undefined {
  if (factors !== undefined || scaling.type !== "longrope") return factors;
  return capacity > scaling.originalLength ? scaling.long : scaling.short;
}

/**
 * The rotations of RoPE (arXiv 2104.09864): at position p pair i turns by p · base^(−2i / width) / divisors[i], scaled linearly or by
 * YaRN; cosines and sines are times `magnitude`.
 *
 * @param divisors the tensor that {@linkcode divisorsName} names
 * @param start the first position
 * @param count T
 */
export function ropeTable(
  rope: Rope,
  divisors: Float32Array | undefined,
  kind: RopeKind,
  start: number,
  count: number,
): RopeTable {
  const pairs = rope.width / 2;
  const table = { cos: new Float64Array(count * pairs), sin: new Float64Array(count * pairs) };
  const rounded = kind === "exact" ? exactly : f;
  const magnitude = rounded(rope.magnitude);
  for (let t = 0; t < count; t++) {
    for (const [i, angle] of ANGLES[kind](start + t, rope, divisors).entries()) {
      table.cos[t * pairs + i] = rounded(rounded(Math.cos(angle)) * magnitude);
      table.sin[t * pairs + i] = rounded(rounded(Math.sin(angle)) * magnitude);
    }
  }
  return table;
}

/** What becomes of each result of an operation. */
type Rounding = (value: number) => number;
const f: Rounding = Math.fround;
const exactly: Rounding = (value) => value;

/** The angles of all pairs at a position. */
type Angles = (position: number, rope: Rope, divisors: Float32Array | undefined) => number[];

const ANGLES: Readonly<Record<RopeKind, Angles>> = {
  exact(position, { base, width, scaling }, divisors) {
    const ramp = scaling.type === "yarn" ? yarnRamp(base, width, scaling, exactly) : undefined;
    const squeeze = scaling.type === "linear" ? scaling.factor : 1;
    return Array.from({ length: width / 2 }, (_, i) => {
      const angle = position * base ** (-2 * i / width) / (divisors?.[i] ?? 1) / squeeze;
      if (scaling.type !== "yarn") return angle;
      const fast = fastShare(i, ramp!, scaling.share, exactly);
      return angle / scaling.factor * (1 - fast) + angle * fast;
    });
  },

  /** `ggml_rope_cache_init` and `rope_yarn` in ggml-cpu/ops.cpp: 32 bits, and multiplications from pair to pair. */
  ggml(position, { base, width, scaling }, divisors) {
    const ramp = scaling.type === "yarn" ? yarnRamp(base, width, scaling, f) : undefined;
    const step = f(base ** f(-2 / width));
    const shrunk = f(1 / ("factor" in scaling ? scaling.factor : 1));
    const angles: number[] = [];
    for (let i = 0, turn = position; i < width / 2; i++, turn = f(turn * step)) {
      const unscaled = f(turn / (divisors?.[i] ?? 1));
      const scaled = f(shrunk * unscaled);
      if (scaling.type !== "yarn" || scaling.share === 0) {
        angles.push(scaled);
        continue;
      }
      const fast = fastShare(i, ramp!, scaling.share, f);
      // Its compilers make one rounding of the first product and the sum (a fused multiply-add).
      angles.push(f(scaled * f(1 - fast) + f(unscaled * fast)));
    }
    return angles;
  },

  /**
   * Hugging Face's modeling_rope_utils.py: positions times inverse frequencies, both in 32 bits. There YaRN's scaling is in the frequencies,
   * and the ends of its ramp are computed in 64 bits.
   */
  f32(position, { base, width, scaling }, divisors) {
    const ramp = scaling.type === "yarn" ? yarnRamp(base, width, scaling, exactly) : undefined;
    return Array.from({ length: width / 2 }, (_, i) => {
      const power = f(f(base) ** f(2 * i / width));
      const divisor = divisors?.[i] ?? 1;
      if (scaling.type === "longrope") return f(position * f(1 / f(divisor * power)));
      const squeeze = scaling.type === "linear" ? scaling.factor : 1;
      const unscaled = f(f(1 / power) / divisor / squeeze);
      if (scaling.type !== "yarn") return f(position * unscaled);
      const scaled = f(f(1 / f(scaling.factor * power)) / divisor);
      const fast = fastShare(i, ramp!, scaling.share, f);
      return f(position * f(f(scaled * f(1 - fast)) + f(unscaled * fast)));
    });
  },
};

/** The pairs at which YaRN's ramp begins and ends. */
interface Ramp {
  readonly low: number;
  readonly high: number;
}

/**
 * YaRN's ramp over the numbers of the pairs (arXiv 2309.00071, section 3.2): from the pair that turns `betaFast` times within the original
 * length to the one that turns `betaSlow` times, from whole ones to whole ones as in the authors' code (`ggml_rope_yarn_corr_dims`).
 */
function yarnRamp(base: number, width: number, yarn: Yarn, round: Rounding): Ramp {
  // 2π · turns = length · base^(−2 · pair / width)
  const pairOf = (turns: number) => {
    const once = round(yarn.originalLength / round(round(turns) * 2 * round(Math.PI)));
    return round(round(width * round(Math.log(once))) / round(2 * round(Math.log(round(base)))));
  };
  return {
    low: Math.max(0, Math.floor(pairOf(yarn.betaFast))),
    high: Math.min(width - 1, Math.ceil(pairOf(yarn.betaSlow))),
  };
}

/** How much of a pair's angle is unscaled in YaRN: all of pairs that turn fast, in front of the ramp, nothing of those behind it. */
function fastShare(pair: number, { low, high }: Ramp, share: number, round: Rounding): number {
  const along = round((pair - low) / Math.max(round(0.001), high - low));
  return round(round(1 - Math.min(1, Math.max(0, along))) * round(share));
}

/**
 * Turns each pair of each head; numbers from the table's width on stay.
 *
 * @param x [T, heads, headWidth]
 * @returns the same shape
 */
export function rotate(
  x: Float64Array,
  heads: number,
  headWidth: number,
  { width, style }: Pick<Rope, "width" | "style">,
  table: RopeTable,
): Float64Array {
  const pairs = width / 2;
  const out = x.slice();
  for (let row = 0; row < x.length / headWidth; row++) {
    const t = Math.floor(row / heads);
    for (let i = 0; i < pairs; i++) {
      const first = row * headWidth + (style === "adjacent" ? 2 * i : i);
      const second = first + (style === "adjacent" ? 1 : pairs);
      const cos = table.cos[t * pairs + i];
      const sin = table.sin[t * pairs + i];
      out[first] = x[first] * cos - x[second] * sin;
      out[second] = x[first] * sin + x[second] * cos;
    }
  }
  return out;
}
