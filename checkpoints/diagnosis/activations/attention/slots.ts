/** Suspected faults of the KV cache: which slot holds what. */
import { layerOf } from "../../../../base/layer_names.ts";
import { sizeOf } from "../../../../base/shape.ts";
import { isCache } from "../../../parity/cache.ts";
import { localAllowance } from "../../../parity/compare.ts";
import { exchangedAxes, headVariants, inOrder } from "./heads.ts";
import type { Operation, Variant } from "../operation.ts";
import { roundedOutcomes } from "../rounded.ts";
import { rotatedVariants } from "./rope.ts";

/** Slots that are named one by one. */
const MOST_NAMED = 3;

/** x [T, Hkv, d] → the cache [S, Hkv, d] */
export function storeVariants(operation: Operation): Variant[] {
  const { name, inputs: [x], target, config } = operation;
  const rotated = name.endsWith("cache_v") ? rotatedVariants(x, config.kvHeads, operation) : [];
  return [
    ...rotated.map((variant) => ({
      ...variant,
      what: `on its way into the cache ${variant.what}`,
      make: () => stored(operation, variant.make()),
    })),
    ...target ? measuredSlots(operation, target) : suspectedSlots(operation),
    ...target ? [...headVariants(config.kvHeads, operation), ...storedOtherwise(operation)] : [],
    ...roundedOutcomes(operation),
  ];
}

/** The cache with other numbers in the slots that the pass writes. */
function stored({ output, pass, step }: Operation, numbers: Float32Array): Float32Array {
  const cache = output.slice();
  cache.set(numbers, pass.start * step.constants.columns);
  return cache;
}

/** Blocks that caches are rounded in, with an f16 for each. */
const BLOCK = 32;

/** Keys and values that are stored in another layout, turned again, or in blocks of 8 bits. */
function storedOtherwise(operation: Operation): Variant[] {
  const { name, inputs: [x], output, config: { kvHeads }, pass: { start, tokens } } = operation;
  const again = name.endsWith("cache_k") ? rotatedVariants(x, kvHeads, operation) : [];
  const exchanged = start > 0 || kvHeads === 1
    ? []
    : exchangedAxes(["slot", tokens], ["head", kvHeads]);
  const of = (cause: Variant["cause"], what: string, make: Variant["make"]): Variant => ({
    cause,
    what,
    make,
  });
  return [
    ...again.map(({ what, make }) =>
      of(
        "rope-scaling",
        `keys are turned again on their way into the cache (${what}), as by positions times 2`,
        () => stored(operation, make()),
      )
    ),
    ...exchanged.map(([what, order]) =>
      of("cache-slot", what, () => inOrder(output, order, output.length / order.length))
    ),
    of(
      "rounded",
      `numbers are kept in 8 bits, in blocks of ${BLOCK} with an f16 each`,
      () => inBlocks(output),
    ),
  ];
}

/** Blocks of 8 bits whose steps are f16 (ggml's Q8_0). */
function inBlocks(x: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += BLOCK) {
    const block = x.subarray(at, at + BLOCK);
    const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const step = Math.f16round(largest / 127);
    out.set(step > 0 ? block.map((value) => Math.round(value / step) * step) : block, at);
  }
  return out;
}

/** Faults that would show behind a cache that is not shown. */
function suspectedSlots({ inputs: [x], output, pass: { start }, step }: Operation): Variant[] {
  const { columns } = step.constants;
  const first = start * columns;
  const variant = (what: string, change: (cache: Float32Array) => void): Variant => ({
    cause: "cache-slot",
    what,
    make() {
      const cache = output.slice();
      change(cache);
      return cache;
    },
  });
  const shifted = [-1, 1].map((by) =>
    variant(`slots are off by ${by}`, (cache) => {
      const from = Math.max(0, -first - by * columns);
      const at = Math.max(0, first + by * columns);
      cache.fill(0, first);
      cache.set(x.subarray(from, from + Math.max(0, cache.length - at)), at);
    })
  );
  if (start === 0) return shifted;
  return [
    variant("the newest slot is not written", (cache) => cache.fill(0, first)),
    variant(
      "the newest slot holds what the one before it does",
      (cache) => cache.copyWithin(first, first - columns, first),
    ),
    variant(
      "the newest position is written into the slot before it too",
      (cache) => cache.copyWithin(first - columns, first, first + columns),
    ),
    ...shifted,
  ];
}

/** Where the numbers of a wrong slot come from. */
interface Source {
  readonly numbers: Float32Array;
  /** `position 7's numbers`; undefined for numbers that are nobody's. */
  readonly what?: string;
  /** Whose slot's they are, in the same cache. */
  readonly position?: number;
}

/** Reads off a cache what its wrong slots hold; nothing where one of them holds what nobody wrote. */
function measuredSlots(operation: Operation, target: Float32Array): Variant[] {
  const { output, pass: { start }, step, name } = operation;
  const { columns } = step.constants;
  const { tolerance, relative } = localAllowance(name);
  const rows = (x: ArrayLike<number> & { subarray(from: number, to: number): Float32Array }) =>
    Array.from(
      { length: x.length / columns },
      (_, slot) => x.subarray(slot * columns, (slot + 1) * columns),
    );
  const [right, shown] = [rows(output), rows(target)];
  const isSame = (a: Float32Array, b: Float32Array) => {
    let largest = 0;
    for (const value of a) largest = Math.max(largest, Math.abs(value));
    return a.every((value, i) => Math.abs(value - b[i]) <= tolerance + relative * largest);
  };
  const wrong = right.flatMap((row, slot) => isSame(shown[slot], row) ? [] : [slot]);
  if (wrong.length === 0) return [];

  const shift = shiftOf(wrong, (slot, by) => {
    const from = right[slot - by];
    return from !== undefined && isSame(shown[slot], from);
  });
  const others = otherTensors(operation).map(([what, data]) => [what, rows(data)] as const);
  const sourceOf = (slot: number): Source | undefined => {
    const own = shown[slot];
    if (own.every((value) => value === 0)) return { numbers: own, what: "zeros" };
    const position = shift === undefined
      // The newest position is the likeliest.
      ? right.findLastIndex((row) => isSame(own, row))
      : slot - shift;
    if (position >= 0) {
      return { numbers: right[position], what: `position ${position}'s numbers`, position };
    }
    for (const [what, theirs] of others) {
      const found = theirs.find((row) => isSame(own, row));
      if (found) return { numbers: found, what: `numbers of ${what}` };
    }
    return slot < start ? { numbers: own } : undefined;
  };
  const sources = wrong.map(sourceOf);
  if (!sources.every((source) => source !== undefined)) return [];
  return [{
    cause: "cache-slot",
    what: shift === undefined ? slotsText(wrong, sources, start) : `slots are off by ${shift}`,
    make() {
      const cache = output.slice();
      wrong.forEach((slot, i) => cache.set(sources[i].numbers, slot * columns));
      return cache;
    },
  }];
}

/** By how much several slots are off, all of them alike. */
function shiftOf(
  wrong: readonly number[],
  isShifted: (slot: number, by: number) => boolean,
): number | undefined {
  if (wrong.length < 2) return undefined;
  for (let by = 1; by <= wrong.at(-1)! + 1; by++) {
    for (const each of [by, -by]) if (wrong.every((slot) => isShifted(slot, each))) return each;
  }
  return undefined;
}

/** What else of the pass could have gone into a cache: other layers' keys or values, the other cache's, keys before RoPE. */
function otherTensors(
  { name, shown, output, step }: Operation,
): [name: string, data: Float32Array][] {
  const [{ name: written }] = step.inputs;
  const layer = layerOf(name);
  const mayHold = (point: string) =>
    isCache(point) ? layerOf(point) !== layer || point !== name : /\.(k|k_rope|v)$/.test(point);
  return [...shown].flatMap(([point, { shape, data }]) => {
    const isOwn = point === written;
    const width = sizeOf(shape.slice(1));
    if (!mayHold(point) || isOwn || output.length % width !== 0) return [];
    return [[point, Float32Array.from(data)]];
  });
}

function slotsText(
  wrong: readonly number[],
  sources: readonly Source[],
  start: number,
): string {
  const range = wrong.length === 1
    ? `slot ${wrong[0]}`
    : wrong.at(-1)! - wrong[0] === wrong.length - 1
    ? `slots ${wrong[0]} to ${wrong.at(-1)}`
    : `${wrong.length} slots from ${wrong[0]} on`;
  const [{ what }] = sources;
  const isAlike = sources.every((source) => source.what === what);
  if (isAlike && what === undefined) {
    return `${range} changed after ${wrong.length === 1 ? "it was" : "they were"} written`;
  }
  if (isAlike && what === "zeros") {
    return wrong[0] < start ? `${range} became zero` : `nothing is written into ${range}`;
  }
  const text = ({ what, position }: Source, i: number) => {
    const isOverwritten = wrong[i] < start && (position ?? 0) >= start;
    if (isOverwritten) return `slot ${wrong[i]} is overwritten by position ${position}`;
    return what
      ? `slot ${wrong[i]} holds ${what}`
      : `slot ${wrong[i]} changed after it was written`;
  };
  const named = sources.slice(0, MOST_NAMED).map(text);
  const more = wrong.length - named.length;
  return `${named.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}
