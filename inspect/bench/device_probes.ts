/** The probes of what a model runs on, whichever it is. */
import type { ProductShape } from "../../kernels/probes/probes.ts";
import type { Model } from "../run/model.ts";
import { cpuProbes } from "./cpu_probes.ts";
import { gpuProbes } from "./gpu_probes.ts";
import type { DeviceProbes } from "./probe.ts";

/**
 * The probes of a model's GPU, or of the processor where it runs on that; undefined where nothing runs probes.
 *
 * @param shapes of the products
 * @param bytes that the read probe reads, about
 */
export async function deviceProbes(
  { loaded: { device, engine } }: Model,
  shapes: readonly ProductShape[],
  bytes: number,
): Promise<DeviceProbes | undefined> {
  if (device) return gpuProbes(device, shapes, bytes);
  const processor = await engine.openProcessor?.();
  return processor && cpuProbes(processor, shapes, bytes);
}
