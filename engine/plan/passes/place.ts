import { elementCount, type Lengths, type Plan, type Value } from "../plan.ts";

/** Which slot each of a plan's results lies in, and how many numbers each slot must hold. */
export interface Placement {
  readonly slots: readonly number[];
  readonly slotOf: ReadonlyMap<string, number>;
}

/**
 * Places results in slots by lifetime: a slot is free again after the last step that reads its value. Values in `kept`
 * stay to the end of the pass. A slot is a buffer of its own, since WebGPU forbids reading and writing one buffer in the
 * same dispatch.
 *
 * @param largest the largest lengths that the plan will be run with
 */
export function place(plan: Plan, largest: Lengths, kept: ReadonlySet<string>): Placement {
  const lastUse = new Map<string, number>();
  plan.forEach((step, i) => {
    for (const value of [...step.outputs, ...step.inputs]) if (value) lastUse.set(value.name, i);
  });

  const slots: number[] = [];
  const free = new Set<number>();
  const slotOf = new Map<string, number>();

  function take(value: Value): number {
    const size = elementCount(value.shape, largest);
    // A much larger slot is left for a value that needs it.
    const fitting = [...free].filter((slot) => slots[slot] >= size && slots[slot] <= 4 * size);
    const best = fitting.sort((a, b) => slots[a] - slots[b])[0] ?? slots.push(size) - 1;
    free.delete(best);
    return best;
  }

  plan.forEach((step, i) => {
    for (const output of step.outputs) {
      // A value that one of two steps makes, whichever is dispatched, has one slot.
      if (output?.kind === "result" && !slotOf.has(output.name)) {
        slotOf.set(output.name, take(output));
      }
    }
    for (const value of new Set([...step.inputs, ...step.outputs])) {
      if (value?.kind !== "result" || kept.has(value.name) || lastUse.get(value.name) !== i) {
        continue;
      }
      free.add(slotOf.get(value.name)!);
    }
  });
  return { slots, slotOf };
}
