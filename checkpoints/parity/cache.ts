/** What the KV cache must hold: in every slot what the pass of its position wrote, from then on. */
import { sizeOf } from "../../base/shape.ts";
import type { Plan } from "../../engine/plan/plan.ts";
import type { ReferencePass, ReferenceTensor } from "../references/reference.ts";

/** Keys and values of the positions before a pass, by cache name: [positions, Hkv, d]. */
export type Cache = ReadonlyMap<string, Float32Array>;

/** Whether a point is a cache. */
export function isCache(point: string): boolean {
  return /\.cache_[kv]$/.test(point);
}

/** The points whose numbers a pass writes into caches, by cache: `k_rope` of most models, `v`. */
export function writtenInto(plan: Plan): ReadonlyMap<string, string> {
  const stores = plan.filter(({ operation }) => operation === "store");
  return new Map(stores.map(({ inputs: [x], outputs: [cache] }) => [cache!.name, x.name]));
}

/**
 * The cache before a pass, as the passes before it left it: of each slot what the last of them shows, or what was written into it
 * where its cache is not shown. Slots of passes between that are not shown are what this pass's own cache holds; where it shows none
 * and they are not told, the cache is left out.
 *
 * @param passes of the same side and prompt, in order
 * @param plan of the model
 */
export function cacheBefore(
  pass: ReferencePass,
  passes: readonly ReferencePass[],
  plan: Plan,
): Cache {
  const written = writtenInto(plan);
  const cache = new Map<string, Float32Array>();
  const earlier = passes.filter(({ start }) => start < pass.start);
  const isShown = (point: string) =>
    [pass, ...earlier].some(({ tensors }) =>
      tensors.has(point) || tensors.has(written.get(point)!)
    );
  const points = [...written.keys()].filter(isShown);
  for (const point of points) {
    const found: [slot: number, rows: ReferenceTensor][] = [];
    for (const each of earlier.toReversed()) {
      const shown = wholeCache(each, point);
      if (shown) {
        found.unshift([0, shown]);
        break;
      }
      const rows = each.tensors.get(written.get(point)!);
      if (rows && !rows.positions) found.unshift([each.start, rows]);
    }
    const own = wholeCache(pass, point);
    if (own) found.unshift([0, own]);
    const width = sizeOf(found[0]?.[1].shape.slice(1) ?? []);
    const slots = new Float32Array(pass.start * width);
    const isTold = new Array<boolean>(pass.start).fill(false);
    for (const [slot, { data }] of found) {
      const part = data.subarray(0, (pass.start - slot) * width);
      slots.set(part, slot * width);
      isTold.fill(true, slot, slot + part.length / width);
    }
    if (!isTold.includes(false)) cache.set(point, slots);
  }
  return cache;
}

/** A slot that is not what an earlier pass of the same side left in it, bit for bit. */
export interface ChangedSlot {
  readonly point: string;
  readonly slot: number;
  /** The earlier pass. */
  readonly since: number;
  readonly step: number;
}

/** The first slot of a pass that has changed since the last pass that shows it; undefined where none has. */
export function changedSlot(
  pass: ReferencePass,
  passes: readonly ReferencePass[],
): ChangedSlot | undefined {
  for (const point of [...pass.tensors.keys()].filter(isCache)) {
    const own = wholeCache(pass, point);
    const before = passes.findLast((each) => each.start < pass.start && wholeCache(each, point));
    if (!own || !before) continue;
    const { data } = wholeCache(before, point)!;
    const at = data.findIndex((value, i) => !Object.is(value, own.data[i]));
    if (at < 0) continue;
    const slot = Math.floor(at / sizeOf(own.shape.slice(1)));
    return { point, slot, since: before.step, step: pass.step };
  }
  return undefined;
}

/** A cache after a pass, where all its slots are shown. */
function wholeCache(
  { start, ids, tensors }: ReferencePass,
  point: string,
): ReferenceTensor | undefined {
  const shown = tensors.get(point);
  return shown?.shape[0] === start + ids.length ? shown : undefined;
}
