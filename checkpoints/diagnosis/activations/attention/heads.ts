/** Suspected faults in the order of heads, and in the map from query heads to key/value heads. */
import { transposedOrder } from "../../../files/patterns/whole_orders.ts";
import { floorVariants, hiddenMass, roundedVisible, scoreVariants } from "./attention.ts";
import { type Operation, rerun, type Variant } from "../operation.ts";

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

/** Heads [T, heads, d] in another order, measured: for each place the one that is most like what is there; or with their axes exchanged. */
export function headVariants(
  heads: number,
  operation: Operation,
): Variant[] {
  const { output, target, config: { headWidth } } = operation;
  if (heads < 2) return [];
  const exchanged = exchangedHeads(heads, headWidth).map(([what, order]): Variant => ({
    cause: "head-grouping",
    what,
    make: () => inOrder(output, order, 1),
  }));
  if (!target) return exchanged;
  const order = Array.from({ length: heads }, (_, to) => {
    let [best, least] = [to, Infinity];
    for (let from = 0; from < heads; from++) {
      const error = headError(output, from, target, to, heads, headWidth);
      if (error < least) [best, least] = [from, error];
    }
    return best;
  });
  if (order.every((from, to) => from === to)) return exchanged;
  return [{
    cause: "head-grouping",
    what: headsText(order),
    make: () => inOrder(output, order, headWidth),
  }, ...exchanged];
}

/** An order of heads in words: in place h stands the head `order[h]`. */
function headsText(order: readonly number[]): string {
  const heads = order.length;
  if (order.every((from, to) => from === heads - 1 - to)) return "heads stand backwards";
  const by = order[0];
  if (by > 0 && order.every((from, to) => from === (to + by) % heads)) {
    return `heads are rotated: in place 0 stands head ${by}`;
  }
  const moved = [...order.keys()].filter((place) => order[place] !== place);
  const [a, b] = moved;
  if (moved.length === 2 && order[a] === b && order[b] === a) {
    return `heads ${a} and ${b} are exchanged`;
  }
  if (moved.length === 1) return `in place ${a} stands head ${order[a]} again`;
  return `heads ${order.join(", ")} stand where 0 to ${heads - 1} belong`;
}

/** Where the numbers of a row [head, feature] stand that was taken for [feature, head], or the reverse. */
export function exchangedHeads(heads: number, headWidth: number): ReturnType<typeof exchangedAxes> {
  return exchangedAxes(["head", heads], ["feature", headWidth]);
}

/** An axis of so many places. */
type Axis = readonly [name: string, size: number];

/** Where numbers [a, b] stand that were taken for [b, a], or the reverse. */
export function exchangedAxes(
  [a, sizeA]: Axis,
  [b, sizeB]: Axis,
): [what: string, order: Int32Array][] {
  const written: [string, Int32Array] = [
    `numbers stand as [${b}, ${a}] where [${a}, ${b}] belongs`,
    transposedOrder(sizeA, sizeB),
  ];
  // Both are the same where both axes are of the same size.
  return sizeA === sizeB ? [written] : [
    written,
    [
      `numbers are read as [${b}, ${a}] where they are [${a}, ${b}]`,
      transposedOrder(sizeB, sizeA),
    ],
  ];
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
    ...measuredGrouping(operation, scoreErrors),
    ...scoreVariants(operation),
    ...roundedVisible(operation),
    ...insteadVariants(operation, "cache_k", "cache_v"),
  ];
}

/** probs [H, T, S], values [S, Hkv, d] → [T, H, d] */
export function mixVariants(operation: Operation): Variant[] {
  return [
    ...hiddenMass(operation),
    ...groupingVariants(operation),
    ...measuredGrouping(operation, mixErrors),
    ...headVariants(operation.config.heads, operation),
    ...insteadVariants(operation, "cache_v", "cache_k"),
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

/** Keys where values belong, or the reverse, where the other side shows them. */
function insteadVariants(operation: Operation, own: string, other: string): Variant[] {
  const { inputs: [first, cache], step, shown } = operation;
  const name = step.inputs[1].name.replace(own, other);
  const found = shown.get(name);
  if (!found || found.data.length !== cache.length) return [];
  return [{
    cause: "other-tensor",
    what: `it is made with ${name}`,
    make: () => rerun(operation, { inputs: [first, Float32Array.from(found.data)] }),
  }];
}

/** Squared distances of each query head of a to b. */
type HeadErrors = (a: Float32Array, b: Float32Array, operation: Operation) => Float64Array;

/** [T, H, d] */
const mixErrors: HeadErrors = (a, b, { config: { heads, headWidth } }) =>
  Float64Array.from({ length: heads }, (_, h) => headError(a, h, b, h, heads, headWidth));

/** [H, T, S]: of the keys that a query sees. */
const scoreErrors: HeadErrors = (a, b, { config: { heads }, pass: { start, tokens } }) => {
  const errors = new Float64Array(heads);
  const keys = start + tokens;
  a.forEach((value, i) => {
    const row = Math.floor(i / keys);
    if (i % keys <= start + row % tokens) errors[Math.floor(row / tokens)] += (value - b[i]) ** 2;
  });
  return errors;
};

/** The map from query heads to key/value heads, measured: for each the one that is most like what is there. */
function measuredGrouping(operation: Operation, errorsOf: HeadErrors): Variant[] {
  const { inputs: [first, cache], target, config: { heads, kvHeads, headWidth } } = operation;
  if (!target || kvHeads === 1) return [];
  const group = heads / kvHeads;
  const reading = (map: readonly number[]) =>
    rerun(operation, {
      inputs: [first, inOrder(cache, map, headWidth, kvHeads)],
      constants: { kv_heads: heads },
    });
  const map = new Array<number>(heads).fill(0);
  const least = new Float64Array(heads).fill(Infinity);
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const made = reading(new Array<number>(heads).fill(kvHead));
    errorsOf(made, target, operation).forEach((error, head) => {
      if (error < least[head]) [least[head], map[head]] = [error, kvHead];
    });
  }
  if (map.every((kvHead, head) => kvHead === Math.floor(head / group))) return [];
  return [{
    cause: "head-grouping",
    what: `query heads 0 to ${heads - 1} read key/value heads ${map.join(", ")}`,
    make: () => reading(map),
  }];
}
