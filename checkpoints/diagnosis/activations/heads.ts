/** Suspected faults in the order of heads, and in the map from query heads to key/value heads. */
import { floorVariants, hiddenMass, scoreVariants } from "./attention.ts";
import { type Operation, rerun, type Variant } from "./operation.ts";

/** [T, from, width] with head `order[h]` in place `h`; there may be more places than heads. */
export function inOrder(
  x: Float32Array,
  order: ArrayLike<number>,
  width: number,
  from = order.length,
): Float32Array {
  const row = order.length * width;
  return Float32Array.from({ length: x.length / from * order.length }, (_, at) => {
    const [t, place] = [Math.floor(at / row), at % row];
    return x[(t * from + order[Math.floor(place / width)]) * width + place % width];
  });
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
  return [
    ...floorVariants(operation),
    ...groupingVariants(operation),
    ...scoreVariants(operation),
  ];
}

/** probs [H, T, S], values [S, Hkv, d] → [T, H, d] */
export function mixVariants(operation: Operation): Variant[] {
  return [
    ...hiddenMass(operation),
    ...groupingVariants(operation),
    ...headVariants(operation.config.heads, operation),
  ];
}

/** Other maps from query heads to the key/value heads of the second input, which is spread to one per query head first. */
function groupingVariants(operation: Operation): Variant[] {
  const { inputs: [first, cache], config: { heads, kvHeads, headWidth } } = operation;
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
  return [...maps].filter(([, map]) => places.some((h) => map(h) !== own(h)))
    .map(([name, map]): Variant => ({
      cause: "head-grouping",
      what: `query head h reads key/value head ${name}`,
      make: () => {
        const spread = inOrder(cache, places.map(map), headWidth, kvHeads);
        return rerun(operation, { inputs: [first, spread], constants: { kv_heads: heads } });
      },
    }));
}
