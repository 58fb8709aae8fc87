import type { Config } from "../model/config.ts";

/** How the angles of RoPE are computed: in 64 bits, or with the rounding steps of ggml. */
export type RopeKind = "exact" | "ggml";

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
  const scaling = config.ropeScaling.type === "linear" ? config.ropeScaling.factor : 1;
  for (let t = 0; t < count; t++) {
    const angles = kind === "exact"
      ? exactAngles(start + t, config, pairs)
      : ggmlAngles(start + t, config, pairs);
    for (let i = 0; i < pairs; i++) {
      const factor = factors?.[i] ?? 1;
      if (kind === "exact") {
        const angle = angles[i] / factor / scaling;
        table.cos[t * pairs + i] = Math.cos(angle);
        table.sin[t * pairs + i] = Math.sin(angle);
      } else {
        const angle = Math.fround(Math.fround(1 / scaling) * Math.fround(angles[i] / factor));
        table.cos[t * pairs + i] = Math.fround(Math.cos(angle));
        table.sin[t * pairs + i] = Math.fround(Math.sin(angle));
      }
    }
  }
  return table;
}

function exactAngles(position: number, { ropeBase, ropeWidth }: Config, pairs: number): number[] {
  return Array.from({ length: pairs }, (_, i) => position * ropeBase ** (-2 * i / ropeWidth));
}

/** `ggml_rope_cache_init` in ggml-cpu/ops.cpp multiplies from pair to pair in 32 bits. */
function ggmlAngles(position: number, { ropeBase, ropeWidth }: Config, pairs: number): number[] {
  const step = Math.fround(ropeBase ** Math.fround(-2 / ropeWidth));
  const angles: number[] = [];
  for (let i = 0, angle = position; i < pairs; i++, angle = Math.fround(angle * step)) {
    angles.push(angle);
  }
  return angles;
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
