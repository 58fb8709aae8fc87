/** Pipelines that are made while weights stream in, in the order in which the first prompt and the tokens after it use them. */
import { letEventsIn } from "../event_loop.ts";
import { type Pair, pairName } from "./check/pairs.ts";
import type { Device } from "./device.ts";

/**
 * Makes the pipelines of some pairs, one by one, and lets others work in between. Where the device refuses one it stops without a word:
 * whoever runs it says which and why.
 *
 * @param pairs without taps, with the device's own knobs
 */
export async function compileAhead(
  device: Device,
  pairs: readonly Pair[],
  signal: AbortSignal,
): Promise<void> {
  for (const { kernel, form } of new Map(pairs.map((pair) => [pairName(pair), pair])).values()) {
    await letEventsIn();
    if (signal.aborted || device.failed) return;
    device.gpu.pushErrorScope("validation");
    device.pipeline(kernel, form, []);
    if (await device.gpu.popErrorScope()) {
      device.forgetPipelines();
      return;
    }
  }
}
