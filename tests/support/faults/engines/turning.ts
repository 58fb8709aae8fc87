/** RoPE that turns other numbers, or by other angles. */
import { type EngineFault, type Faults, seen } from "../fault.ts";
import { made, madeDecoding } from "./mistakes.ts";
import type { Rope, Shape } from "../../engines/engine_mistakes.ts";

const Q = (...causes: Parameters<typeof seen>[2][]) => seen("1B", "q_rope", ...causes);

/** The angle of a pair at a position, as it should be. */
function right({ rope: { base, width, divisors } }: Shape) {
  return (position: number, pair: number) =>
    position * base ** (-2 * pair / width) / (divisors?.[pair] ?? 1);
}

/** A sine or cosine of so many steps of a circle: what the nearest step has. */
function table(steps: number, shape: Shape): Rope["angle"] {
  return (position, pair) =>
    Math.round(right(shape)(position, pair) / (2 * Math.PI) * steps) / steps * 2 * Math.PI;
}

/** What turns wrongly. */
export const TURNS: Faults<EngineFault> = {
  "RoPE turns half of each head": {
    on: ["tiny"],
    make: ({ shape: { rope: { width, base } } }) => ({
      rope: () => ({
        width: width / 2,
        angle: (position, pair) => position * base ** (-4 * pair / width),
      }),
    }),
    ...Q("rope-pairing", "unknown"),
  },
  "RoPE turns half of each head with the angles of the whole": {
    on: ["tiny"],
    make: ({ shape }) => ({
      rope: () => ({ width: shape.rope.width / 2, angle: right(shape) }),
    }),
    ...Q("rope-pairing", "unknown"),
  },
  "RoPE turns the second part of each head": {
    on: ["random"],
    make: () => ({ rope: () => ({ skipped: 4 }) }),
    ...Q("unknown", "rope-pairing"),
  },
  "RoPE turns numbers that should stay": {
    on: ["random"],
    make: ({ shape }) => ({
      rope: () => ({ width: shape.headWidth, angle: right(shape) }),
    }),
    ...Q("unknown", "rope-pairing"),
  },
  "RoPE turns the other way": {
    make: () => ({ rope: () => ({ factor: -1 }) }),
    ...Q("rope-scaling", "rope-pairing", "unknown"),
    detail: /-1|−1|other way|direction|negative|back/i,
  },
  "RoPE counts degrees": {
    make: () => ({ rope: () => ({ factor: 180 / Math.PI }) }),
    ...Q("rope-scaling", "scaled"),
  },
  "RoPE's exponent goes by the whole width": {
    make: ({ shape: { rope: { base, width } } }) => ({
      // Half of the exponent is the root of the base.
      rope: () => ({ base: Math.sqrt(base), width }),
    }),
    ...Q("rope-base"),
    detail: /^100(\.0+)? instead of 10000$|^99\.99|^100\.0/,
  },
  "RoPE's exponent goes by d where fewer turn": {
    on: ["random"],
    make: ({ shape: { rope: { base, width }, headWidth } }) => ({
      rope: () => ({ base: base ** (width / headWidth) }),
    }),
    ...Q("rope-base"),
  },
  "a base for four times the context (NTK)": {
    make: ({ shape: { rope: { base, width } } }) => ({
      rope: () => ({ base: base * 4 ** (width / (width - 2)) }),
    }),
    ...Q("rope-base"),
  },
  "an attention factor on sines and cosines, as YaRN has it": {
    make: () => ({ rope: () => ({ table: (v) => v * (1 + 0.1 * Math.log(4)) }) }),
    ...Q("scaled", "unknown", "rope-scaling"),
  },
  "low frequencies divided by 8, as Llama 3.1 does": {
    on: ["tiny"],
    make: ({ shape }) => ({
      rope: () => ({
        angle: (position, pair) =>
          right(shape)(position, pair) / (pair >= shape.rope.width / 4 ? 8 : 1),
      }),
    }),
    ...Q("rope-scaling", "unknown"),
  },
  "q is turned, k is not": {
    make: () => ({
      rope: (_, point) => point === "k_rope" ? { factor: Infinity } : {},
    }),
    ...seen("1B", "k_rope", "left-out"),
  },
  "no RoPE": {
    make: () => ({ rope: () => ({ factor: Infinity }) }),
    ...Q("left-out"),
  },
  "no RoPE while decoding": {
    on: ["random"],
    make: () => ({ rope: (start) => start > 0 ? { factor: Infinity } : {} }),
    ...{ ...Q("left-out", "position-offset"), step: 1 },
  },
  "RoPE twice": {
    make: () => ({ rope: () => ({ factor: 1 / 2 }) }),
    ...Q("rope-scaling"),
    detail: /0\.5|twice|2/,
  },
  "k is turned again on its way into the cache": {
    make: ({ shape }) =>
      made("cache_k", (x, { start }) => {
        if (start > 0) return x;
        const { kvHeads, headWidth, rope: { width } } = shape;
        const out = x.slice();
        for (let i = 0; i < x.length; i++) {
          const inHead = i % headWidth;
          if (inHead >= width || inHead % 2 !== 0) continue;
          const angle = right(shape)(Math.floor(i / (kvHeads * headWidth)), inHead / 2);
          out[i] = x[i] * Math.cos(angle) - x[i + 1] * Math.sin(angle);
          out[i + 1] = x[i] * Math.sin(angle) + x[i + 1] * Math.cos(angle);
        }
        return out;
      }),
    ...seen("3", "cache_k", "unknown", "cache-slot", "rope-scaling"),
  },
  "positions begin anew after 32": {
    make: ({ shape }) => ({
      rope: () => ({ angle: (position, pair) => right(shape)(position % 32, pair) }),
    }),
    ...Q("position-offset", "unknown"),
  },
  "positions count from the end": {
    make: ({ shape, model: { ids } }) => ({
      rope: () => ({ angle: (p, pair) => right(shape)(ids.length - 1 - p, pair) }),
    }),
    ...Q("unknown"),
  },
  "positions run ahead while decoding": {
    make: () => ({ rope: (start) => ({ offset: start > 0 ? 1 : 0 }) }),
    ...{ ...Q("position-offset"), step: 1 },
    detail: /off by 1$/,
  },
  "one position too many for left padding": {
    on: ["random"],
    make: () => ({ rope: () => ({ offset: 6 }) }),
    ...Q("position-offset"),
    detail: /off by 6$/,
  },
  "all positions are 0": {
    make: () => ({ rope: () => ({ angle: () => 0 }) }),
    ...Q("left-out"),
  },
  "all pairs turn alike": {
    make: ({ shape }) => ({ rope: () => ({ angle: (position) => right(shape)(position, 0) }) }),
    ...Q("rope-base", "unknown", "rope-scaling"),
  },
  "pairs turn in the reverse order": {
    make: ({ shape }) => ({
      rope: () => ({
        angle: (position, pair) => right(shape)(position, shape.rope.width / 2 - 1 - pair),
      }),
    }),
    ...Q("unknown", "reordered", "rope-scaling"),
  },
  "sine and cosine exchanged": {
    make: ({ shape }) => ({
      rope: () => ({ angle: (position, pair) => Math.PI / 2 - right(shape)(position, pair) }),
    }),
    ...Q("unknown"),
  },
  "sines and cosines in f16": {
    make: () => ({ rope: () => ({ table: Math.f16round }) }),
    ...Q("rounded", "unknown"),
  },
  "angles in bf16": {
    make: ({ shape }) => ({
      rope: () => ({
        angle: (position, pair) => {
          const angle = right(shape)(position, pair);
          if (angle === 0) return 0;
          const unit = 2 ** (Math.floor(Math.log2(angle)) - 7);
          return Math.round(angle / unit) * unit;
        },
      }),
    }),
    ...Q("rounded", "unknown"),
  },
  "sines and cosines from a table of 256 steps": {
    make: ({ shape }) => ({ rope: () => ({ angle: table(256, shape) }) }),
    ...Q("rounded", "unknown"),
  },
  "q_rope is the prompt's last one while decoding": {
    on: ["random"],
    make: () => {
      let last = new Float32Array(0);
      const keep = made("q_rope", (x, { start, count }) => {
        if (start > 0) return x;
        last = x.slice(x.length - x.length / count);
        return x;
      });
      const stale = madeDecoding("q_rope", () => last);
      return {
        made: (point, x, pass) => stale.made!(point, keep.made!(point, x, pass), pass),
      };
    },
    ...{ ...Q("unknown", "cache-slot"), step: 1 },
  },
};
