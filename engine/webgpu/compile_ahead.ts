/** Pipelines that are made while weights stream in, in the order in which the first prompt and the tokens after it use them. */
import { letEventsIn } from "../event_loop.ts";
import type { Weights } from "../model/weights.ts";
import type { Device } from "./device.ts";
import { type KnobsOf, stepKnobs, type UsedStep } from "./used_steps.ts";

/**
 * Makes the pipelines of some steps, one by one, and lets others work in between. Where the device refuses one or fails it stops without
 * a word: whoever runs it says which and why.
 */
export async function compileAhead(
  device: Device,
  weights: Weights<GPUBuffer>,
  steps: Iterable<UsedStep<GPUBuffer>>,
  knobsOf: KnobsOf,
  signal: AbortSignal,
): Promise<void> {
  const made = new Set<string>();
  for (const used of steps) {
    const { kernel, matrix, step: { constants } } = used;
    const knobs = stepKnobs(used, weights, device.knobs, knobsOf);
    const key = JSON.stringify([
      ...[kernel.name, matrix?.packing.name, knobs],
      kernel.overrides?.(knobs, constants),
    ]);
    if (made.has(key)) continue; // the same in another layer
    made.add(key);
    await letEventsIn();
    if (signal.aborted || device.failed) return;
    device.gpu.pushErrorScope("validation");
    device.pipeline(kernel, matrix?.packing, [], knobs, constants);
    const refused = await device.gpu.popErrorScope().catch(() => undefined);
    if (refused !== null) {
      device.forgetPipelines();
      return;
    }
  }
}
