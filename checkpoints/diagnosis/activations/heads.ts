/** Suspected faults in the order of heads, and in the map from query heads to key/value heads. */
import type { Config } from "../../../engine/model/config.ts";
import { type Operation, rerun, type Variant } from "./operation.ts";

/** [T, heads, width] with head `order[h]` in place `h`. */
export function inOrder(x: Float32Array, order: ArrayLike<number>, width: number): Float32Array {
  const out = new Float32Array(x.length);
  const row = order.length * width;
  for (let at = 0; at < x.length; at++) {
    const place = at % row;
    out[at] = x[at - place + order[Math.floor(place / width)] * width + place % width];
  }
  return out;
}

/** Heads [T, heads, d] in another order, measured: for each place the one that is most like what is there. */
export function headVariants(
  heads: number,
  { output, target, config: { headWidth } }: Operation,
): Variant[] {
  if (!target || heads < 2) return [];
  const order = Array.from({ length: heads }, (_, to) => {
    let [best, least] = [to, Infinity];
    for (let from = 0; from < heads; from++) {
      const error = headError(output, from, target, to, heads, headWidth);
      if (error < least) [best, least] = [from, error];
    }
    return best;
  });
  if (order.every((from, to) => from === to) || new Set(order).size < heads) return [];
  return [{
    cause: "head-grouping",
    what: `heads ${order.join(", ")} stand where 0 to ${heads - 1} belong`,
    make: () => inOrder(output, order, headWidth),
  }];
}

/** Squared distance of head `i` of a to head `j` of b. */
function headError(
  a: Float32Array,
  i: number,
  b: Float32Array,
  j: number,
  heads: number,
  width: number,
): number {
  let error = 0;
  for (let row = 0; row < a.length; row += heads * width) {
    for (let c = 0; c < width; c++) error += (a[row + i * width + c] - b[row + j * width + c]) ** 2;
  }
  return error;
}

/** q [T, H, d], keys [S, Hkv, d] → [H, T, S] */
export function scoresVariants(operation: Operation): Variant[] {
  const { inputs: [q, keys], config } = operation;
  return [
    ...groupingVariants(
      config,
      keys,
      (expanded, heads) =>
        rerun(operation, { inputs: [q, expanded], constants: { kv_heads: heads } }),
    ),
    ...[1, 1 / config.headWidth].map((scale): Variant => ({
      cause: "unknown",
      what: `scores are times ${scale} instead of ${config.attentionScale}`,
      make: () => rerun(operation, { constants: { scale } }),
    })),
  ];
}

/** probs [H, T, S], values [S, Hkv, d] → [T, H, d] */
export function mixVariants(operation: Operation): Variant[] {
  const { inputs: [probs, values], config } = operation;
  return [
    ...groupingVariants(
      config,
      values,
      (expanded, heads) =>
        rerun(operation, { inputs: [probs, expanded], constants: { kv_heads: heads } }),
    ),
    ...headVariants(config.heads, operation),
  ];
}

/** Other maps from query heads to key/value heads: the cache is spread to one per query head first. */
function groupingVariants(
  { heads, kvHeads, headWidth }: Config,
  cache: Float32Array,
  make: (expanded: Float32Array, heads: number) => Float32Array,
): Variant[] {
  if (kvHeads === 1) return [];
  const group = heads / kvHeads;
  const own = (h: number) => Math.floor(h / group);
  const maps = new Map<string, (head: number) => number>([
    ["h mod Hkv", (h) => h % kvHeads],
    ["backwards", (h) => kvHeads - 1 - own(h)],
  ]);
  for (let shift = 1; shift < Math.min(kvHeads, 4); shift++) {
    maps.set(`shifted by ${shift}`, (h) => (own(h) + shift) % kvHeads);
  }
  const places = Array.from({ length: heads }, (_, h) => h);
  const spread = (map: (head: number) => number) => {
    const slots = cache.length / (kvHeads * headWidth);
    const out = new Float32Array(slots * heads * headWidth);
    for (let slot = 0; slot < slots; slot++) {
      for (const head of places) {
        const from = (slot * kvHeads + map(head)) * headWidth;
        out.set(cache.subarray(from, from + headWidth), (slot * heads + head) * headWidth);
      }
    }
    return out;
  };
  return [...maps].filter(([, map]) => places.some((h) => map(h) !== own(h)))
    .map(([name, map]): Variant => ({
      cause: "head-grouping",
      what: `query head h reads key/value head ${name}`,
      make: () => make(spread(map), heads),
    }));
}
