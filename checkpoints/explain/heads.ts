/** Suspected faults in the order of heads, and in the map from query heads to key/value heads. */
import type { Config } from "../../engine/config.ts";
import { type Operation, rerun } from "./chain.ts";
import type { Variant } from "./variants.ts";

/** Rows of [T, heads, width] with head `order[h]` in place `h`. */
export function headOrder(
  x: Float32Array,
  order: readonly number[],
  width: number,
): Float32Array {
  const out = new Float32Array(x.length);
  const heads = order.length;
  for (let row = 0; row < x.length / (heads * width); row++) {
    order.forEach((from, to) => {
      const at = (row * heads + from) * width;
      out.set(x.subarray(at, at + width), (row * heads + to) * width);
    });
  }
  return out;
}

/** For each head of the target the one of ours that is most like it; undefined where that is its own everywhere, or not a permutation. */
export function bestHeads(
  ours: Float32Array,
  target: Float32Array,
  heads: number,
  width: number,
): number[] | undefined {
  const rows = ours.length / (heads * width);
  const order = Array.from({ length: heads }, (_, to) => {
    let [best, least] = [to, Infinity];
    for (let from = 0; from < heads; from++) {
      let error = 0;
      for (let row = 0; row < rows; row++) {
        const a = (row * heads + from) * width;
        const b = (row * heads + to) * width;
        for (let i = 0; i < width; i++) error += (ours[a + i] - target[b + i]) ** 2;
      }
      if (error < least) [best, least] = [from, error];
    }
    return best;
  });
  const moved = order.some((from, to) => from !== to);
  return moved && new Set(order).size === heads ? order : undefined;
}

/** q [T, H, d], keys [S, Hkv, d] → [H, T, S] */
export function scoresVariants(operation: Operation): Variant[] {
  const { inputs: [q, keys], config } = operation;
  return groupingVariants(
    config,
    keys,
    (expanded, heads) =>
      rerun(operation, { inputs: [q, expanded], constants: { kv_heads: heads } }),
  );
}

/** probs [H, T, S], values [S, Hkv, d] → [T, H, d] */
export function mixVariants(operation: Operation): Variant[] {
  const { inputs: [probs, values], config, output, target } = operation;
  const variants = groupingVariants(
    config,
    values,
    (expanded, heads) =>
      rerun(operation, { inputs: [probs, expanded], constants: { kv_heads: heads } }),
  );
  const order = target && bestHeads(output, target, config.heads, config.headWidth);
  if (order) {
    variants.push({
      cause: "head-grouping",
      detail: `heads ${order.join(", ")} where 0 to ${config.heads - 1} belong`,
      output: headOrder(output, order, config.headWidth),
    });
  }
  return variants;
}

/** Other maps from query heads to key/value heads: the cache is spread to one per query head first. */
function groupingVariants(
  { heads, kvHeads, headWidth }: Config,
  cache: Float32Array,
  make: (expanded: Float32Array, heads: number) => Float32Array,
): Variant[] {
  if (kvHeads === 1) return [];
  const group = heads / kvHeads;
  const maps = new Map<string, (head: number) => number>([
    ["h mod Hkv", (h) => h % kvHeads],
    ["backwards", (h) => kvHeads - 1 - Math.floor(h / group)],
  ]);
  const own = (h: number) => Math.floor(h / group);
  for (let shift = 1; shift < Math.min(kvHeads, 4); shift++) {
    maps.set(`shifted by ${shift}`, (h) => (own(h) + shift) % kvHeads);
  }
  return [...maps]
    .filter(([, map]) => Array.from({ length: heads }, (_, h) => h).some((h) => map(h) !== own(h)))
    .map(([name, map]) => {
      const slots = cache.length / (kvHeads * headWidth);
      const expanded = new Float32Array(slots * heads * headWidth);
      for (let slot = 0; slot < slots; slot++) {
        for (let head = 0; head < heads; head++) {
          const from = (slot * kvHeads + map(head)) * headWidth;
          expanded.set(cache.subarray(from, from + headWidth), (slot * heads + head) * headWidth);
        }
      }
      return {
        cause: "head-grouping",
        detail: `query head h reads key/value head ${name}`,
        output: make(expanded, heads),
      };
    });
}
