/**
 * The local verdict's own side: every step of a pass computed by our kernels from a reference's inputs. What the reference does not
 * show is computed from what it does, so that the chain behind a shown value begins at the last shown ones; and no error is
 * inherited.
 */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import type { Engine } from "../../engine/backend.ts";
import type { HostTensor } from "../../engine/host_tensor.ts";
import { maskFinitely } from "../../inspect/points/visible_keys.ts";
import { planValues, type Step } from "../../engine/plan/plan.ts";
import { type Cache, isCache } from "./cache.ts";
import { type Difference, isAttention } from "./compare.ts";
import { isCompared } from "./contract.ts";
import type { Provenance, ReferencePass, ReferenceTensor } from "../references/reference.ts";

/** A point that was computed locally: its rows `first` to `first + rows` of the pass. */
export interface LocalValue {
  readonly point: string;
  readonly ours: HostTensor;
  /** The reference's rows, of the same shape. */
  readonly reference: ReferenceTensor;
  /** Absolute position of the first row. */
  readonly start: number;
  /** What the step read, as the reference has it; undefined where that was computed here. */
  readonly step: Step;
  /** The steps before it whose outcomes the reference does not show, in the order of computation: what they made, this one read. */
  readonly hidden?: readonly Step[];
  /** Whether `ours` is not what our kernels make of our weights, but what something else would make that is tried out. */
  readonly supposed?: boolean;
}

/** Judges one operation's outcome; `pass` has what the reference shows of its inputs. */
export type Judge = (value: LocalValue, pass: ReferencePass) => Difference | Promise<Difference>;

/** Read-backs in flight, in bytes. */
const IN_FLIGHT = 128 * 2 ** 20;

/**
 * Computes the points that a reference's pass shows, each from the reference's own inputs, and hands them over one after the other in
 * the order of computation.
 *
 * @param pass with the cache before it; a point that needs a cache which is not there is left out
 * @param layers first and last layer, to bound memory; all without it
 * @param capacity positions that the whole run has room for, which LongRoPE's factors depend on
 */
export async function* localValues(
  engine: Engine,
  pass: ReferencePass,
  rope: Provenance["rope"],
  layers: readonly [first: number, last: number] = [0, engine.config.layers - 1],
  capacity = pass.start + pass.ids.length,
): AsyncGenerator<LocalValue> {
  const { ids, start } = pass;
  const cache: Cache = start === 0 ? new Map() : pass.before ?? new Map();
  const shown = [...pass.tensors.keys()].filter((point) => inLayers(point, layers, engine));
  const passes = { points: shown, stepwise: true };
  const session = engine.session({ capacity, passes, ropeBuilder: rope });
  try {
    const previous = `blk.${layers[0] - 1}.out`;
    const resumes = layers[0] > 0 && pass.tensors.has(previous);
    session.restore(start, cache);
    for (let at = 0; at < ids.length; at += session.maxTokens) {
      const count = Math.min(session.maxTokens, ids.length - at);
      const part = (point: string) => rowsOf(point, pass.tensors.get(point)!, start, at, count);
      const given = resumes
        ? new Map([[previous, Float32Array.from(part(previous).data)]])
        : new Map<string, Float32Array>();
      const steps = session.steps({
        ids: ids.slice(at, at + count),
        rows: count,
        wanted: shown,
        given,
      });
      try {
        let reading:
          (Pick<LocalValue, "point" | "step" | "hidden"> & { value: Promise<HostTensor> })[] = [];
        let bytes = 0;
        // Made of a cache whose earlier slots are not told: no verdict.
        const untold = new Set<string>();
        const hidden = new Map<string, readonly Step[]>();
        const arrived = async function* (): AsyncGenerator<LocalValue> {
          for (const { value, point, ...steps } of reading) {
            const reference = part(point);
            yield { point, ours: await value, reference, start: start + at, ...steps };
          }
          [reading, bytes] = [[], 0];
        };
        for (const [i, step] of steps.plan.entries()) {
          await steps.run(i, i + 1);
          const before = [
            ...new Set(step.inputs.flatMap(({ name }) => hidden.get(name) ?? [])),
          ];
          const isTold = step.inputs.every(({ name }) => !untold.has(name));
          for (const output of step.outputs) {
            if (!output) continue;
            const isOwn = isTold &&
              (output.kind !== "cache" || start === 0 || cache.has(output.name));
            if (!shown.includes(output.name)) {
              if (!isOwn) untold.add(output.name);
              hidden.set(output.name, [...before, step]);
              continue;
            }
            if (isOwn) {
              const value = steps.read(output.name);
              value.catch(() => {}); // it is awaited in its turn
              reading.push({ value, point: output.name, step, hidden: before });
            }
            // The steps after it read the reference's.
            const data = Float32Array.from(part(output.name).data);
            maskFinitely(kindOf(output.name), data);
            steps.write(output.name, data);
            bytes += data.length * 4;
          }
          if (bytes > IN_FLIGHT) yield* arrived();
        }
        yield* arrived();
        steps.finish();
      } finally {
        steps.dispose();
      }
    }
  } finally {
    session.dispose();
  }
}

/** Points outside of blocks belong to the ends: `token_embd` to the first layer, the rest to the last. */
function inLayers(
  point: string,
  [first, last]: readonly [number, number],
  engine: Engine,
): boolean {
  const layer = layerOf(point);
  if (layer !== undefined) return layer >= first && layer <= last;
  return point === "token_embd" ? first === 0 : last === engine.config.layers - 1;
}

/**
 * What a point was made of, and more: points of the same layer and the stream before it; at the ends all that is outside of blocks, and
 * the last block; of a cache what every layer writes.
 */
export function pointsAround(engine: Engine, point: string): string[] {
  const layer = layerOf(point);
  const near = layer ?? (point === "token_embd" ? 0 : engine.config.layers - 1);
  return [...planValues(engine.plan).keys()].filter((each) => {
    if (!isCompared(each)) return false;
    const other = layerOf(each);
    if (layer === undefined && other === undefined) return true;
    // A cache may hold another layer's numbers.
    if (isCache(point) && /^(k_rope|v)$/.test(kindOf(each))) return true;
    return other === near || each === `blk.${near - 1}.out` ||
      (near === 0 && each === "token_embd");
  });
}

/** Rows `at` to `at + count` of a tensor of a whole pass: of attention queries and the keys up to theirs; of the cache the slots. */
export function rowsOf(
  point: string,
  { shape, data }: ReferenceTensor,
  start: number,
  at: number,
  count: number,
): ReferenceTensor {
  if (isAttention(point)) {
    const [heads, rows, keys] = shape;
    const seen = start + at + count;
    if (at === 0 && count === rows && keys === seen) return { shape, data };
    const part = data.slice(0, heads * count * seen);
    for (let head = 0; head < heads; head++) {
      for (let row = 0; row < count; row++) {
        const from = (head * rows + at + row) * keys;
        part.set(data.subarray(from, from + seen), (head * count + row) * seen);
      }
    }
    return { shape: [heads, count, seen], data: part };
  }
  const width = sizeOf(shape.slice(1));
  if (isCache(point)) {
    const slots = start + at + count;
    return { shape: [slots, ...shape.slice(1)], data: data.subarray(0, slots * width) };
  }
  return {
    shape: [count, ...shape.slice(1)],
    data: data.subarray(at * width, (at + count) * width),
  };
}
