import type { Config } from "../model/config.ts";

/** How the angles of RoPE are computed: in 64 bits, or with the rounding steps of ggml, or with those of PyTorch's models in f32. */
export type RopeKind = "exact" | "ggml" | "f32";

/** Cosines and sines, each [T, ropeWidth / 2]. */
export interface RopeTable {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

/**
 * The rotations of RoPE (arXiv 2104.09864): at position p pair i turns by
 * p · base^(−2i / ropeWidth) / factors[i], divided by the factor of linear scaling.
 *
 * @param factors `rope_freqs.weight`, or undefined
 * @param start the first position
 * @param count T
 */
export function ropeTable(
  config: Config,
  factors: Float32Array | undefined,
  kind: RopeKind,
  start: number,
  count: number,
): RopeTable {
  const pairs = config.ropeWidth / 2;
  const table = { cos: new Float64Array(count * pairs), sin: new Float64Array(count * pairs) };
  const rounded = kind === "exact" ? (value: number) => value : Math.fround;
  for (let t = 0; t < count; t++) {
    for (const [i, angle] of ANGLES[kind](start + t, config, factors).entries()) {
      table.cos[t * pairs + i] = rounded(Math.cos(angle));
      table.sin[t * pairs + i] = rounded(Math.sin(angle));
    }
  }
  return table;
}

/** The angles of all pairs at a position. */
type Angles = (position: number, config: Config, factors: Float32Array | undefined) => number[];

const ANGLES: Readonly<Record<RopeKind, Angles>> = {
  exact(position, config, factors) {
    const { ropeBase, ropeWidth } = config;
    const squeeze = squeezeOf(config);
    return Array.from(
      { length: ropeWidth / 2 },
      (_, i) => position * ropeBase ** (-2 * i / ropeWidth) / (factors?.[i] ?? 1) / squeeze,
    );
  },

  /** `ggml_rope_cache_init` in ggml-cpu/ops.cpp multiplies from pair to pair in 32 bits. */
  ggml(position, config, factors) {
    const { ropeBase, ropeWidth } = config;
    const step = Math.fround(ropeBase ** Math.fround(-2 / ropeWidth));
    const shrunk = Math.fround(1 / squeezeOf(config));
    const angles: number[] = [];
    for (let i = 0, turn = position; i < ropeWidth / 2; i++, turn = Math.fround(turn * step)) {
      angles.push(Math.fround(shrunk * Math.fround(turn / (factors?.[i] ?? 1))));
    }
    return angles;
  },

  /** `LlamaRotaryEmbedding` in Hugging Face's modeling_llama.py multiplies positions and inverse frequencies in 32 bits. */
  f32(position, config, factors) {
    const { ropeBase, ropeWidth } = config;
    const squeeze = squeezeOf(config);
    return Array.from({ length: ropeWidth / 2 }, (_, i) => {
      const power = Math.fround(Math.fround(ropeBase) ** Math.fround(2 * i / ropeWidth));
      const inverse = Math.fround(Math.fround(1 / power) / (factors?.[i] ?? 1) / squeeze);
      return Math.fround(position * inverse);
    });
  },
};

function squeezeOf({ ropeScaling }: Config): number {
  return ropeScaling.type === "linear" ? ropeScaling.factor : 1;
}

/**
 * Turns each pair of each head; numbers from `ropeWidth` on stay.
 *
 * @param x [T, heads, d]
 * @returns the same shape
 */
export function rotate(
  x: Float64Array,
  heads: number,
  config: Config,
  table: RopeTable,
): Float64Array {
  const { headWidth, ropeWidth, ropeStyle } = config;
  const pairs = ropeWidth / 2;
  const out = x.slice();
  for (let row = 0; row < x.length / headWidth; row++) {
    const t = Math.floor(row / heads);
    for (let i = 0; i < pairs; i++) {
      const first = row * headWidth + (ropeStyle === "adjacent" ? 2 * i : i);
      const second = first + (ropeStyle === "adjacent" ? 1 : pairs);
      const cos = table.cos[t * pairs + i];
      const sin = table.sin[t * pairs + i];
      out[first] = x[first] * cos - x[second] * sin;
      out[second] = x[first] * sin + x[second] * cos;
    }
  }
  return out;
}
