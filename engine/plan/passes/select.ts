import type { Plan, Step } from "../plan.ts";

/**
 * Leaves out the steps that nobody needs: those whose outputs are neither wanted, nor read by a needed step, nor written
 * to the KV cache (which later passes read).
 *
 * @param given values that are handed in instead of being computed; then the cache is no reason to keep a step, because
 *   what lies before the given values does not run
 */
export function select(
  plan: Plan,
  wanted: ReadonlySet<string>,
  given: ReadonlySet<string> = new Set(),
): Plan {
  const needed = new Set(wanted);
  const kept: Step[] = [];
  for (const step of plan.toReversed()) {
    const outputs = step.outputs.filter((output) => output !== null);
    const isNeeded = outputs.some(({ kind, name }) =>
      (needed.has(name) && !given.has(name)) || (kind === "cache" && given.size === 0)
    );
    if (!isNeeded) continue;
    for (const input of step.inputs) needed.add(input.name);
    kept.push(step);
  }
  return kept.reverse();
}
